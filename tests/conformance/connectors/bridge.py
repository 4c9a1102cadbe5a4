"""Lets a server that has a Unix socket only be reached by TCP, as connectors reach theirs.

A process of its own: libpq may wait for its answer with the interpreter's lock held.
"""

import contextlib
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def bridge(path: str) -> Iterator[int]:
    """Gives the port of loopback that leads to the Unix socket `path`."""
    command = [sys.executable, __file__, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.terminate()


def _accept(listener: socket.socket, path: str) -> None:
    while True:
        here = listener.accept()[0]
        threading.Thread(target=_connect, args=(here, path), daemon=True).start()


def _connect(here: socket.socket, path: str) -> None:
    """Pass on what comes from either side until one of them ends."""
    with here, socket.socket(socket.AF_UNIX) as there, contextlib.suppress(OSError):
        there.connect(path)
        while True:
            for source in select.select([here, there], [], [])[0]:
                part = source.recv(65536)
                if not part:
                    return
                (there if source is here else here).sendall(part)


if __name__ == "__main__":
    made = socket.create_server(("127.0.0.1", 0))
    print(made.getsockname()[1], flush=True)
    threading.Thread(target=_accept, args=(made, sys.argv[1]), daemon=True).start()
    sys.stdin.read()  # until whoever started this ends
