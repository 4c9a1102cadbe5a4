"""The commands beside the server: users, tokens, clients' settings, the parity page."""

import json
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from galley.app import open_store
from galley.cli import COMMANDS, cli, explain, parity
from galley.core.errors import Issue, Refused
from galley.core.identity import operations as identity
from galley.core.identity.models import Token, User
from galley.settings import Settings

PASSWORD = "correct-horse-7-battery"


def run(*arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(cli, list(arguments), input=given)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    assert run("migrate", "--data", str(folder)).exit_code == 0
    added = run(
        "user",
        "add",
        "ann@example.org",
        "--password-stdin",
        "--admin",
        "--data",
        str(folder),
        given=f"{PASSWORD}\n",
    )
    assert added.output == "Added the administrator ann@example.org.\n"
    return folder


def test_every_command_of_the_help_is_there() -> None:
    shown = run("--help")
    assert shown.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name}" in shown.output
        assert run(name, "--help").exit_code == 0
    assert run("--version").output.startswith("galley, version ")


def test_an_added_user_can_sign_in(data: Path) -> None:
    store = open_store(Settings(data=data))
    user = identity.log_in(
        store.database, login="Ann@example.org", password=PASSWORD, address=None, clock=store.clock
    )
    assert user.roles == {"admin", "member"}
    run("user", "add", "bob@example.org", "--name", "Bob", "--data", str(data))
    with store.database.reading() as session:
        bob = session.scalars(sa.select(User).where(User.login == "bob@example.org")).one()
    assert (bob.name, bob.roles, bob.password_hash) == ("Bob", {"member"}, None)
    store.database.close()


def test_a_datakitchen_token_is_a_pair_that_works(data: Path) -> None:
    made = run(
        "token",
        "add",
        "--user",
        "ann@example.org",
        "--kind",
        "datakitchen",
        "--scopes",
        "read,run",
        "--data",
        str(data),
    )
    key_id, secret = made.output.removesuffix("\n").split(":")
    store = open_store(Settings(data=data))
    with store.database.reading() as session:
        caller = identity.caller_for_pair(
            session, key_id, secret, accepts=frozenset({"pair"}), clock=store.clock
        )
        kept = session.scalars(sa.select(Token)).one()
    assert caller.login == "ann@example.org"
    assert caller.scopes == {"read", "run"}
    assert secret not in kept.digest
    store.database.close()


@pytest.mark.parametrize("kind", ["personal", "trigger", "apinode-admin", "opendatasoft"])
def test_a_token_that_nothing_takes_is_not_made(data: Path, kind: str) -> None:
    refused = run("token", "add", "--user", "ann@example.org", "--kind", kind, "--data", str(data))
    assert refused.exit_code == 2
    assert "not built yet" in refused.stderr
    assert refused.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("user", "add", "nonsense"), "is not an e-mail address"),
        (("user", "add", "ann@example.org"), "already a user"),
        (("token", "add", "--user", "eve@example.org", "--kind", "datakitchen"), "no user eve"),
        (
            ("token", "add", "--user", "ann@example.org", "--kind", "datakitchen", "--scopes", "x"),
            "Unknown scope x",
        ),
    ],
)
def test_mistakes_are_explained(data: Path, arguments: tuple[str, ...], hint: str) -> None:
    failed = run(*arguments, "--data", str(data))
    assert failed.exit_code == 1
    assert isinstance(failed.exception, Exception)
    assert hint in (explain(failed.exception) or "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("user", "add", "ann@example.org"),
        ("token", "add", "--user", "ann@example.org", "--kind", "datakitchen"),
        ("secret", "list"),
        ("webhook-key",),
        ("backup", "saved"),
        ("migrate", "--check"),
    ],
)
@pytest.mark.parametrize("folder", ["typo", "."])
def test_a_mistyped_folder_does_not_become_an_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = run(*arguments, "--data", folder)
    assert refused.exit_code == 1
    assert f"{folder} holds no Galley" in refused.output
    assert f"galley serve --data {folder}" in refused.output
    assert list(tmp_path.iterdir()) == []


def test_a_folder_on_the_way_to_postgres_may_be_mistyped_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_url: str
) -> None:
    if empty_url.startswith("sqlite"):
        pytest.skip("the folder holds the database")
    monkeypatch.setenv("GALLEY_DATABASE_URL", empty_url)
    add = ("user", "add", "ann@example.org", "--data")
    assert "holds no Galley" in run(*add, str(tmp_path)).output
    data = tmp_path / "data"
    assert run("migrate", "--data", str(data)).exit_code == 0
    assert run(*add, str(data)).output == "Added the user ann@example.org.\n"
    assert "holds no Galley" in run(*add, str(tmp_path / "typo")).output
    assert not (tmp_path / "typo").exists()


def test_the_settings_of_a_client_want_a_folder_that_is_there(tmp_path: Path) -> None:
    refused = run("connect", "dk", "--data", str(tmp_path / "typo"))
    assert refused.exit_code == 2
    assert "there is no such folder" in refused.output


