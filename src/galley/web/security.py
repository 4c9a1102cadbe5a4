"""What keeps a browser's session its owner's: cookies, origins, safe redirects."""

import ipaddress
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

SESSION_LIFETIME_S = 7 * 24 * 3600
SECURE_COOKIE = "__Host-galley"
PLAIN_COOKIE = "galley"
CONTENT_POLICY = (
    "default-src 'self'; script-src 'self'; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'"
)
FILE_POLICY = "sandbox; default-src 'none'"
_SAME = frozenset({"same-origin", "none"})
_PATH_LIMIT = 2048


def is_https(request: Request, external_url: str | None = None) -> bool:
    """Whether the browser speaks https with us, directly or by the proxy of `external_url`."""
    if request.url.scheme == "https":
        return True
    if external_url is None or not external_url.startswith("https://"):
        return False
    return urlsplit(external_url).netloc.lower() == _host(request)


def is_loopback(request: Request) -> bool:
    """Whether the browser called a name of its own machine, so that nothing crosses a network."""
    name = request.url.hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def insecure_notice(request: Request, external_url: str | None = None) -> str:
    """Why nobody can sign in over this connection and what to do, or nothing when it is fine."""
    if is_https(request, external_url) or is_loopback(request):
        return ""
    return (
        "Signing in is only possible over https, or from the server itself at http://127.0.0.1. "
        "Start Galley with --tls-cert and --tls-key, or put a proxy with TLS before it and "
        "name the proxy with --trusted-proxy."
    )


def cookie_name(request: Request, external_url: str | None = None) -> str:
    """The session cookie's name: bound to host and https, or the plain one on http loopback."""
    return SECURE_COOKIE if is_https(request, external_url) else PLAIN_COOKIE


def read_cookie(request: Request, external_url: str | None = None) -> str | None:
    """The session cookie's text, of exactly the name that this connection calls for."""
    return request.cookies.get(cookie_name(request, external_url))


def set_cookie(
    response: Response, request: Request, text: str, external_url: str | None = None
) -> None:
    """Hand the browser its session for at most seven days."""
    response.set_cookie(
        cookie_name(request, external_url),
        text,
        max_age=SESSION_LIFETIME_S,
        path="/",
        secure=is_https(request, external_url),
        httponly=True,
        samesite="lax",
    )


def clear_cookie(response: Response, request: Request, external_url: str | None = None) -> None:
    """Make the browser forget its session."""
    response.delete_cookie(
        cookie_name(request, external_url),
        path="/",
        secure=is_https(request, external_url),
        httponly=True,
        samesite="lax",
    )


def is_same_origin(request: Request, external_url: str | None = None) -> bool:
    """Whether a page of ours made this request. Silence about the origin counts as no.

    Browsers send `Sec-Fetch-Site` over https and loopback, and `Origin` with every post.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None and site not in _SAME:
        return False
    origin = request.headers.get("origin")
    if origin is None:
        return site == "same-origin"
    parts = urlsplit(origin)
    own = {_host(request)}
    if external_url:
        own.add(urlsplit(external_url).netloc.lower())
    return parts.scheme in {"http", "https"} and parts.netloc.lower() in own


def local_path(text: str, otherwise: str = "/runs") -> str:
    """The path, if it leads to a page of this server and nowhere else; else `otherwise`."""
    is_plain = text.isascii() and text.isprintable() and "\\" not in text
    if not is_plain or len(text) > _PATH_LIMIT:
        return otherwise
    if not text.startswith("/") or text.startswith("//"):
        return otherwise
    parts = urlsplit(text)
    if parts.scheme or parts.netloc or parts.path.startswith(("/sign-", "/setup")):
        return otherwise
    return text


def _host(request: Request) -> str:
    return request.headers.get("host", "").lower()
