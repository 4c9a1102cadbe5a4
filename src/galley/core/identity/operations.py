"""What others use of identity, in one place."""

from galley.core.identity.actors import nobody, system_caller
from galley.core.identity.credentials import (
    caller_for_pair,
    caller_for_token,
    get_token,
    list_tokens,
    purge_ended,
    revoke_token,
    user_of,
)
from galley.core.identity.issuing import IssuedToken, issue_token
from galley.core.identity.rotation import rotate_token
from galley.core.identity.setup import check_setup_token, make_setup_token, redeem_setup_token
from galley.core.identity.sign_in import log_in
from galley.core.identity.users import (
    create_user,
    disable_user,
    enable_user,
    find_user,
    get_user,
    list_users,
    set_password,
    set_roles,
)
from galley.core.identity.uses import UseLog
from galley.core.identity.web_sessions import (
    caller_for_web_session,
    close_web_session,
    csrf_matches,
    csrf_token,
    get_web_session,
    list_web_sessions,
    open_web_session,
    purge_web_sessions,
)

__all__ = [
    "IssuedToken",
    "UseLog",
    "caller_for_pair",
    "caller_for_token",
    "caller_for_web_session",
    "check_setup_token",
    "close_web_session",
    "create_user",
    "csrf_matches",
    "csrf_token",
    "disable_user",
    "enable_user",
    "find_user",
    "get_token",
    "get_user",
    "get_web_session",
    "issue_token",
    "list_tokens",
    "list_users",
    "list_web_sessions",
    "log_in",
    "make_setup_token",
    "nobody",
    "open_web_session",
    "purge_ended",
    "purge_web_sessions",
    "redeem_setup_token",
    "revoke_token",
    "rotate_token",
    "set_password",
    "set_roles",
    "system_caller",
    "user_of",
]
