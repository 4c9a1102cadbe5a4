"""Limits, known credentials, streams, redaction, logs, metrics, errors, watchers' pages."""

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.testclient import TestClient

from galley.cli.common import say
from galley.core.errors import Conflict, ErrorKind, Invalid, NoSpace, TooMany, Unavailable
from galley.kit.clock import ManualClock
from galley.storage.blobs import BlobsAway
from galley.storage.git import GitFailed, RepositoryMissing
from galley.wire.errors import STATUS, ErrorTable, describe_validation, storage_error
from galley.wire.health import make_health_app
from galley.wire.limits import KnownCredentials, RateLimiter
from galley.wire.logging import configure_logging
from galley.wire.metrics import Metrics
from galley.wire.redaction import HIDDEN, is_sensitive, redact_query, redact_text
from galley.wire.streams import StreamLimits
from galley.wire.surfaces import Surface, Surfaces


def test_a_bucket_refills_and_never_overflows(manual_clock: ManualClock) -> None:
    limiter = RateLimiter(60, 2, manual_clock.monotonic)
    limiter.take("a")
    limiter.take("a")
    limiter.take("b")
    with pytest.raises(TooMany) as refused:
        limiter.take("a")
    assert refused.value.retry_after_s == 1
    manual_clock.advance(0.5)
    with pytest.raises(TooMany):
        limiter.take("a")
    manual_clock.advance(3600)
    limiter.give_back("a")
    for _ in range(2):
        limiter.take("a")
    with pytest.raises(TooMany):
        limiter.take("a")


def test_credentials_are_known_for_a_while(manual_clock: ManualClock) -> None:
    known = KnownCredentials(manual_clock.monotonic, keep_s=10, most=2)
    known.add("a")
    assert known.has("a")
    manual_clock.advance(10)
    assert not known.has("a")
    for name in "abc":
        known.add(name)
    assert [known.has(name) for name in "abc"] == [False, True, True]
    known.forget("c")
    assert not known.has("c")


def test_streams_are_counted() -> None:
    streams = StreamLimits(per_user=1, total=2)
    with streams.hold("a"), streams.hold("b"):
        assert streams.count() == 2
        for owner in ("a", "c"):
            with pytest.raises(TooMany), streams.hold(owner):
                raise AssertionError("not reached")
    assert streams.count() == 0
    with streams.hold("a"):
        assert streams.count() == 1


@pytest.mark.parametrize(
    "secret",
    [
        "gly_personal_cJk7RqBdYKZLTPbzwupdPyx3V2Gp4CeE0xdzSy",
        "glpat-aaaaaaaaaaaaaaaaaaaa",
        "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3OTU0Nzd9.c2lnbmF0dXJl",
        "Bearer abc.def",
        "https://ann:pass@example.org/x",
    ],
)
def test_what_looks_like_a_credential_is_hidden(secret: str) -> None:
    shown = redact_text(f"before {secret} after")
    assert HIDDEN in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert not any(part in shown for part in ("cJk7Rq", "aaaaaa", "eyJleHA", "abc.def", "ann:pass"))


def test_control_characters_are_escaped() -> None:
    assert redact_text("a\x1b[31m\r\x00b") == "a\\x1b[31m\\r\\x00b"
    assert redact_text("two\nlines") == "two\nlines"


@pytest.mark.parametrize("size", [4_001, 100_000, 1_000_000])
def test_a_long_text_loses_its_middle_and_no_credential_shows(size: int) -> None:
    secret = "Bearer " + "s3cr3t" * 600
    shown = redact_text(f"Traceback {secret} {'x' * size} {secret} ValueError: no such thing")
    assert len(shown) == 4000
    assert shown.startswith("Traceback Bearer [hidden] ")
    assert "left out" in shown
    assert shown.endswith(" Bearer [hidden] ValueError: no such thing")


