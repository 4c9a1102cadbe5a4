"""`galley serve`: the server, from its first start to its clean end."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galley.cli.common import data_option, load_settings, say
from galley.cli.place import locked, prepare
from galley.kit.files import write_atomically

if TYPE_CHECKING:
    from galley.app import Runtime
    from galley.settings import Settings

ADDRESS_NAME = "server.address"
"""Where the running server says how it is reached, for `galley connect`."""

_BACKLOG = 2048
_KEEP_ALIVE_S = 75


@click.command()
@data_option
@click.option("--host", help="The address to listen on (127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="The port (8080); 0: any free one.")
@click.option(
    "--tls-cert",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The certificate with its chain (PEM); the server then speaks https only.",
)
@click.option(
    "--tls-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The certificate's key (PEM).",
)
@click.option("--external-url", help="The address under which clients reach it, for links.")
@click.option(
    "--trusted-proxy",
    multiple=True,
    metavar="CIDR",
    help="A network of proxies whose X-Forwarded-* headers are believed; may be repeated.",
)
def serve(  # noqa: PLR0917 - click gives them by name
    data: Path,
    host: str | None,
    port: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    external_url: str | None,
    trusted_proxy: tuple[str, ...],
) -> None:
    """Run the server on a data folder, which is made on first use.

    Prints `Galley is ready at ...` when it takes requests, and on a fresh folder the link to set
    it up. SIGTERM and Ctrl+C let it finish what it has accepted. Further settings are GALLEY_*
    variables or stand in DATA/galley.toml.
    """
    settings = load_settings(
        data=data,
        host=host,
        port=port,
        tls_cert=tls_cert,
        tls_key=tls_key,
        external_url=external_url,
        trusted_proxies=trusted_proxy,
    )
    run(settings)


def run(settings: "Settings") -> None:
    """Serve until a signal ends it.

    Raises:
        click.ClickException: the port or the folder is taken, or the certificate does not load.
        Invalid: the folder is somebody else's.
    """
    prepare(settings)
    with (
        locked(settings.data, on_postgres=settings.database_url is not None),
        _bound(settings.host, settings.port) as listener,
    ):
        from galley.app import build
        from galley.wire.logging import configure_logging

        configure_logging(settings.log_level)
        runtime = build(settings)
        try:
            runtime.start()
            _serve(runtime, listener)
        finally:
            runtime.stop()


def _serve(runtime: "Runtime", listener: socket.socket) -> None:
    import uvicorn

    from galley.wire.protocol import guarded
    from galley.wire.server import Server, open_enough_files

    settings = runtime.settings
    limits = settings.limits
    config = uvicorn.Config(
        runtime.app,
        http=guarded(limits.header_s, limits.stream_stall_s),
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        limit_concurrency=open_enough_files(limits.connections),
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(limits.drain_s),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise click.ClickException(
            f"The certificate {settings.tls_cert} and its key {settings.tls_key} do not load:"
            f" {error}. Both must be PEM files that belong together."
        ) from error
    port = listener.getsockname()[1]
    server = Server(config, limits.handlers, lambda: _announce(runtime, port), runtime.drain)
    server.run(sockets=[listener])


def _announce(runtime: "Runtime", port: int) -> None:
    """The line that scripts wait for, and the set-up link of a fresh account."""
    from galley.app.addresses import address_of
    from galley.core.identity import operations as identity

    settings = runtime.settings
    own = settings.model_copy(update={"external_url": None})
    with runtime.services.database.writing() as session:
        setup = identity.make_setup_token(session, runtime.services.clock)
    shown = (settings.external_url or address_of(own, port)).encode()
    write_atomically(settings.data / ADDRESS_NAME, shown, durable=False)
    say(f"Galley is ready at {address_of(own, port)}")
    if setup is not None:
        link = f"{address_of(settings, port)}/setup?token={setup}"
        say(f"Set it up (this link works once, for a day): {link}")


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket.

    Raises:
        click.ClickException: that cannot be; the message names the cure.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise click.ClickException(
            f"The host {host} cannot be found. Use --host 127.0.0.1 for this machine alone,"
            " or 0.0.0.0 for every network."
        ) from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise click.ClickException(_bind_fault(error, host, port)) from error
    with listener:
        yield listener


def _bind_fault(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is taken. Use --port N to listen on another one (0: any free one)."
    if error.errno == errno.EACCES:
        return f"Port {port} is for the system's own services. Use --port N with N above 1023."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine. Use --host 127.0.0.1 or 0.0.0.0."
    return f"Cannot listen on {host}:{port}: {error.strerror}."
