import dataclasses
import html
from datetime import timedelta

import msgspec
import pytest

from galley.core.projects.models import Kitchen
from galley.core.runs import messages as msg
from galley.core.runs.states import RunState
from galley.kit.ids import uuid_of
from galley.storage.blobs import BlobsAway
from galley.web import streams

from . import samples
from .conftest import Browser
from .streaming import read_stream

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def add_list(world, count=3, **changes):
    for number in range(count):
        detail = samples.run_detail(RunState.SUCCEEDED)
        shift = 1000 * (number + 1)
        run = dataclasses.replace(
            detail.run,
            **{
                "id": number + 1,
                "uid": samples.uid(number + 1),
                "order_id": number + 1,
                "order_uid": samples.uid(7000 + number),
                "kitchen": "master",
                **changes,
            },
        )
        order = dataclasses.replace(detail.order, kitchen=run.kitchen)
        steps = tuple(
            dataclasses.replace(
                step,
                id=step.id + shift,
                attempts=tuple(dataclasses.replace(a, id=a.id + shift) for a in step.attempts),
            )
            for step in detail.steps
        )
        world.add_run(dataclasses.replace(detail, run=run, order=order, steps=steps, artifacts=()))


@pytest.fixture
def run(world):
    world.add_kitchen("production")
    detail = samples.run_detail(RunState.RUNNING)
    world.add_run(detail)
    return detail.run


def test_an_empty_list_teaches_how_to_order(ada):
    page = ada.get("/runs").text
    assert "No runs yet" in page
    assert "galley connect dk --url http://127.0.0.1:8080 --user ada@example.org" in page
    for step in ("kitchen-create -p master", "recipe-create -k sprint1", "order-run -y"):
        assert f"dk {step}" in page
    assert "http://127.0.0.1:8080/v2/order/create/sprint1/orders/variation1" in page
    assert page.count("data-copy=") == 3


def test_the_list_shows_runs_newest_first_in_pages(world, ada):
    add_list(world, 51)
    first = ada.get("/runs").text
    assert first.count('id="run-') == 50
    assert first.index(samples.run_view(51, RunState.SUCCEEDED).uuid) < first.index(
        samples.run_view(50, RunState.SUCCEEDED).uuid
    )
    assert "1&ndash;50 of 51" in first
    second = ada.get("/runs?page=2").text
    assert second.count('id="run-') == 1
    assert 'rel="prev" href="/runs"' in second
    assert 'rel="next"' not in second


def test_filters_narrow_the_list_and_survive_in_links(world, ada):
    add_list(world, 2)
    add = ada.get("/runs?state=succeeded&recipe=flights&kitchen=master").text
    assert add.count('id="run-') == 2
    none = ada.get("/runs", params={"state": "failed", "recipe": EVIL}).text
    assert "No run matches" in none
    assert EVIL not in none
    assert "%3Cscript%3E" in none
    assert ada.get("/runs?kitchen=elsewhere").text.count('id="run-') == 0


@pytest.mark.parametrize("query", ["state=nonsense", "page=-1", "page=x", "page=²", "page=0"])
def test_a_strange_address_shows_the_whole_list(world, ada, query):
    add_list(world, 1)
    answer = ada.get(f"/runs?{query}")
    assert answer.status_code == 200
    assert answer.text.count('id="run-') == 1


def test_a_renewal_gets_the_list_alone(world, ada):
    add_list(world, 1)
    part = ada.get("/runs", headers={"hx-request": "true"}).text
    assert part.strip().startswith('<div id="runs"')
    assert "<html" not in part


def test_a_closed_kitchens_runs_are_not_there_for_others(world, ada, run):
    world.add_user("bob@example.org", roles=("member",))
    world.add_kitchen("secret", staff=["ada@example.org"])
    add_list(world, 1, kitchen="secret")
    hidden = samples.run_view(1, RunState.SUCCEEDED).uuid
    assert ada.get(f"/runs/{hidden}").status_code == 200
    with Browser(world.app) as bob:
        bob.sign_in("bob@example.org")
        listed = bob.get("/runs").text
        assert run.uuid in listed
        assert hidden not in listed
        for path in ("", "/live", "/log", "/stream", "/artifacts/1"):
            assert bob.get(f"/runs/{hidden}{path}").status_code == 404
        assert bob.submit(f"/runs/{hidden}/stop").status_code == 404


@pytest.mark.parametrize("name", ["x", "0193", "%20", "1", "Z" * 26])
def test_an_unknown_run_is_not_found(ada, name):
    assert ada.get(f"/runs/{name}").status_code == 404