def test_queries_keep_their_names() -> None:
    shown = redact_query("apikey=a&x=1&private%5Ftoken=b&password=c&empty=&flag")
    assert shown == (f"apikey={HIDDEN}&x=1&private%5Ftoken={HIDDEN}&password={HIDDEN}&empty=&flag")
    assert is_sensitive("X-Api-Key")
    assert not is_sensitive("kitchen")


@pytest.fixture
def log_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    monkeypatch.setattr("sys.unraisablehook", sys.unraisablehook)  # both come back afterwards
    monkeypatch.setattr("threading.excepthook", threading.excepthook)
    root = logging.getLogger()
    before, level = root.handlers, root.level
    settings = structlog.get_config()
    configure_logging("info", stream=stream)
    structlog.configure(cache_logger_on_first_use=False)
    yield stream
    structlog.configure(**settings)
    root.handlers = before
    root.setLevel(level)


class FullDisk(io.StringIO):
    """What a log's file is on a disk without room."""

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_ends_nothing(log_lines: io.StringIO) -> None:
    full = FullDisk()
    configure_logging("info", stream=full)
    structlog.configure(cache_logger_on_first_use=False)
    structlog.get_logger("galley.test").error("told")
    logging.getLogger("a.library").warning("told, too")
    assert len(full.getvalue().splitlines()) == 2


class Ends:
    """An object whose end fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __del__(self) -> None:
        raise self.error


def test_what_nobody_catches_is_a_line_of_the_log_too(log_lines: io.StringIO) -> None:
    for error in (OSError(28, "No space left on device"), OSError(9, "a bug"), ValueError("a bug")):
        Ends(error)
    thread = threading.Thread(target=lambda: 1 / 0, name="divides")
    thread.start()
    thread.join()
    full, *bugs = map(json.loads, log_lines.getvalue().splitlines())
    assert (full["level"], full["error"]) == (
        "warning",
        "OSError: [Errno 28] No space left on device",
    )
    assert "exception" not in full
    assert [bug["level"] for bug in bugs] == ["error"] * 3
    assert ["Ends.__del__" in bug["where"] for bug in bugs] == [True, True, False]
    assert "ValueError: a bug" in bugs[1]["exception"]
    assert "divides" in bugs[2]["where"]
    assert "ZeroDivisionError" in bugs[2]["exception"]


class Pieces(io.StringIO):
    """A stream that remembers what it was given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[str] = []

    def write(self, text: str) -> int:
        self.given.append(text)
        return super().write(text)


def test_a_line_is_written_in_one_piece_so_that_no_other_comes_between(
    log_lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = Pieces()
    configure_logging("info", stream=pieces)
    structlog.configure(cache_logger_on_first_use=False)
    structlog.get_logger("galley.test").info("told")
    logging.getLogger("a.library").warning("told, too")
    monkeypatch.setattr("sys.stdout", pieces)
    say("Galley is ready")
    assert [text.count("\n") for text in pieces.given] == [1, 1, 1]
    assert all(text.endswith("\n") for text in pieces.given)


def test_logs_are_json_without_credentials(log_lines: io.StringIO) -> None:
    ours = structlog.get_logger("galley.test")
    ours.debug("too fine")
    ours.info("told", token="hush", nested={"password": "hush", "list": ["Bearer hush"]}, n=1)
    try:
        {}["gly_personal_hushhushhush"]
    except KeyError:
        ours.exception("failed")
    logging.getLogger("a.library").warning("from a library %s", "Bearer hush")
    logging.getLogger("a.library").info("too fine")
    lines = [json.loads(line) for line in log_lines.getvalue().splitlines()]
    assert [line["event"] for line in lines] == [
        "told",
        "failed",
        f"from a library Bearer {HIDDEN}",
    ]
    assert lines[0]["n"] == 1
    assert lines[1]["exception"].startswith("Traceback")
    assert lines[2]["logger"] == "a.library"
    assert all(line["at"].endswith("Z") for line in lines)
    assert "hush" not in log_lines.getvalue()


def test_every_kind_of_error_has_a_status() -> None:
    assert set(STATUS) == set(ErrorKind)
    table = ErrorTable(exact={"special": 417})
    error = Conflict("x")
    assert table.status_of(error) == 409
    error.code = "special"
    assert table.status_of(error) == 417


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (IntegrityError("x", {}, Exception("unique")), Conflict),
        (OperationalError("x", {}, Exception("server closed the connection")), Unavailable),
        (OperationalError("x", {}, Exception("database or disk is full")), NoSpace),
        (OSError(28, "No space left on device"), NoSpace),
        (OSError(122, "Disk quota exceeded"), NoSpace),
        (OSError(5, "Input/output error"), Unavailable),
        (OSError(30, "Read-only file system"), Unavailable),
        (DataError("x", {}, Exception("out of range")), Invalid),
        (PoolTimeout("no connection is free"), Unavailable),
        (BlobsAway("The blob store s3://b cannot be used: refused"), Unavailable),
        (RepositoryMissing("project main/recipes has no repository"), Unavailable),
        (GitFailed("git merge-tree took longer than 60 s"), Unavailable),
    ],
)
def test_failures_of_storage_have_a_meaning(error: Exception, kind: type) -> None:
    known = storage_error(error)
    assert type(known) is kind


