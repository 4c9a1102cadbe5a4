"""What a run left, to take away: its log and its artefacts."""

from io import BytesIO

from sqlalchemy.orm import Session
from starlette.responses import Response

from galley.core.errors import NotFound
from galley.core.runs import reading
from galley.core.runs.logs import log_path
from galley.core.runs.views import AttemptView, RunDetail, StepView
from galley.web.downloads import Part, download, file_part
from galley.web.pages.runs import run_key
from galley.web.visit import Visit

_LOG_TYPE = "text/plain"


def get_log(visit: Visit, session: Session) -> Response:
    """The log of a run, of one of its steps (`step`), or of one attempt (`attempt`), as text.

    Several attempts come one after another in the order of the plan, each under a heading.
    """
    detail = reading.run_detail(session, visit.caller, run_key(visit))
    chosen = _chosen(detail, visit)
    parts = []
    for step, attempt in chosen:
        path = log_path(visit.services.logs, detail.run.id, attempt.id)
        if path.is_file():
            if len(chosen) > 1:
                parts.append(_heading(step, attempt))
            parts.append(file_part(path))
    return download(visit.request, parts, f"galley-run-{detail.run.uuid}.log", _LOG_TYPE)


def get_artifact(visit: Visit, session: Session) -> Response:
    """A file that a step staged, under the name that the step gave it."""
    detail = reading.run_detail(session, visit.caller, run_key(visit))
    wanted = int(visit.request.path_params["artifact"])
    found = next((one for one in detail.artifacts if one.id == wanted), None)
    if found is None:
        raise NotFound(f"Run {detail.run.uuid} has no artefact {wanted}.")
    blobs = visit.services.blobs
    if not blobs.exists(found.sha256):  # asked first: once the answer has begun it is too late
        raise NotFound(f"The content of {found.name} is lost; ask the operator for a backup.")
    part = Part(found.size_bytes, lambda: blobs.open(found.sha256))
    return download(visit.request, [part], found.name, found.media_type)


def _chosen(detail: RunDetail, visit: Visit) -> list[tuple[StepView, AttemptView]]:
    step_key, attempt = visit.query.get("step", ""), visit.query.get("attempt", "")
    everything = [(step, one) for step in detail.steps for one in reversed(step.attempts)]
    found = [
        (step, one)
        for step, one in everything
        if step_key in {"", step.key} and attempt in {"", str(one.id)}
    ]
    if not found and everything:
        what = f"attempt {attempt[:20]}" if attempt else f"step '{step_key[:80]}'"
        raise NotFound(f"Run {detail.run.uuid} has no {what}.")
    return found


def _heading(step: StepView, attempt: AttemptView) -> Part:
    text = f"==> {step.key}, attempt {attempt.number} <==\n".encode()
    return Part(len(text), lambda: BytesIO(text))