def test_a_runs_page_has_graph_steps_checks_artefacts_and_variables(ada, run):
    page = ada.get(f"/runs/{run.uuid}").text
    assert page.count('class="node tone-') == len(samples.GRAPH)
    assert page.count("<tr id=") == len(samples.GRAPH)
    assert "dep_delay_null_rate" in page
    assert "report.html" in page
    assert "vault://flights/postgres/password" in page
    assert run.uuid in page
    assert "ada@example.org" in page


def test_a_runs_page_tells_the_warnings_of_its_recipe(world, ada):
    world.add_kitchen("production")
    detail = samples.run_detail(RunState.SUCCEEDED)
    assert "to look at" not in ada.get("/runs").text
    told = ((f"a/{EVIL}.json", "`tets` is not known here"), ("b", EVIL))
    plan = msgspec.structs.replace(detail.plan, warnings=told)
    world.add_run(dataclasses.replace(detail, plan=plan))
    page = ada.get(f"/runs/{detail.run.uuid}").text
    assert "2 things to look at" in page
    assert "`tets` is not known here" in page
    assert EVIL not in page


def test_a_runs_page_tells_which_alerts_were_not_sent(world, ada, run):
    assert 'id="alerts"' not in ada.get(f"/runs/{run.uuid}").text
    lost = {"to": "ann@example.org", "state": "dead", "tries": 0, "last_error": f"No server {EVIL}"}
    world.add_alert(run, "failure", **lost)
    page = ada.get(f"/runs/{run.uuid}").text
    assert 'id="alerts"' in page
    assert "ann@example.org" in page
    assert "no, given up" in page
    assert "No server" in page
    assert EVIL not in page


def test_a_page_of_a_run_that_goes_on_listens_and_can_stop_it(world, ada, run):
    page = ada.get(f"/runs/{run.uuid}").text
    assert f'data-live="/runs/{run.uuid}/stream' in page
    assert f'action="/runs/{run.uuid}/stop"' in page
    assert "/resume" not in page
    done = ada.submit(f"/runs/{run.uuid}/stop")
    assert done.headers["location"] == f"/runs/{run.uuid}?done=stopping"
    (message,) = world.writer.messages
    assert isinstance(message, msg.StopRun)
    assert message.run_id == run.id


@pytest.mark.parametrize(("paused", "act"), [(False, "pause"), (True, "unpause")])
def test_a_run_is_paused_and_goes_on_from_its_page(world, ada, paused, act):
    world.add_kitchen("production")
    run = samples.run_detail(RunState.RUNNING, paused=paused).run
    world.add_run(samples.run_detail(RunState.RUNNING, paused=paused))
    page = ada.get(f"/runs/{run.uuid}").text
    other = "pause" if paused else "unpause"
    assert f'action="/runs/{run.uuid}/{act}"' in page
    assert f'action="/runs/{run.uuid}/{other}"' not in page
    done = ada.submit(f"/runs/{run.uuid}/{act}")
    assert done.headers["location"] == f"/runs/{run.uuid}?done={act[:-1]}ing"
    assert world.writer.messages[0].paused is not paused


def test_a_guest_can_neither_pause_nor_stop_a_run(world, run):
    with world.database.writing() as session:
        kitchen = session.query(Kitchen).filter_by(name="production").one()
        kitchen.roles = {"bob@example.org": "Guest"}
    world.add_user("bob@example.org", roles=("member",))
    with Browser(world.app) as bob:
        bob.sign_in("bob@example.org")
        page = bob.get(f"/runs/{run.uuid}").text
        assert f'action="/runs/{run.uuid}/' not in page
        for act in ("pause", "unpause", "stop"):
            assert bob.submit(f"/runs/{run.uuid}/{act}").status_code == 403
    assert world.writer.messages == []


def test_a_failed_run_says_why_and_offers_to_resume(world, ada):
    world.add_kitchen("production")
    detail = samples.run_detail(RunState.FAILED)
    world.add_run(detail)
    page = ada.get(f"/runs/{detail.run.uuid}").text
    assert detail.run.reason in html.unescape(page)
    assert f'action="/runs/{detail.run.uuid}/resume"' in page
    assert "data-live" not in page


def test_a_renewal_of_a_run_gets_the_parts_without_the_log(ada, run):
    part = ada.get(f"/runs/{run.uuid}/live", headers={"hx-request": "true"}).text
    for name in ("run-head", "run-state", "run-rest"):
        assert f'id="{name}"' in part
    assert part.count('hx-swap-oob="outerMorph"') == 3
    assert "log-lines" not in part


LINES = [
    "2026-11-23T22:58:00.000000Z I first",
    "2026-11-23T22:58:01.000000Z D noise",
    "2026-11-23T22:58:02.000000Z E broken",
]


