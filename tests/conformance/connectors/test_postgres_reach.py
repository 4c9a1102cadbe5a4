"""Which Postgres servers a recipe reaches, and that nothing of the server's own user helps it."""

import ipaddress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url
from tests.conftest import PostgresServer, build_schema

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import connector, pgaccess
from galley.engine.connectors.base import Place
from galley.engine.faults import StepError
from galley.engine.outbound import OutboundPolicy
from galley.storage.db import Database, metadata

ONE = KeySpec("k", "scalar", sql="SELECT 1")


def test_a_private_server_is_refused_unless_its_range_is_open(
    postgres_config: dict[str, Any], place: Place
) -> None:
    assert connector("postgres", place).run(postgres_config, ONE).value == 1
    strict = replace(place, outbound=OutboundPolicy())
    with pytest.raises(StepError, match=r"is not public.*GALLEY_OUTBOUND_ALLOW") as caught:
        connector("postgres", strict).run(postgres_config, ONE)
    assert not caught.value.retryable


@pytest.mark.parametrize("host", ["/tmp", "@abstract", "127.0.0.1,/tmp", "a\\b"])
def test_a_socket_or_a_list_is_no_host(
    host: str, postgres_config: dict[str, Any], place: Place
) -> None:
    with pytest.raises(StepError, match="is not the name of one server"):
        connector("postgres", place).run({**postgres_config, "hostname": host}, ONE)


def test_the_servers_own_socket_is_refused(
    postgres_config: dict[str, Any], postgres_server: PostgresServer, place: Place
) -> None:
    host = postgres_server.url.query["host"]
    with pytest.raises(StepError, match="no folder of a socket"):
        connector("postgres", place).run({**postgres_config, "hostname": host}, ONE)


def test_the_address_that_was_checked_is_the_one_that_is_called(
    postgres_config: dict[str, Any], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libpq itself could not resolve this name."""
    from galley.engine import outbound

    monkeypatch.setattr(
        outbound.Gate.__init__, "__defaults__", (lambda _host, _port: ["127.0.0.1"],)
    )
    config = {**postgres_config, "hostname": "db.invalid"}
    assert connector("postgres", place).run(config, ONE).value == 1


def test_a_user_must_be_named(postgres_config: dict[str, Any], place: Place) -> None:
    with pytest.raises(StepError, match="give it a `username`"):
        connector("postgres", place).run({**postgres_config, "username": None}, ONE)


@pytest.mark.parametrize("port", ["x", 70000, -1, [5432]])
def test_a_port_is_a_number(port: Any, postgres_config: dict[str, Any], place: Place) -> None:
    with pytest.raises(StepError, match="is no port"):
        connector("postgres", place).run({**postgres_config, "port": port}, ONE)


def test_nothing_comes_from_the_environment_or_the_home_folder(
    postgres_config: dict[str, Any], place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = tmp_path / ".pgpass"
    passwords.write_text("*:*:*:*:found\n")
    passwords.chmod(0o600)
    services = tmp_path / "services"
    services.write_text("[own]\napplication_name=service\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in {
        "PGPASSWORD": "found",
        "PGPASSFILE": str(passwords),
        "PGSERVICE": "own",
        "PGSERVICEFILE": str(services),
        "PGAPPNAME": "variable",
        "PGHOSTADDR": "192.0.2.1",
    }.items():
        monkeypatch.setenv(name, value)
    config = {**postgres_config, "password": None}

    host, connection = pgaccess.connect(place, config, {})

    with connection:
        assert (host, connection.info.password) == ("127.0.0.1", "")
        assert not connection.pgconn.used_password
        assert connection.info.parameter_status("application_name") == ""
        assert (connection.info.hostaddr, connection.info.user) == ("127.0.0.1", "postgres")


def test_a_galleys_own_database_is_refused(
    postgres_config: dict[str, Any], postgres_url: str, place: Place
) -> None:
    database = Database(make_url(postgres_url))
    build_schema(database)
    database.close()
    key = KeySpec("k", "scalar", sql="SELECT count(*) FROM token")
    with pytest.raises(StepError, match="keeps its own books"):
        connector("postgres", place).run({**postgres_config, "schema": "elsewhere"}, key)


def test_a_ledger_is_known_by_tables_that_it_has() -> None:
    assert set(pgaccess.LEDGER_TABLES) - {"alembic_version"} <= set(metadata.tables)


def test_the_range_decides_not_the_spelling(postgres_config: dict[str, Any], place: Place) -> None:
    other = replace(place, outbound=OutboundPolicy((ipaddress.ip_network("10.0.0.0/8"),)))
    for host in ("localhost", "127.1", "2130706433", "::1", "::ffff:127.0.0.1", "0"):
        with pytest.raises(StepError, match="is not public"):
            connector("postgres", other).run({**postgres_config, "hostname": host}, ONE)
