"""The list of runs, and a run's own page with the deeds done from it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

from sqlalchemy.orm import Session
from starlette.responses import Response

from galley.core.errors import NotFound
from galley.core.identity.policy import GoneKitchen
from galley.core.projects import operations as projects
from galley.core.runs import operations, reading
from galley.core.runs.gate import KitchenGate
from galley.core.runs.states import RunState
from galley.core.runs.views import RunFilter, RunView
from galley.kit.pages import PageRequest
from galley.web import tail
from galley.web.firststeps import FirstSteps, first_steps
from galley.web.present import look_of
from galley.web.runpage import RunPage, compose
from galley.web.visit import Visit

PAGE_SIZE = 50
_PAGES = 100_000
_TEXT_LIMIT = 200
_STATES = (("", "All"), *((state.value, look_of(state).word) for state in RunState))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the address asks of the list; empty text means any."""

    state: str = ""
    kitchen: str = ""
    recipe: str = ""
    page: int = 1

    @property
    def is_narrow(self) -> bool:
        """Whether anything is filtered out."""
        return bool(self.state or self.kitchen or self.recipe)

    @property
    def link(self) -> str:
        """The address of the list that this asks for."""
        values = {"state": self.state, "kitchen": self.kitchen, "recipe": self.recipe}
        kept = {name: value for name, value in values.items() if value}
        if self.page > 1:
            kept["page"] = str(self.page)
        return "/runs" + (f"?{urlencode(kept)}" if kept else "")

    @property
    def filter(self) -> RunFilter:
        """The same in the core's words."""
        return RunFilter(
            kitchen=self.kitchen or None,
            source_path=self.recipe or None,
            states=frozenset({RunState(self.state)}) if self.state else None,
        )


@dataclass(frozen=True, slots=True)
class LogPart:
    """The log as far as the page shows it, and how it was asked for."""

    step: str
    level: str
    tail: tail.Tail
    first_error: int | None
    """Which of the lines tells first of what failed, if one does."""


def list_runs(visit: Visit, session: Session) -> Response:
    """The runs that the caller may see, newest first; as a part, for its own renewal."""
    wanted = read_wanted(visit.query)
    request = PageRequest(limit=PAGE_SIZE, offset=(wanted.page - 1) * PAGE_SIZE)
    page = reading.list_runs(session, visit.caller, wanted.filter, request)
    last = request.offset + len(page.items)
    kitchens = [] if visit.is_partial else projects.list_kitchens(session, visit.caller)
    return visit.page(
        "runs_list.html" if visit.is_partial else "runs.html",
        section="runs",
        page=page,
        wanted=wanted,
        here=wanted.link,
        states=_STATES,
        chip_link=lambda state: replace(wanted, state=state, page=1).link,
        kitchens=[kitchen.name for kitchen in kitchens],
        first=request.offset + 1,
        last=last,
        newer=replace(wanted, page=wanted.page - 1).link if wanted.page > 1 else None,
        older=replace(wanted, page=wanted.page + 1).link if last < page.total else None,
        first_steps=None if page.total else _first_steps(visit),
    )


def read_wanted(query: Mapping[str, str]) -> Wanted:
    """The wish in an address. What makes no sense counts as not said: a link never breaks."""
    state = query.get("state", "")
    return Wanted(
        state=state if state in frozenset(RunState) else "",
        kitchen=query.get("kitchen", "").strip()[:_TEXT_LIMIT],
        recipe=query.get("recipe", "").strip()[:_TEXT_LIMIT],
        page=_page_number(query.get("page", "")),
    )


def show_run(visit: Visit, session: Session) -> Response:
    """A run's page."""
    page, extra = _compose(visit, session)
    return visit.page("run.html", page=page, oob=False, log=_log_part(visit, page), **extra)


def renew_run(visit: Visit, session: Session) -> Response:
    """What can have changed on a run's open page, but the log, which has its own stream."""
    page, extra = _compose(visit, session)
    return visit.page("run_live.html", page=page, oob=True, **extra)


def stop_run(visit: Visit) -> Response:
    """Stop a run, and show it."""
    run = operations.stop_run(visit.services.desk, visit.caller, run_key(visit))
    return visit.go(f"/runs/{run.uuid}", done="stopping")


def pause_run(visit: Visit) -> Response:
    """Let no further step of a run start, and show it."""
    return _set_paused(visit, paused=True)


def unpause_run(visit: Visit) -> Response:
    """Let a paused run go on, and show it."""
    return _set_paused(visit, paused=False)


def _set_paused(visit: Visit, *, paused: bool) -> Response:
    run = operations.pause_run(visit.services.desk, visit.caller, run_key(visit), paused=paused)
    return visit.go(f"/runs/{run.uuid}", done="pausing" if paused else "unpausing")


def resume_run(visit: Visit) -> Response:
    """Go on in a new run, and show that one."""
    desk = visit.services.desk
    skip = visit.form.get("skip_failed") == "yes"
    submitted = operations.resume_run(desk, visit.caller, run_key(visit), skip_failed=skip)
    if submitted.run_uid is None:
        raise NotFound("The new run was not made. Look at the order, and try again.")
    return visit.go(f"/runs/{submitted.run_uid}", done="resumed")


def run_key(visit: Visit) -> str:
    """The run that the address names."""
    return str(visit.request.path_params["run"])


def _compose(visit: Visit, session: Session) -> tuple[RunPage, dict[str, Any]]:
    detail = reading.run_detail(session, visit.caller, run_key(visit))
    page = compose(detail, visit.now, step_page=_page_number(visit.query.get("steps", "")))
    run, gate = page.run, KitchenGate(session, visit.caller)
    is_home = not isinstance(gate.place(run), GoneKitchen)
    return page, {
        "section": "runs",
        "may_stop": gate.admits(run, "run.stop"),
        "may_resume": is_home and gate.admits(run, "run.resume"),
        "resumed_from": _resumed_from(visit, session, run),
        "stream_link": _with_log_choice(visit, f"/runs/{run.uuid}/stream"),
        "renew_link": f"/runs/{run.uuid}/live?steps={page.step_page}",
    }


def _resumed_from(visit: Visit, session: Session, run: RunView) -> str | None:
    if run.resumed_from is None:
        return None
    try:
        return reading.find_run(session, visit.caller, run.resumed_from).uuid
    except NotFound:
        return None  # deleted since


def _log_part(visit: Visit, page: RunPage) -> LogPart:
    step, level = log_choice(visit.query)
    files = tail.log_files(visit.services.logs, page.detail, step or None)
    shown = tail.newest(files, tail.LEVELS[level])
    failed = page.first_failure.key if page.first_failure else ""
    return LogPart(step, level, shown, tail.first_error(shown.lines, failed))


def log_choice(query: Mapping[str, str]) -> tuple[str, str]:
    """The step (empty for all) and the level that an address asks of the log."""
    level = query.get("level", "info")
    return query.get("step", ""), level if level in tail.LEVELS else "info"


def _with_log_choice(visit: Visit, path: str) -> str:
    step, level = log_choice(visit.query)
    return f"{path}?step={quote(step, safe='')}&level={level}"


def _page_number(text: str) -> int:
    return min(max(1, int(text)), _PAGES) if text.isascii() and text.isdigit() else 1


def _first_steps(visit: Visit) -> FirstSteps:
    base = visit.external_url or str(visit.request.base_url)
    return first_steps(base.rstrip("/"), projects.ROOT, visit.caller.login or "you@example.org")
