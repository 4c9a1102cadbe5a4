"""The log of an order run: a stretch of it, or all of it as a file. Source: contract 3.6, 3.8."""

import base64
from collections.abc import Generator, Sequence
from itertools import islice
from typing import IO, Annotated, Any

from fastapi import APIRouter, Body, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from galley.core.caller import Caller
from galley.core.errors import NotFound
from galley.core.projects import operations as projects
from galley.core.runs import logs, reading, wholelog
from galley.core.runs.views import LogLine, RunDetail
from galley.dialects.datakitchen import details, schemas
from galley.dialects.datakitchen.answers import merged, ok
from galley.dialects.datakitchen.auth import CallerDep
from galley.dialects.datakitchen.states import RECORD_TYPE
from galley.wire.routes import CallRoute
from galley.wire.services import ServicesDep
from galley.wire.session import SnapshotDep
from galley.wire.streaming import StreamedAnswer, read_in_threads

router = APIRouter(prefix="/order", route_class=CallRoute)

_CHUNK = 192 * 1024  # a multiple of 3, so that the pieces' base64 is that of the whole
_MIB = 1024 * 1024


@router.get("/export/logs/{kitchen}/{run}", operation_id="order-export-logs")
def export_log(
    kitchen: str, run: str, caller: CallerDep, session: SnapshotDep, services: ServicesDep
) -> Response:
    """A zip archive with the whole log as one text file, the newest 64 MiB of it at most."""
    detail = _detail(session, caller, kitchen, run)
    parts = wholelog.parts_of(services.logs, detail, wholelog.EXPORT_BYTES)
    head = _head(detail, wholelog.left_out(parts))
    archive = wholelog.zipped(parts, f"{detail.run.uuid}.txt", head, _text)
    chunks = read_in_threads(_in_json(archive))
    return StreamedAnswer(chunks, headers={}, media_type="application/json")


@router.get("/logs/{kitchen}/{run}", operation_id="order-logs")
def read_log(
    *,
    kitchen: str,
    run: str,
    request: Request,
    caller: CallerDep,
    session: SnapshotDep,
    services: ServicesDep,
    body: Annotated[dict[str, Any], Body(default_factory=dict)],
) -> Response:
    """Lines of the log from its beginning, in order of time."""
    wanted = merged(request, body, schemas.LogQuery)
    detail = _detail(session, caller, kitchen, run)
    if wanted.node is not None and all(step.key != wanted.node for step in detail.steps):
        raise NotFound(f"node: order run {detail.run.uuid} has no node {wanted.node[:100]!r}.")
    parts = wholelog.parts_of(services.logs, detail, logs.MAX_BYTES, node=wanted.node)
    lines = wholelog.oldest_first(parts, _letters(wanted.record_types))
    chosen = list(islice(lines, wanted.start, wanted.start + wanted.count))
    return ok(details.log_of(detail, chosen, wanted.start))


def _detail(session: Session, caller: Caller, kitchen: str, run: str) -> RunDetail:
    """The run, if it is the kitchen's and the caller may read its log.

    Raises:
        NotFound: no such kitchen or run, or it is closed to the caller.
        Forbidden: the caller sees the kitchen, but may not read logs there.
    """
    place = projects.get_kitchen(session, caller, kitchen)
    caller.require("log.read", place)
    (detail,) = reading.run_details(session, [reading.find_run(session, caller, run, place.name)])
    return detail


def _letters(record_types: frozenset[str] | None) -> frozenset[str] | None:
    """The letters that lines of these types bear in a log file."""
    if record_types is None:
        return None
    return frozenset(
        letter for letter, level in logs.LEVELS.items() if RECORD_TYPE[level] in record_types
    )


def _head(detail: RunDetail, left_out: int) -> Sequence[str]:
    run = detail.run
    head = [f"Log of the order run {run.uuid}: recipe {run.source_path}, variation {run.variation}"]
    if left_out:
        head.append(
            f"The first {left_out:,} bytes are left out: an export holds at most"
            f" {wholelog.EXPORT_BYTES // _MIB} MiB, of each step's log the end. The rest is to be"
            " had in the console."
        )
    return [*head, "datetime | record_type | node | message"]


def _text(line: LogLine) -> str:
    stamp = line.stamp or line.at.replace(tzinfo=None).isoformat(timespec="microseconds")
    return f"{stamp}Z | {RECORD_TYPE.get(line.level, 'INFO')} | {line.step_key} | {line.text}"


def _in_json(archive: IO[bytes]) -> Generator[bytes]:
    """The answer's document in pieces; the archive is closed at the end."""
    with archive:
        yield b'{"log":"'
        while chunk := archive.read(_CHUNK):
            yield base64.b64encode(chunk)
        yield b'"}'
