"""Who may be called as a Postgres server, and how: by a checked address, as the recipe says alone.

libpq fills in what it is not told from the environment and the files of the user that runs it.
Here that user is Galley's, so nothing of the kind may count.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from galley.core.errors import GalleyError, Unavailable
from galley.engine.connectors import tables
from galley.engine.connectors.base import Place
from galley.engine.faults import StepError, told
from galley.engine.outbound import Gate

if TYPE_CHECKING:
    import psycopg

LEDGER_TABLES = ("account_user", "alembic_version", "kitchen", "login_failure", "setup_token")
"""Tables that stand side by side in a Galley's own database, and in no other."""

_CONNECT_S = 15
_PORT = 5432
_HIGHEST_PORT = 65535
_NOT_A_HOST = ("/", "@", ",", "\\", "\0")
_NOBODYS_FILES = {
    "passfile": "/dev/null/none",
    "sslcertmode": "disable",
    "gssencmode": "disable",
    "require_auth": "!gss,!sspi",
}


def connect(
    place: Place, config: dict[str, Any], options: dict[str, Any]
) -> tuple[str, "psycopg.Connection[Any]"]:
    """The server's name and a connection to it, in no transaction yet.

    Raises:
        StepError: it may not be called, lets us not in, or is Galley's own database.
    """
    try:
        import psycopg
    except ImportError as error:
        raise StepError(
            "Postgres needs the extra `postgres`: an administrator installs"
            " galley-server[postgres]."
        ) from error
    host = _host(config)
    where = _where(place, config, host)
    try:
        with _no_environment():
            connection = psycopg.connect(
                **where, options=_settings(config, options), autocommit=True
            )
        _refuse_ledgers(connection, host)
        connection.autocommit = False
    except (psycopg.Error, ValueError, TypeError) as error:
        raise StepError(
            f"Postgres at {host} let us not in: {told(error)}. Check hostname, port, database,"
            " username and password.",
            retryable="authentication" not in str(error),
        ) from error
    return host, connection


def _host(config: dict[str, Any]) -> str:
    host = str(config.get("hostname") or config.get("host") or "").strip()
    if not host:
        raise StepError("The configuration names no server; give it a `hostname`.")
    if any(mark in host for mark in _NOT_A_HOST):
        raise StepError(
            f"{host!r} is not the name of one server; `hostname` takes a name or an address, no"
            " folder of a socket and no list."
        )
    return host


def _where(place: Place, config: dict[str, Any], host: str) -> dict[str, Any]:
    """What libpq needs to reach the server: everything that it would look for elsewhere."""
    user = str(config.get("username") or config.get("user") or "")
    if not user:
        raise StepError("The configuration names no user of the server; give it a `username`.")
    port = _port(config)
    addresses = _addresses(place, host, port)
    return {
        "host": ",".join([host] * len(addresses)),
        "hostaddr": ",".join(addresses),
        "port": port,
        "dbname": str(config.get("database") or user),
        "user": user,
        "password": str(config.get("password") or "") or None,
        "sslmode": str(config.get("sslmode") or "prefer"),
        "connect_timeout": int(config.get("connect-timeout-s") or _CONNECT_S),
        "client_encoding": "utf8",
        "keepalives_idle": 30,
        **_NOBODYS_FILES,
    }


def _port(config: dict[str, Any]) -> int:
    given = config.get("port") or _PORT
    try:
        port = int(given)
    except (ValueError, TypeError):
        port = 0
    if not 0 < port <= _HIGHEST_PORT:
        raise StepError(f"{given!r} is no port; `port` takes a number up to {_HIGHEST_PORT}.")
    return port


def _addresses(place: Place, host: str, port: int) -> list[str]:
    """The checked addresses, which are then the ones that are called."""
    try:
        return [str(address) for address in Gate(place.outbound).addresses(host, port)]
    except GalleyError as error:
        raise StepError(error.message, retryable=isinstance(error, Unavailable)) from error


def _settings(config: dict[str, Any], options: dict[str, Any]) -> str:
    settings = ["-c timezone=UTC", "-c datestyle=ISO", "-c intervalstyle=postgres"]
    if config.get("schema"):
        schema = tables.name(str(config["schema"])).replace("\\", "\\\\").replace(" ", "\\ ")
        settings.append(f"-c search_path={schema},public")
    if options.get("timeout-s"):
        settings.append(f"-c statement_timeout={int(float(options['timeout-s']) * 1000)}")
    return " ".join(settings)


@contextlib.contextmanager
def _no_environment() -> Iterator[None]:
    """No PG* variable counts while libpq gathers what it is to do."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PG")}
    try:
        yield
    finally:
        os.environ.update(kept)


def _refuse_ledgers(connection: "psycopg.Connection[Any]", host: str) -> None:
    """A ledger under any name or address is no place for recipes: it holds everybody's tokens."""
    found = connection.execute(
        "SELECT 1 FROM pg_catalog.pg_class WHERE relname = ANY(%s) AND relkind IN ('r', 'p')"
        " GROUP BY relnamespace HAVING count(*) = %s",
        [list(LEDGER_TABLES), len(LEDGER_TABLES)],
    ).fetchone()
    if found is not None:
        connection.close()
        raise StepError(
            f"The database at {host} is one that a Galley keeps its own books in, which recipes"
            " may not reach. Check `hostname` and `database`."
        )