def test_the_log_is_shown_by_level_and_step(world, ada, run):
    world.write_log(run.id, 100, LINES)
    world.write_log(run.id, 101, ["2026-11-23T22:58:00.500000Z O other"])
    page = ada.get(f"/runs/{run.uuid}").text
    assert page.index(">first<") < page.index(">other<") < page.index(">broken<")
    assert ">noise<" not in page
    only = ada.get(f"/runs/{run.uuid}?step=load_flights&level=debug").text
    assert ">noise<" in only
    assert ">other<" not in only
    assert ">first<" not in ada.get(f"/runs/{run.uuid}?level=error").text


def test_the_whole_log_comes_as_a_file_in_ranges(world, ada, run):
    world.write_log(run.id, 100, LINES)
    world.write_log(run.id, 101, LINES[:1])
    whole = ada.get(f"/runs/{run.uuid}/log")
    assert whole.headers["content-disposition"].startswith("attachment")
    assert whole.text.startswith("==> load_flights, attempt 1 <==\n" + LINES[0])
    assert "==> load_weather, attempt 2 <==" in whole.text
    one = ada.get(f"/runs/{run.uuid}/log?attempt=100")
    assert one.text == "\n".join(LINES) + "\n"
    part = ada.get(f"/runs/{run.uuid}/log?attempt=100", headers={"range": "bytes=0-9"})
    assert (part.status_code, part.text) == (206, "2026-11-23")
    assert ada.get(f"/runs/{run.uuid}/log?step=nonsense").status_code == 404
    assert ada.get(f"/runs/{run.uuid}/log?attempt=999").status_code == 404


def test_artefacts_are_attachments_whatever_they_claim_to_be(world, ada):
    world.add_kitchen("production")
    content = b"<script>alert(1)</script>"
    sha = world.services.blobs.put(content)
    detail = samples.run_detail(RunState.SUCCEEDED)
    artifact = dataclasses.replace(detail.artifacts[0], sha256=sha, size_bytes=len(content))
    world.add_run(dataclasses.replace(detail, artifacts=(artifact,)))
    answer = ada.get(f"/runs/{detail.run.uuid}/artifacts/{artifact.id}")
    assert answer.content == content
    assert answer.headers["content-disposition"].startswith('attachment; filename="report.html"')
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert ada.get(f"/runs/{detail.run.uuid}/artifacts/999").status_code == 404


def test_an_artefact_whose_content_is_lost_or_out_of_reach_is_told_before_it_begins(
    world, ada, monkeypatch
):
    world.add_kitchen("production")
    detail = samples.run_detail(RunState.SUCCEEDED)
    artifact = dataclasses.replace(detail.artifacts[0], sha256="0" * 64, size_bytes=5)
    world.add_run(dataclasses.replace(detail, artifacts=(artifact,)))
    place = f"/runs/{detail.run.uuid}/artifacts/{artifact.id}"
    answer = ada.get(place)
    assert answer.status_code == 404
    assert "report.html is lost" in answer.text

    def away(_self, _sha256):
        raise BlobsAway("The blob store s3://b cannot be used: refused")

    monkeypatch.setattr(type(world.services.blobs), "exists", away)
    answer = ada.get(place)
    assert answer.status_code == 503
    assert "store of results does not answer" in answer.text


def finish(world, run):
    from galley.core.runs import models

    with world.database.connection() as connection:
        connection.execute(
            models.runs.update()
            .where(models.runs.c.id == run.id)
            .values(state="succeeded", finished_at=world.clock.now())
        )
    world.add_event(2, run.id, "run.finished", world.clock.now())


def test_a_run_streams_its_log_its_changes_and_its_end(world, ada, run):
    world.add_event(1, run.id, "run.started", run.started_at)
    world.write_log(run.id, 100, LINES[:1])

    def act(found):
        if len(found) == 3:
            world.write_log(run.id, 100, [LINES[2]])
            finish(world, run)
            world.feed.ring(run.id)

    status, found = read_stream(
        world, ada.cookies["galley"], f"/runs/{run.uuid}/stream", until="end", act=act
    )
    assert status == 200
    names = [name for name, _id, _data in found]
    assert names[:3] == ["hello", "log", "change"]
    assert names[-1] == "end"
    logged = "".join(data for name, _id, data in found if name == "log")
    assert logged.count(">first<") == 1
    assert logged.count(">broken<") == 1
    assert world.feed.listeners == []
    assert world.services.streams.count() == 0