def test_bad_settings_are_named(tmp_path: Path) -> None:
    (tmp_path / "galley.toml").write_text("prot = 1\n[limits]\nbody_bytes = 1\n")
    failed = run("user", "add", "a@example.org", "--data", str(tmp_path))
    assert failed.exit_code == 2
    assert "prot (GALLEY_PROT): there is no such setting" in failed.output
    assert "limits.body_bytes (GALLEY_LIMITS__BODY_BYTES): 1 cannot be; write at least 1024." in (
        failed.output
    )
    (tmp_path / "galley.toml").write_text("port =\n")
    assert (
        "galley.toml is not valid TOML"
        in run("user", "add", "a@example.org", "--data", str(tmp_path)).output
    )
    (tmp_path / "galley.toml").write_text("port = 1\n", encoding="utf-16")
    told = run("user", "add", "a@example.org", "--data", str(tmp_path)).output
    assert "galley.toml is not UTF-8 (byte 0); save it as UTF-8." in " ".join(told.split())


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PORT", "70000", "port (GALLEY_PORT): 70000 cannot be; write at most 65535."),
        ("PORT", "eighty", "port (GALLEY_PORT): 'eighty' is no whole number; write one."),
        ("LOG_LEVEL", "loud", "'loud' cannot be; write 'debug', 'info', 'warning' or 'error'."),
        ("BLOBS_URL", "foo", "foo is no bucket; write s3://bucket or s3://bucket/prefix"),
        ("DATABASE_URL", "mysql://h/x", "it must be a Postgres, like postgresql://"),
        ("SMTP_SENDER", "notmail", "notmail is no mail address"),
        ("LIMITS__DRAIN_S", "soon", "(GALLEY_LIMITS__DRAIN_S): 'soon' is no number; write one."),
    ],
)
def test_a_wrong_setting_is_told_with_its_variable_and_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(f"GALLEY_{name}", value)
    for command in ("serve", "doctor"):
        failed = run(command, "--data", str(tmp_path))
        assert failed.exit_code == 2
        assert told in failed.output


def test_issues_are_listed_with_their_error() -> None:
    error = Refused("It does not compile.", issues=[Issue("a.json", "line 3: a comma is missing")])
    assert explain(error) == "It does not compile.\n  a.json: line 3: a comma is missing"
    assert explain(KeyError("bug")) is None
    assert "permission denied" in (explain(PermissionError(13, "x", "/data/x")) or "")
    assert (explain(OSError(28, "No space left")) or "").endswith(": no space left.")


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (sqlite3.OperationalError("database or disk is full"), "Free some space"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "mounted read-only"),
        (sqlite3.OperationalError("database is locked"), "does not answer: database is locked"),
    ],
)
def test_what_the_database_refuses_is_told_with_its_cure(error: Exception, hint: str) -> None:
    assert hint in (explain(error) or "")


@pytest.mark.parametrize("arguments", [["--help"], ["doctor", "--data", "none"]])
def test_output_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, arguments: list[str]
) -> None:
    program = Path(sys.executable).with_name("galley")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [program, *arguments], stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, check=False
        )
    assert done.returncode == 1
    assert done.stderr == b"Error: Files cannot be read or written: no space left on device.\n"


def test_settings_for_dk(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    shown = run(
        "connect",
        "dk",
        "--url",
        "https://galley.example.org:8443/",
        "--user",
        "o'neil@example.org",
        "--ca",
        str(ca),
    ).output
    line = next(line for line in shown.splitlines() if line.startswith("printf '%s'"))
    config = json.loads(shlex.split(line)[2])
    assert config == {
        "dk-cloud-ip": "https://galley.example.org",
        "dk-cloud-port": "8443",
        "dk-cloud-username": "o'neil@example.org",
        "dk-cloud-password": "YOUR-PASSWORD",
    }
    for trap in (
        "uninstall -y websocket-client",
        "DKCLI_SKIP_VERSION_CHECK=1",
        "NO_PROXY=galley.example.org",
        f"REQUESTS_CA_BUNDLE={ca}",
        "setuptools<81",
    ):
        assert trap in shown


def test_settings_for_dkutils_take_the_servers_own_address(tmp_path: Path) -> None:
    (tmp_path / "galley.toml").write_text("port = 8123\n")
    shown = run("connect", "dkutils", "--data", str(tmp_path)).output
    assert 'base_url="http://127.0.0.1:8123"' in shown
    assert "is_api_token=True" in shown
    assert "events-ingestion-client<1.4" in shown
    plain = run("connect", "dk").output
    assert '"dk-cloud-ip": "http://127.0.0.1", "dk-cloud-port": "8080"' in plain


@pytest.mark.parametrize("client", ["python-gitlab", "dataiku", "opendatasoft"])
def test_clients_of_dialects_to_come(client: str) -> None:
    refused = run("connect", client)
    assert refused.exit_code == 2
    assert "not built yet" in refused.stderr


@pytest.mark.parametrize("url", ["galley.example.org", "ftp://x", "http://x/path"])
def test_an_address_that_cannot_be(url: str) -> None:
    refused = run("connect", "dk", "--url", url)
    assert refused.exit_code == 2
    assert "write scheme, host" in refused.output


def test_the_parity_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parity.main(["--check"]) == 1
    assert parity.main([]) == 0
    assert parity.main(["--check"]) == 0
    page = (tmp_path / parity.PAGE).read_text()
    surfaces = parity.load_all()
    assert [surface.surface for surface in surfaces] == ["datakitchen"]
    for operation in surfaces[0]:
        assert f"`{operation.method} {operation.path}` | {operation.state} |" in page
    planned = len(surfaces[0].planned)
    total = len(surfaces[0])
    assert f"| DataKitchen | {total - planned} | {planned} | {total} |" in page


def test_a_client_is_pointed_at_the_address_that_the_server_really_has(tmp_path: Path) -> None:
    (tmp_path / "server.address").write_text("http://127.0.0.1:18766")
    assert '"dk-cloud-port": "18766"' in run("connect", "dk", "--data", str(tmp_path)).output


def test_the_program_ends_with_the_status_of_its_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "galley", "doctor", "--data", str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "FAULT" in done.stdout + done.stderr


def test_a_folder_that_cannot_be_made_is_one_line() -> None:
    told = explain(FileNotFoundError(2, "No such file or directory", "/proc/x"))
    assert told == "/proc/x: no such file or directory."
