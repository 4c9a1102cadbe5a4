"""`galley serve` as operators see it: a real process on a loopback port."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner

from galley.cli import cli
from galley.cli.place import locked, locked_worker, prepare
from galley.core.errors import Invalid, Unavailable
from galley.engine.folders import SHARED
from galley.settings import Settings

GALLEY = str(Path(sys.executable).with_name("galley"))
LOGIN = b"username=ann%40example.org&password=wrong"


class Served:
    """A server, and what it has said so far."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self.errors = data.parent / "errors.log"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [GALLEY, "serve", "--data", str(data), "--port", "0", *options],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        found = re.fullmatch(r"Galley is ready at (https?://127\.0\.0\.1:(\d+))\n", ready)
        assert found, (ready, self.errors.read_text())
        self.url, self.port = found[1], int(found[2])

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(240)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path / "data")
    yield made
    made.stop()


def galley(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [GALLEY, *arguments], capture_output=True, text=True, check=False, timeout=240
    )


def test_first_start_neighbours_and_drain(served: Served) -> None:
    assert served.process.stdout is not None
    link = served.process.stdout.readline()
    token = re.search(rf"{served.url}/setup\?token=(gly_setup_\w+)", link)
    assert token
    with httpx2.Client(base_url=served.url, trust_env=False, timeout=240) as client:
        assert client.get("/readyz").status_code == 200
        assert client.get(f"/setup?token={token[1]}").status_code == 200

    taken = galley("serve", "--data", str(served.data.parent / "x"), "--port", str(served.port))
    assert taken.returncode == 1
    assert taken.stderr.startswith(f"Error: Port {served.port} is taken. Use --port N")
    second = galley("serve", "--data", str(served.data), "--port", str(served.port))
    assert second.returncode == 1
    assert f"(process {served.process.pid}) works with the folder" in second.stderr
    beside = galley("user", "add", "ann@example.org", "--data", str(served.data))
    assert beside.returncode == 0

    with socket.create_connection(("127.0.0.1", served.port), timeout=240) as slow:
        head = f"POST /v2/login HTTP/1.1\r\nHost: x\r\nContent-Length: {len(LOGIN)}\r\n\r\n"
        slow.sendall(head.encode() + LOGIN[:10])
        with httpx2.Client(base_url=served.url, trust_env=False, timeout=240) as client:
            assert client.get("/healthz").status_code == 200  # accepted after the slow one
        served.process.send_signal(signal.SIGTERM)
        _until_refused(served.port)
        slow.sendall(LOGIN[10:])
        answer = b""
        while chunk := slow.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert answer.endswith(b"Credentials are invalid")
    assert served.stop() == 0
    log = served.errors.read_text()
    assert token[1] not in log
    assert "Traceback" not in log

    again = Served(served.data)
    assert again.stop() == 0
    assert again.process.stdout is not None
    assert "/setup" not in again.errors.read_text()


def _until_refused(port: int) -> None:
    """Come back once nobody listens any more; the test's own time limit bounds it."""
    while True:
        with socket.socket() as probe:
            probe.settimeout(240)
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for loopback that signs itself, and its key."""
    import ipaddress
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "galley test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


def test_https(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    import ssl

    cert, key = certificate
    served = Served(tmp_path / "data", "--tls-cert", str(cert), "--tls-key", str(key))
    assert served.url.startswith("https://")
    trust = ssl.create_default_context(cafile=str(cert))
    with httpx2.Client(base_url=served.url, verify=trust, trust_env=False, timeout=240) as client:
        answer = client.get("/healthz")
    assert answer.json() == {"status": "alive"}
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert served.stop() == 0


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (("--host", "no-such-host.invalid"), "The host no-such-host.invalid cannot be found"),
        (("--host", "192.0.2.1", "--port", "0"), "192.0.2.1 is no address of this machine"),
        (("--trusted-proxy", "nonsense"), "nonsense is no network"),
        (("--external-url", "x"), "x cannot be the external address"),
    ],
)
def test_what_cannot_be_served(tmp_path: Path, options: tuple[str, ...], hint: str) -> None:
    failed = CliRunner().invoke(cli, ["serve", "--data", str(tmp_path), *options])
    assert failed.exit_code in {1, 2}
    assert hint in failed.stderr


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, command: str) -> None:
    (tmp_path / "notes.md").touch()
    failed = galley(command, "--data", str(tmp_path))
    assert failed.returncode == 1
    assert "is not empty (notes.md) and holds no Galley" in failed.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.md"]


def test_what_may_come_before_the_first_start(tmp_path: Path) -> None:
    data, shared = tmp_path / "data", tmp_path / "shared"
    data.mkdir()
    for name in SHARED:
        (shared / name).mkdir(parents=True)
        (data / name).symlink_to(shared / name)
    for name in ("lost+found", "environments"):
        (data / name).mkdir()
    for name in ("galley.log", "nohup.out", "galley.env"):
        (data / name).touch()
    for folder in (data / "tls" / "own", shared / "keys"):
        folder.mkdir(parents=True)
        (folder / "chain.pem").touch()
    (data / "keys").symlink_to(shared / "keys")
    certificate, key = data / "tls" / "own" / "chain.pem", data / "keys" / "chain.pem"
    (data / "galley.toml").write_text(f'tls_cert = "{certificate}"\ntls_key = "{key}"\n')
    assert galley("migrate", "--data", str(data)).returncode == 0
    prepare(Settings(data=data))  # a Galley by now
    assert (data / "galley.db").stat().st_mode & 0o077 == 0


def test_what_only_shares_a_name_with_a_setting_is_somebody_elses(tmp_path: Path) -> None:
    data, certificate = tmp_path / "data", tmp_path / "chain.pem"
    data.mkdir()
    (data / "chain.pem").touch()
    with pytest.raises(Invalid, match=r"is not empty \(chain\.pem\)"):
        prepare(Settings(data=data, tls_cert=certificate, tls_key=certificate))


def test_a_bad_key_is_told_before_anything_is_made(tmp_path: Path) -> None:
    data = tmp_path / "data"
    failed = subprocess.run(
        [GALLEY, "serve", "--data", str(data), "--port", "0"],
        env=os.environ | {"GALLEY_SECRET_KEY": "short"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert failed.returncode == 1
    assert "GALLEY_SECRET_KEY" in failed.stderr
    assert {path.name for path in data.iterdir()} == {"server.lock"}


def test_a_worker_of_the_same_name_and_folder_is_refused(tmp_path: Path) -> None:
    with locked_worker(tmp_path, "one"), locked_worker(tmp_path, "two"):
        refused = pytest.raises(Unavailable, match=rf"another --name.*kill {os.getpid()}")
        with refused, locked_worker(tmp_path, "one"):
            pass


def test_the_refusal_of_a_taken_folder_names_the_cure(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(Unavailable, match=f"kill {os.getpid()}"), locked(tmp_path):
            pass
        refused = pytest.raises(Unavailable, match="data folder of its own")
        with refused, locked(tmp_path, on_postgres=True):
            pass