def test_a_stream_goes_on_behind_the_last_event_id(world, ada, run):
    world.add_event(1, run.id, "run.started", run.started_at)
    world.write_log(run.id, 100, LINES)
    _, first = read_stream(world, ada.cookies["galley"], f"/runs/{run.uuid}/stream", until="change")
    last_id = first[-1][1]
    assert last_id.startswith("1;")
    finish(world, run)
    _, second = read_stream(
        world,
        ada.cookies["galley"],
        f"/runs/{run.uuid}/stream",
        until="end",
        headers=[("last-event-id", last_id)],
    )
    assert [name for name, _id, _data in second] == ["hello", "change", "end"]


@pytest.mark.parametrize("last_id", ["x", "9" * 40, "1;<script>", "-1;"])
def test_a_foreign_last_event_id_reads_from_the_beginning(world, ada, run, last_id):
    world.write_log(run.id, 100, LINES[:1])
    _, found = read_stream(
        world,
        ada.cookies["galley"],
        f"/runs/{run.uuid}/stream",
        until="log",
        headers=[("last-event-id", last_id)],
    )
    assert ">first<" in found[-1][2]


def test_a_stream_ends_when_its_watcher_signs_out(world, ada, run, monkeypatch):
    monkeypatch.setattr(streams, "RECHECK_S", 0.0)
    cookie = ada.cookies["galley"]

    def act(found):
        if len(found) == 1:
            ada.submit("/sign-out")

    status, found = read_stream(world, cookie, f"/runs/{run.uuid}/stream", until="none", act=act)
    assert status == 200
    assert found[0][0] == "hello"
    assert world.services.streams.count() == 0


def test_the_lists_stream_tells_of_changes_and_ends_with_the_server(world, ada, monkeypatch):
    monkeypatch.setattr(streams, "RECHECK_S", 0.05)

    def act(found):
        if len(found) == 2:
            world.feed.ring(1)
        if len(found) == 3:
            world.services.streams.close()

    status, found = read_stream(world, ada.cookies["galley"], "/runs/stream", until="none", act=act)
    assert status == 200
    assert [name for name, _id, _data in found] == ["hello", "change", "change"]
    assert world.feed.listeners == []


def test_streams_need_a_session_and_a_place(world, ada, run):
    status, _ = read_stream(world, "stranger", f"/runs/{run.uuid}/stream", until="none")
    assert status == 401
    held = [world.services.streams.hold("user:1") for _ in range(50)]
    for place in held:
        place.__enter__()
    status, _ = read_stream(world, ada.cookies["galley"], "/runs/stream", until="none")
    assert status == 429


def test_a_resumed_run_links_both_ways(world, ada):
    world.add_kitchen("production")
    detail = samples.run_detail(RunState.FAILED, resumed_by=7)
    world.add_run(detail)
    add_list(world, 1, id=7, uid=samples.uid(77), resumed_from=detail.run.id)
    old, new = detail.run.uuid, uuid_of(samples.uid(77))
    assert f'href="/runs/{new}"' in ada.get(f"/runs/{old}").text
    assert f'href="/runs/{old}"' in ada.get(f"/runs/{new}").text
    assert f'action="/runs/{old}/resume"' not in ada.get(f"/runs/{old}").text


def test_hours_in_the_future_break_nothing(world, ada, run):
    world.clock.advance(-timedelta(days=2).total_seconds())
    assert ada.get("/runs").status_code == 200


def test_a_run_outlives_its_kitchen_for_administrators(world, ada):
    add_list(world, 1, kitchen="gone")
    uuid = samples.run_view(1, RunState.SUCCEEDED).uuid
    assert uuid in ada.get("/runs").text
    assert ada.get(f"/runs/{uuid}").status_code == 200
    world.add_user("bob@example.org", roles=("member",))
    with Browser(world.app) as bob:
        bob.sign_in("bob@example.org")
        assert uuid not in bob.get("/runs").text
        assert bob.get(f"/runs/{uuid}").status_code == 404


def test_the_log_of_a_failed_run_marks_the_line_of_the_step_that_failed(world, ada):
    world.add_kitchen("production")
    detail = samples.run_detail(RunState.FAILED)
    world.add_run(detail)
    place = f"/runs/{detail.run.uuid}"
    assert "first-error" not in ada.get(place).text
    overcome, failed = (
        next(s.attempts[0].id for s in detail.steps if s.key == key)
        for key in ("load_flights", "gate_quality")
    )
    world.write_log(detail.run.id, overcome, ["2026-11-23T22:58:00.000000Z E tried again"])
    assert '<div class="ll lv-error" id="first-error">' in ada.get(place).text
    world.write_log(detail.run.id, failed, ["2026-11-23T22:58:01.000000Z E the null rate"])
    page = ada.get(place).text
    assert page.count('id="first-error"') == 1
    marked = page.split('id="first-error"')[1].split("</div>")[0]
    assert "the null rate" in marked
    assert 'href="#first-error"' in page
