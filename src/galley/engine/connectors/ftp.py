"""Files on an FTP server, plain or with TLS (FTPS, RFC 4217). Source: contract 2.7."""

import ftplib
import posixpath
import socket
import ssl
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from galley.core.errors import GalleyError, Unavailable
from galley.core.recipes.spec import KeySpec
from galley.engine.connectors.base import Batch, Place, Result
from galley.engine.connectors.file import STORE, fetched, shaped
from galley.engine.connectors.wildcards import Wildcard
from galley.engine.faults import StepError
from galley.engine.outbound import Gate

_PORT = 21
_TIMEOUT_S = 60.0
_CHUNK_BYTES = 256 * 1024
_NOT_LOGGED_IN = "530"
_NO_SUCH_FILE = "550"
_NO_FOLDER = ("501", "550")
_UNKNOWN_COMMAND = ("500", "502", "504")


class FtpConnector:
    """Reads and writes files.

    Configuration: `hostname`; `port` (21); `username` (anonymous) and `password`; `tls` true for
    FTPS. Options of a key: `delimiter`, `encoding` (CSV), `null`.
    """

    capabilities = STORE

    def __init__(self, place: Place) -> None:
        self._place = place
        self._gate = Gate(place.outbound)

    def test(self, config: dict[str, Any]) -> None:
        """The server lets us in."""
        with self._session(config):
            pass

    def keys(self, config: dict[str, Any], pattern: str) -> list[str]:
        """The paths that match; `*` stays within a folder, `**` crosses folders."""
        wildcard = Wildcard(pattern.removeprefix("/"))
        root = "/" if pattern.startswith("/") else ""
        with self._session(config) as server:
            paths = _walk(server, root + wildcard.folder, wildcard.is_deep)
            return [root + one for one in wildcard.chosen(p.removeprefix(root) for p in paths)]

    def read(self, config: dict[str, Any], key: KeySpec, into: Path) -> Batch:
        """Fetch the file; its format comes from the key, or from its name."""
        path = _path(key)
        target = into / "content"
        with self._session(config, path) as server, target.open("xb") as file:
            server.retrbinary(f"RETR {path}", file.write, _CHUNK_BYTES)
        return fetched(target, path, key)

    def write(self, config: dict[str, Any], key: KeySpec, batch: Batch) -> Batch:
        """Put the batch beside its place and rename it: the file is there whole, or as it was."""
        path = _path(key)
        written = shaped(self._place, batch, key, path)
        folder, name = posixpath.split(path)
        beside = posixpath.join(folder, f".{name}.{uuid.uuid4().hex}")
        with self._session(config, path) as server, written.path.open("rb") as file:
            _make_folders(server, folder)
            try:
                server.storbinary(f"STOR {beside}", file, _CHUNK_BYTES)
                server.rename(beside, path)
            except BaseException:
                with suppress(*ftplib.all_errors):
                    server.delete(beside)
                raise
        return written

    def run(self, config: dict[str, Any], key: KeySpec) -> Result:
        """Refuse: files have nothing to run."""
        del config
        raise StepError(f"The operation {key.operation} does not go with FTP.")

    @contextmanager
    def _session(self, config: dict[str, Any], path: str = "") -> Iterator[ftplib.FTP]:
        """A connection that is signed in; what goes wrong on it is put into words.

        Raises:
            StepError: the server cannot be reached, or refuses; `retryable` where it may not later.
        """
        host = str(config.get("hostname") or config.get("host") or "").strip()
        server = _server(config)
        try:
            port = int(config.get("port") or _PORT)
            if not host:
                raise StepError("The configuration names no server; give it a `hostname`.")
            server.connect_to(list(map(str, self._gate.addresses(host, port))), host, port)
            server.login(str(config.get("username") or ""), str(config.get("password") or ""))
            if isinstance(server, _Secure):
                server.prot_p()
            yield server
        except ssl.SSLCertVerificationError as error:
            raise StepError(
                f"The certificate of {host} is not good: {error.verify_message}."
            ) from error
        except ValueError as error:
            raise StepError(f"{error}. Check `port` and the paths.") from error
        except GalleyError as error:
            if isinstance(error, StepError):
                raise
            raise StepError(error.message, retryable=isinstance(error, Unavailable)) from error
        except ftplib.error_perm as error:
            raise StepError(_refusal(host, path, str(error))) from error
        except (ftplib.Error, OSError, EOFError) as error:
            raise StepError(
                f"The FTP server {host} could not be called: {error or type(error).__name__}."
                " Check `hostname` and `port`, or try again later.",
                retryable=True,
            ) from error
        finally:
            server.close()