def test_other_failures_are_bugs() -> None:
    assert storage_error(KeyError("x")) is None
    assert storage_error(FileNotFoundError(2, "No such file")) is None


def test_a_bad_request_is_told_in_one_line() -> None:
    faults = [
        {"loc": ("body", "schedule", "cron"), "msg": "Value error, five fields", "type": "x"},
        {"loc": ("body",), "msg": "Input should be an object", "type": "x"},
    ]
    text = describe_validation(RequestValidationError(faults))
    assert text == "schedule.cron: five fields; body: Input should be an object"


def test_watchers_pages() -> None:
    state: dict[str, str | None] = {"fault": None}

    def broken() -> str | None:
        raise OSError("down")

    metrics = Metrics()
    metrics.watch("galley_answer", "Of everything.", lambda: 42)
    metrics.watch_many("galley_kinds", "By kind.", "kind", lambda: {"a": 1, "b": 2})
    metrics.watch_totals("galley_ends", "So far.", "how", lambda: {"well": 3})
    app = make_health_app({"part": lambda: state["fault"]}, metrics, metrics_token="let-me")
    with TestClient(app) as client:
        assert client.get("/healthz").json() == {"status": "alive"}
        assert client.get("/readyz").json() == {"status": "ready", "checks": {"part": "ok"}}
        state["fault"] = "broken"
        assert client.get("/readyz").status_code == 503
        assert client.get("/readyz").json()["checks"] == {"part": "broken"}
        assert client.get("/metrics").status_code == 403
        wrong = {"Authorization": "Bearer let-me-in"}
        assert client.get("/metrics", headers=wrong).status_code == 403
        shown = client.get("/metrics", headers={"Authorization": "Bearer let-me"})
        assert "galley_answer 42.0" in shown.text
        assert 'galley_kinds{kind="b"} 2.0' in shown.text
        assert 'galley_ends_total{how="well"} 3.0' in shown.text
    with TestClient(make_health_app({"part": broken}, metrics), client=("127.0.0.1", 1)) as client:
        assert client.get("/readyz").json()["checks"] == {"part": "OSError"}
        assert client.get("/metrics").status_code == 200
    with TestClient(make_health_app({}, metrics), client=("192.0.2.1", 1)) as client:
        assert client.get("/metrics").status_code == 403


def test_two_surfaces_cannot_claim_one_prefix() -> None:
    surface = Surface("a", ("/v2",), None, None, None)  # type: ignore[arg-type]
    assert surface.has("/v2")
    assert surface.has("/v2/x")
    assert not surface.has("/v20")
    with pytest.raises(ValueError, match="the same prefix"):
        Surfaces([surface, surface])
