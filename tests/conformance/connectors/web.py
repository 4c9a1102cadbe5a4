"""A small web server on loopback that keeps what is put there, for tests of HTTP."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USER = base64.b64encode(b"cook:pan").decode()


class Shelf(BaseHTTPRequestHandler):
    """Serves files from memory; some paths misbehave on purpose."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]
    seen: list[tuple[str, str, dict[str, str]]]

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _serve(self) -> None:
        body = self._body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen.append((self.command, self.path, headers))
        if self.path.startswith("/private") and headers.get("authorization") != f"Basic {USER}":
            self._answer(401)
        elif self.path == "/cut":
            self.send_response(200)
            self.send_header("content-length", "1000000")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
        elif self.path == "/busy":
            self._answer(503, b"later")
        elif self.path == "/moved":
            self._answer(302, location="/data.csv")
        elif self.path == "/loop":
            self._answer(302, location="/loop")
        elif self.path.startswith("/away/"):
            self._answer(302, location=self.path.removeprefix("/away/"))
        elif self.path == "/json":
            self._answer(200, b'{"rows": 3}', content_type="application/json")
        elif self.command in {"PUT", "POST"}:
            self.files[self.path] = body
            self._answer(201)
        elif self.path in self.files:
            self._answer(200, self.files[self.path])
        elif self.command == "HEAD":
            self._answer(200)
        else:
            self._answer(404)

    do_GET = do_PUT = do_POST = do_HEAD = _serve  # noqa: N815

    def log_message(self, *_args: object) -> None:
        """Keep quiet."""


class Web:
    """The running server: its address, its files, and the requests it saw."""

    def __init__(self, server: ThreadingHTTPServer, handler: type[Shelf]) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.port = server.server_port
        self.files = handler.files
        self.seen = handler.seen


@contextmanager
def web_server() -> Iterator[Web]:
    """Serve until the block ends."""
    handler = type("OwnShelf", (Shelf,), {"files": {}, "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Web(server, handler)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
