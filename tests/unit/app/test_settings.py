"""Settings: where they come from, which one wins, what cannot be."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from galley.app.addresses import address_of
from galley.settings import Settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("GALLEY_"):
            monkeypatch.delenv(name)


def test_options_beat_variables_beat_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "galley.toml").write_text(
        'port = 1\nhost = "0.0.0.0"\nslots = 3\n'
        '[limits]\nbody_bytes = 5000\n[account]\nname = "A"\n'
    )
    monkeypatch.setenv("GALLEY_PORT", "2")
    monkeypatch.setenv("GALLEY_SLOTS", "4")
    monkeypatch.setenv("GALLEY_LIMITS__JSON_DEPTH", "9")
    settings = Settings(data=tmp_path, slots=5)
    assert (settings.host, settings.port, settings.slots) == ("0.0.0.0", 2, 5)  # noqa: S104
    assert (settings.limits.body_bytes, settings.limits.json_depth) == (5000, 9)
    assert settings.account.name == "A"


def test_the_folder_may_come_from_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "galley.toml").write_text("port = 7\n")
    monkeypatch.setenv("GALLEY_DATA", str(tmp_path))
    assert Settings().port == 7  # type: ignore[call-arg]


def test_lists_come_as_text_or_as_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GALLEY_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1")
    assert Settings(data=tmp_path).trusted_proxies == ("10.0.0.0/8", "192.0.2.1")
    (tmp_path / "galley.toml").write_text('roots = ["/srv/a", "/srv/b"]\n')
    assert Settings(data=tmp_path).roots == (Path("/srv/a"), Path("/srv/b"))


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("port", 65_536, "less than or equal to 65535"),
        ("trusted_proxies", "10.0.0.0/99", "no network"),
        ("outbound_allow", "example.org", "no network"),
        ("external_url", "galley.example.org", "scheme and host"),
        ("external_url", "https://example.org/galley", "without a path"),
        ("tls_cert", "/etc/cert.pem", "belong together"),
        ("log_level", "loud", "'debug', 'info'"),
        ("blobs_url", "foo", "no bucket"),
        ("blobs_url", "s3://", "no bucket"),
        ("blobs_url", "http://bucket", "no bucket"),
        ("database_url", "mysql://db/galley", "must be a Postgres"),
        ("database_url", "sqlite:///x.db", "must be a Postgres"),
        ("database_url", "postgresql://", "must be a Postgres"),
        ("smtp_sender", "notmail", "no mail address"),
        ("slots", 0, "greater than or equal to 1"),
        ("unheard_of", 1, "Extra inputs"),
        ("limits", {"body_byts": 1}, "Extra inputs"),
        ("account", {"code": "toolong"}, "pattern"),
        ("smtp_security", "maybe", "starttls"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, name: str, value: object, hint: str) -> None:
    with pytest.raises(ValidationError, match=hint):
        Settings(data=tmp_path, **{name: value})


def test_roots_that_are_not_there_are_known(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data", roots=(tmp_path / "data/files", tmp_path / "none"))
    assert settings.missing_roots == (tmp_path / "data/files", tmp_path / "none")


@pytest.mark.parametrize("root", ["", "data", "data/git", "data/../data/blobs", "data/filesystem"])
def test_no_root_opens_the_data_folder(tmp_path: Path, root: str) -> None:
    with pytest.raises(ValidationError, match="would open Galley's own data"):
        Settings(data=tmp_path / "data", roots=(tmp_path / root,))
    assert Settings(data=tmp_path, smtp_sender="Galley <g@example.org>").smtp_sender


@pytest.mark.parametrize(
    ("given", "address"),
    [
        (None, "sqlite:////srv/galley/galley.db"),
        ("postgresql://u:p@db/galley", "postgresql+psycopg://u:p@db/galley"),
        ("postgres://db/galley", "postgresql+psycopg://db/galley"),
        ("postgresql+psycopg://db/galley", "postgresql+psycopg://db/galley"),
    ],
)
def test_database_addresses(given: str | None, address: str) -> None:
    assert Settings(data=Path("/srv/galley"), database_url=given).database_address == address


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"host": "0.0.0.0", "port": 81}, "http://127.0.0.1:81"),  # noqa: S104
        ({"host": "::"}, "http://[::1]:8080"),
        ({"host": "galley.local"}, "http://galley.local:8080"),
        ({"tls_cert": "c", "tls_key": "k"}, "https://127.0.0.1:8080"),
        ({"external_url": "https://galley.example.org/"}, "https://galley.example.org"),
    ],
)
def test_what_a_server_is_called(given: dict[str, object], address: str) -> None:
    assert address_of(Settings(data=Path("/srv"), **given)) == address


def test_secrets_stay_out_of_sight(tmp_path: Path) -> None:
    settings = Settings(
        data=tmp_path, smtp_password="hush", metrics_token="hush", webhook_key="hush"
    )
    assert "hush" not in repr(settings)


def test_every_setting_is_described() -> None:
    from galley.settings import AccountSettings, Limits

    for model in (Settings, Limits, AccountSettings):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name} has no description"
            assert field.description.endswith(".")