class _Plain(ftplib.FTP):
    """A connection to an address that was checked, under the server's name."""

    def connect_to(self, addresses: Sequence[str], host: str, port: int) -> None:
        """Connect to the first of `addresses` that answers; certificates are those of `host`.

        Raises:
            OSError: none answers; what the last one said.
        """
        *others, last = addresses
        for address in others:
            with suppress(OSError):
                self.sock = socket.create_connection((address, port), _TIMEOUT_S)
                break
        else:
            self.sock = socket.create_connection((last, port), _TIMEOUT_S)
        self.host, self.port, self.timeout = host, port, _TIMEOUT_S
        self.af = self.sock.family
        self.file = self.sock.makefile("r", encoding=self.encoding)
        self.welcome = self.getresp()


class _Secure(_Plain, ftplib.FTP_TLS):
    """The same with TLS; data goes on in the session of the control connection, as servers want."""

    def ntransfercmd(
        self, cmd: str, rest: int | str | None = None
    ) -> tuple[socket.socket, int | None]:
        """Open a data connection for a command."""
        made, size = ftplib.FTP.ntransfercmd(self, cmd, rest)  # noqa: S321 (secured below)
        session = getattr(self.sock, "session", None)
        context: ssl.SSLContext = self.context
        return context.wrap_socket(made, server_hostname=self.host, session=session), size


def _server(config: dict[str, Any]) -> "_Plain":
    if str(config.get("tls")).lower() == "true":
        return _Secure(context=ssl.create_default_context())
    return _Plain()


def _path(key: KeySpec) -> str:
    """The file's path.

    Raises:
        StepError: the step's key names none.
    """
    path = key.path or ""
    if not path.strip("/") or any(part in {".", ".."} for part in path.split("/")):
        raise StepError(f"{path!r} names no file; give the key a `file-key`.")
    return path


def _make_folders(server: ftplib.FTP, folder: str) -> None:
    """Make the folders of a path, those that are not there."""
    made = "/" if folder.startswith("/") else ""
    for part in folder.strip("/").split("/"):
        made = posixpath.join(made, part)
        if part:
            with suppress(ftplib.error_perm):  # it is there; else the writing tells
                server.mkd(made)


def _walk(server: ftplib.FTP, folder: str, is_deep: bool) -> Iterator[str]:
    """The paths of the files in a folder, and with `is_deep` of all below it."""
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        for name, kind in _entries(server, place):
            path = posixpath.join(place, name)
            if kind == "file":
                yield path
            elif kind == "dir" and is_deep:
                waiting.append(path)


def _entries(server: ftplib.FTP, place: str) -> list[tuple[str, str]]:
    """Names and kinds (`file`, `dir`, others) of what is in a folder; none if there is none."""
    try:
        found = [(name, facts.get("type", "")) for name, facts in server.mlsd(place)]
    except ftplib.error_perm as error:
        if str(error).startswith(_UNKNOWN_COMMAND):
            return _plain_entries(server, place)
        if str(error).startswith(_NO_FOLDER):
            return []
        raise
    return found


def _plain_entries(server: ftplib.FTP, place: str) -> list[tuple[str, str]]:
    """The same of a server that knows names only: what has a size is a file (RFC 3659)."""
    try:
        paths = server.nlst(place) if place else server.nlst()
    except ftplib.error_perm as error:
        if str(error).startswith(_NO_FOLDER):
            return []
        raise
    server.voidcmd("TYPE I")
    names = [posixpath.basename(path) for path in paths]
    return [(name, _kind(server, posixpath.join(place, name))) for name in names]


def _kind(server: ftplib.FTP, path: str) -> str:
    try:
        server.size(path)
    except ftplib.error_perm as error:
        if str(error).startswith(_UNKNOWN_COMMAND):
            raise StepError(
                "This FTP server does not tell files from folders (it knows neither MLSD nor SIZE),"
                " so a wildcard cannot be used; name the keys."
            ) from error
        return "dir"
    return "file"


def _refusal(host: str, path: str, said: str) -> str:
    said = said.rstrip(". ")
    if said.startswith(_NOT_LOGGED_IN):
        return f"The FTP server {host} did not let us in ({said}). Check `username` and `password`."
    if said.startswith(_NO_SUCH_FILE) and path:
        return f"The FTP server {host} has no usable file {path} ({said}). Check `file-key`."
    return f"The FTP server {host} refused: {said}. Check the configuration and the paths."
