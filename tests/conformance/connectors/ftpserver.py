"""An FTP server in this process (pyftpdlib), with TLS if wished."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it stands on asyncore
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
    from pyftpdlib.ioloop import IOLoop
    from pyftpdlib.servers import FTPServer

USER, PASSWORD = "ann", "sesame"


@dataclass
class Ftp:
    """A running server: how to reach it, and the folder that it serves."""

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)


@contextmanager
def ftp_server(
    folder: Path, secrets: tuple[Path, Path] | None = None, *, without: tuple[str, ...] = ()
) -> Iterator[Ftp]:
    """Serve a folder on a free port of loopback; with a certificate and its key TLS is demanded;
    the server does not know the commands `without`."""
    folder.mkdir()
    authorizer = DummyAuthorizer()
    authorizer.add_user(USER, PASSWORD, str(folder), perm="elradfmwMT")
    members: dict[str, Any] = {"authorizer": authorizer, "use_gmt_times": True}
    base = FTPHandler
    if secrets is not None:
        base = TLS_FTPHandler
        members |= {
            "certfile": str(secrets[0]),
            "keyfile": str(secrets[1]),
            "tls_control_required": True,
            "tls_data_required": True,
        }
    known = base.proto_cmds.items()
    members["proto_cmds"] = {name: what for name, what in known if name not in without}
    loop = IOLoop()
    server = FTPServer(("127.0.0.1", 0), type("Handler", (base,), members), ioloop=loop)
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            loop.loop(timeout=0.02, blocking=False)
        server.close_all()

    thread = threading.Thread(target=serve)
    thread.start()
    config = {"hostname": "127.0.0.1", "port": server.address[1]}
    try:
        yield Ftp(folder, {**config, "username": USER, "password": PASSWORD})
    finally:
        over.set()
        thread.join()
