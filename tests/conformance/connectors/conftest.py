import ipaddress
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url
from tests.conformance.connectors.bridge import bridge
from tests.conformance.connectors.ftpserver import Ftp, ftp_server
from tests.conformance.connectors.rigs import RIGS, Rig
from tests.conformance.connectors.web import Web, web_server
from tests.conftest import PostgresServer
from tests.s3 import make_bucket, s3_server
from tests.unit.engine.console import MemoryConsole

from galley.engine.connectors import connector
from galley.engine.connectors.base import Batch, Connector, Place
from galley.engine.outbound import OutboundPolicy


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder, work = tmp_path / "attempt", tmp_path / "work"
    made = Place(
        folder=folder,
        work=work,
        console=MemoryConsole(),
        threads=2,
        outbound=OutboundPolicy(allowed=(ipaddress.ip_network("127.0.0.0/8"),)),
        lock_wait_s=0.2,
    )
    made.segments.mkdir(parents=True)
    work.mkdir()
    return made


@pytest.fixture
def into(place: Place) -> Callable[[], Path]:
    """Gives a new folder for a segment."""

    def make() -> Path:
        folder = place.segments / uuid.uuid4().hex
        folder.mkdir()
        return folder

    return make


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as server:
        yield server


@pytest.fixture
def ftp(tmp_path: Path) -> Iterator[Ftp]:
    with ftp_server(tmp_path / "ftp") as server:
        yield server


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A stand-in of S3; it does not check signatures."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3_config(s3_endpoint: str) -> dict[str, object]:
    """A bucket of the test's own."""
    bucket = f"b{uuid.uuid4().hex}"
    make_bucket(s3_endpoint, bucket)
    keys = {"access-key": "test", "secret-key": "test"}
    return {"bucket": bucket, "endpoint-url": s3_endpoint, **keys}


@pytest.fixture(scope="session")
def postgres_port(postgres_server: PostgresServer) -> Iterator[int]:
    """A port of loopback behind which the test run's Postgres is: it has a socket only."""
    host = str(postgres_server.url.query["host"])
    with bridge(f"{host}/.s.PGSQL.{postgres_server.url.port or 5432}") as port:
        yield port


@pytest.fixture
def postgres_config(postgres_url: str, postgres_port: int) -> dict[str, object]:
    url = make_url(postgres_url)
    return {
        "hostname": "127.0.0.1",
        "port": postgres_port,
        "database": url.database,
        "username": url.username,
        "password": url.password,
    }


@pytest.fixture(params=RIGS, ids=lambda rig: rig.id)
def rig(request: pytest.FixtureRequest) -> Rig:
    made: Rig = request.param
    if made.system == "postgres":
        made = made.with_config(request.getfixturevalue("postgres_config"))
    if made.system == "ftp":
        made = made.with_config(request.getfixturevalue("ftp").config)
    if made.system == "s3":
        made = made.with_config(request.getfixturevalue("s3_config"))
    if made.system == "http":
        made = made.with_config({"url": request.getfixturevalue("web").url})
    return made


@pytest.fixture(params=[rig for rig in RIGS if rig.creates], ids=lambda rig: rig.id)
def base(request: pytest.FixtureRequest) -> Rig:
    """A system with tables."""
    made: Rig = request.param
    if made.system == "postgres":
        made = made.with_config(request.getfixturevalue("postgres_config"))
    return made


@pytest.fixture
def system(request: pytest.FixtureRequest, place: Place) -> Connector:
    name = "base" if "base" in request.fixturenames else "rig"
    made: Rig = request.getfixturevalue(name)
    return connector(made.system, place)


@pytest.fixture
def rows(place: Place, into: Callable[[], Path]) -> Callable[[str], Batch]:
    """Gives a batch with the rows of a query."""
    from galley.engine.connectors import tables
    from galley.engine.connectors.base import CsvStyle

    def make(sql: str) -> Batch:
        folder = into()
        with tables.engine(place, folder) as engine:
            columns = tables.described(engine, sql)
            tables.export(engine, sql, folder / "content", CsvStyle(), layout="parquet")
            counted = engine.execute(f"SELECT count(*) FROM ({sql})").fetchone()
        return Batch(folder / "content", "parquet", columns, row_count=counted[0], wish="csv")

    return make
