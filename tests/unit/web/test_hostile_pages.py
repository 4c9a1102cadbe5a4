import dataclasses
import html

import pytest

from galley.core.runs.states import RunState
from galley.core.runs.task import CheckResult
from galley.web.present import plain_text

from . import inert, samples
from .streaming import read_stream

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
PAYLOADS = [
    EVIL,
    "</title><script>alert(1)</script>",
    "</textarea></select></option><svg/onload=alert(1)>",
    "' onmouseover='alert(1)",
    '" onfocus=alert(1) autofocus="',
    "javascript:alert(1)",
    "//evil.example/x",
    "{{ 7 * 7 }}{% raw %}${7*7}#{7*7}",
    "<a href=javascript:alert(1)>x</a>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<!--<img src='--><img src=x onerror=alert(1)//'>",
    "]]><script>alert(1)</script>",
    "\u202egnp.exe\u2066",
    "\x1b]8;;http://evil.example\x07click\x1b]8;;\x07",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "hx-get=/sign-out hx-trigger=load",
    "\\u003cscript\\u003e",
    "a\r\ndata: x\r\nevent: end",
]


@pytest.fixture
def database(sqlite_database):
    """What pages make of a text has nothing to do with the kind of database."""
    return sqlite_database


@pytest.mark.parametrize("evil", PAYLOADS)
def test_hostile_names_and_lines_are_text_everywhere(world, ada, evil):
    world.add_kitchen("production")
    detail = samples.run_detail(RunState.RUNNING)
    step = dataclasses.replace(
        detail.steps[-1],
        key=evil,
        checks=(
            CheckResult(evil, "failed", "stop", evil, evil, evil, ("source", evil), evil),
            CheckResult(evil, "passed", "log", evil),
        ),
        reason=evil,
        exports={evil: evil},
        started_at=samples.START,
    )
    plan_step = detail.plan.steps[-1]
    plan = type(detail.plan)(
        source=detail.plan.source,
        steps=(*detail.plan.steps[:-1], type(plan_step)(evil, evil, title=evil)),
        variables={evil: {evil: evil}},
        origins={evil: evil},
    )
    artifact = dataclasses.replace(detail.artifacts[0], name=evil, media_type=evil)
    run = dataclasses.replace(detail.run, reason=evil, created_by_login=evil, source_date=evil)
    order = dataclasses.replace(
        detail.order, source_path=evil, variation=evil, created_by_login=evil, origin=evil
    )
    world.add_run(
        dataclasses.replace(
            detail,
            run=run,
            order=order,
            plan=plan,
            steps=(*detail.steps[:-1], step),
            artifacts=(artifact,),
        )
    )
    world.write_log(
        run.id, step.attempts[0].id, [f"2026-11-23T22:58:00.000000Z O {evil.splitlines()[0]}"]
    )
    world.write_log(
        run.id,
        detail.steps[0].attempts[0].id,
        [f"2026-11-23T22:58:00.000000Z I {evil.splitlines()[0]}"],
    )
    for path in ("/runs", f"/runs/{run.uuid}", f"/runs/{run.uuid}/live"):
        ada.get(path)  # each page is checked to be inert
    ada.get("/runs", params={"recipe": evil, "kitchen": evil, "state": evil})
    ada.get(f"/runs/{run.uuid}", params={"step": evil, "level": evil, "steps": evil})
    shown = html.unescape(ada.get(f"/runs/{run.uuid}").text)
    assert shown.count(plain_text(evil)) >= 10
    _, found = read_stream(
        world, ada.cookies["galley"], f"/runs/{run.uuid}/stream?level=debug", until="log"
    )
    assert [name for name, _id, _data in found] == ["hello", "log"]
    assert inert.faults_of(found[-1][2]) == []
