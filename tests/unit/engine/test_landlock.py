"""The kernel's wall around the compiler's child, tried by code that is inside already."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import galley
from galley.engine import compilechild, landlock

pytestmark = pytest.mark.skipif(landlock.version() == 0, reason="this kernel has no Landlock")


def confined(act: Callable[[], object], *folders: str) -> str:
    """What `act` raises in a process behind the wall; empty if it goes well."""
    wall = landlock.ReadOnly(folders)
    reading, writing = os.pipe()
    if os.fork() == 0:
        said = b"?"
        try:
            wall.put_up()
            act()
            said = b""
        except OSError as error:
            said = type(error).__name__.encode()
        finally:
            os.write(writing, said)
            os._exit(0)
    os.close(writing)
    os.wait()
    with os.fdopen(reading, "rb") as file:
        return file.read().decode()


def test_files_below_the_folders_are_read_and_nothing_else(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "file").write_text("x")
    here = str(inside)
    assert confined((inside / "file").read_text, here) == ""
    assert confined(lambda: list(inside.iterdir()), here) == ""
    assert confined((outside / "file").read_text, here) == "PermissionError"
    assert confined(lambda: list(outside.iterdir()), here) == "PermissionError"
    assert confined(lambda: (inside / "file").write_text("y"), here) == "PermissionError"
    assert confined((inside / "file").unlink, here) == "PermissionError"
    assert confined(lambda: os.execv("/bin/true", ["true"]), here) == "PermissionError"  # noqa: S606
    assert confined(Path("/proc/self/environ").read_bytes, here) == "PermissionError"


@pytest.mark.skipif(landlock.version() < 4, reason="this kernel's Landlock leaves TCP alone")
def test_nobody_is_called() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        assert confined(lambda: socket.create_connection(address, 5)) == "PermissionError"
    assert confined(lambda: socket.create_server(("127.0.0.1", 0))) == "PermissionError"


def test_the_compilers_child_is_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A template that broke out of its sandbox would read neither the ledger nor the key."""
    secret = tmp_path / "secret.key"
    secret.write_text("key")

    def broken_out(_text: str, _variables: object) -> str:
        try:
            return secret.read_text()
        except OSError as error:
            return type(error).__name__

    monkeypatch.setattr(compilechild.templating, "render_text", broken_out)
    assert render() == "PermissionError"
    monkeypatch.setattr(landlock.ReadOnly, "put_up", lambda _wall: None)
    assert render() == "key"


def render() -> str | None:
    """What a child of the compiler's child answers to a wish to render."""
    import mmap
    import struct

    import msgspec

    ours, theirs = socket.socketpair()
    memory = os.memfd_create("progress")
    os.ftruncate(memory, mmap.PAGESIZE)
    order = msgspec.msgpack.encode(compilechild.CompileOrder(act="render", text="x"))
    ours.sendall(struct.pack(">I", len(order)) + order)
    wall = landlock.ReadOnly(compilechild._pythons_own())
    with ours, theirs, socket.socket() as control:
        compilechild._fork(control, theirs.fileno(), memory, wall)
        os.wait()
        frame = ours.recv(65536)[8:]
    os.close(memory)
    return msgspec.msgpack.decode(frame, type=compilechild.CompileAnswer).text


def test_it_costs_little() -> None:
    """Making it is done once; putting it up is one system call for a forked process."""
    wall = landlock.ReadOnly(compilechild._pythons_own())
    reading, writing = os.pipe()
    if os.fork() == 0:
        begun = time.process_time()
        wall.put_up()
        os.write(writing, str(time.process_time() - begun).encode())
        os._exit(0)
    os.wait()
    assert float(os.read(reading, 100)) < 0.01
    os.close(reading)
    os.close(writing)


def test_galley_alone_is_read_below_any_folder_named_like_one_of_its_own(tmp_path: Path) -> None:
    above = tmp_path / "core" / "secret"
    above.mkdir(parents=True)
    package = Path(galley.__file__).parent
    (above / "galley").symlink_to(package)
    show = "from galley.engine import compilechild; print(*compilechild._pythons_own(), sep='\\n')"
    said = subprocess.run(
        [sys.executable, "-c", show],
        env={"PYTHONPATH": str(above)},
        capture_output=True,
        text=True,
        check=True,
    )
    own = said.stdout.splitlines()
    assert str(above / "galley") in own
    assert str(tmp_path) not in own


@pytest.mark.skipif(landlock.version() < 4, reason="this kernel's Landlock leaves TCP alone")
def test_what_the_wall_leaves_open_is_what_its_description_says(tmp_path: Path) -> None:
    """If this fails since the kernel closes more, correct the description and security.md."""
    place = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place)
        server.listen()
        with socket.socket(socket.AF_UNIX) as client:
            assert confined(lambda: client.connect(place)) == ""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        assert confined(lambda: client.sendto(b"x", ("127.0.0.1", 9))) == ""


def test_the_folder_that_a_server_is_started_in_is_not_among_pythons_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m` puts it first on the path, and it may well be the data folder."""
    monkeypatch.syspath_prepend(str(tmp_path))
    own = compilechild._pythons_own()
    assert str(tmp_path) not in own
    assert any(compilechild.__file__.startswith(f"{place}/engine") for place in own)
