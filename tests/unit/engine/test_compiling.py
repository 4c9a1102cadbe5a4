import hashlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest

from galley.core.errors import Refused, Unavailable
from galley.core.recipes.templates import TEMPLATES
from galley.core.runs.ports import CompileRequest
from galley.engine import compiling
from galley.engine.compilechild import Limit, limit_of
from galley.engine.compiling import ChildCompiler

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
DOUBLING = (
    "{% set n = namespace(x='0123456789') %}"
    "{% for a in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
)


def wish(files: dict[str, bytes], variation: str = "variation1", **more: Any) -> CompileRequest:
    facts: dict[str, Any] = {
        "kind": "recipe",
        "project": "main/recipes",
        "branch": "dev",
        "commit": "c1",
        "tree": hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest(),
        "path": "rec",
        "levels": (),
        "system": {"kitchen": "dev", "now": datetime(2026, 11, 23, tzinfo=UTC)},
        **more,
    }
    return CompileRequest(variation=variation, files=files, **facts)


def template(name: str = "qs2") -> dict[str, bytes]:
    return TEMPLATES[name]("rec", "a recipe")


@pytest.fixture(scope="module")
def warm() -> Iterator[ChildCompiler]:
    with ChildCompiler(deadline_s=240) as compiler:
        yield compiler


def child_of(compiler: ChildCompiler) -> psutil.Process:
    assert compiler._process is not None
    return psutil.Process(compiler._process.pid)


def test_a_recipe_is_compiled_in_another_process(warm: ChildCompiler) -> None:
    compiled = warm.compile(wish(template()))
    assert [step.key for step in compiled.plan.steps] == ["load_orders"]
    assert compiled.plan.variables["minimum_rows"] == 5
    assert child_of(warm).ppid() == os.getpid()
    assert child_of(warm).num_threads() == 1


def test_faults_come_back_with_all_their_issues(warm: ChildCompiler) -> None:
    files = {**template("qs1"), "placeholder-node1/notebook.json": b"{", "variables.json": b"["}
    with pytest.raises(Refused) as caught:
        warm.compile(wish(files))
    assert [issue.file for issue in caught.value.issues] == [
        "variables.json",
        "placeholder-node1/notebook.json",
    ]
    assert "variables.json" in caught.value.message
    assert list(warm.check(wish(files))) == list(caught.value.issues)
    assert list(warm.check(wish(template()))) == []


def test_a_text_is_rendered_with_values_of_every_kind(warm: ChildCompiler) -> None:
    values = {"a": [1, {"b": None}], "now": datetime(2026, 11, 23, tzinfo=UTC), "t": "{{a}}"}
    text = "{{a}} {{date_format(now, '%Y')}} {{t}}"
    assert warm.render(text, values) == '[1, {"b": null}] 2026 {{a}}'
    with pytest.raises(Refused, match="nobody is not defined"):
        warm.render("{{nobody}}", {})


def test_equal_requests_are_compiled_once(warm: ChildCompiler) -> None:
    first = warm.compile(wish(template()))
    assert warm.compile(wish(template())) is first
    later = {"kitchen": "dev", "now": datetime(2027, 1, 1, tzinfo=UTC)}
    assert warm.compile(wish(template(), system=later)) is first
    assert warm.compile(wish(template(), commit="c2")).plan.source.commit == "c2"


@pytest.mark.parametrize(
    "change",
    [
        {"variation": "variation1", "levels": (("parameter", {"minimum_rows": 9}),)},
        {"tree": "t2"},
        {"path": "other"},
        {"system": {"kitchen": "prod"}},
        {"only_steps": ("load_orders",)},
    ],
)
def test_other_requests_are_compiled_anew(warm: ChildCompiler, change: dict[str, Any]) -> None:
    first = warm.compile(wish(template()))
    assert warm.compile(wish(template(), **change)) is not first


def test_another_file_is_another_plan(warm: ChildCompiler) -> None:
    changed = template()
    changed["load_orders/notebook.json"] = changed["load_orders/notebook.json"].replace(
        b"orders.parquet", b"other.parquet"
    )
    assert warm.compile(wish(changed)) != warm.compile(wish(template()))


def test_a_plan_with_the_present_moment_is_not_kept(warm: ChildCompiler) -> None:
    files = template("qs1")
    files["variables.json"] = b'{"variable-list": {"year": "{{date_format(now, \'%Y\')}}"}}'
    assert warm.compile(wish(files)).plan.variables["year"] == "2026"
    later = {"kitchen": "dev", "now": datetime(2027, 1, 1, tzinfo=UTC)}
    assert warm.compile(wish(files, system=later)).plan.variables["year"] == "2027"


@pytest.mark.parametrize("bomb", [LOOP, DOUBLING])
def test_a_template_without_end_is_refused_by_name(bomb: str) -> None:
    files = {**template("qs1"), "placeholder-node2/notebook.json": f'{{"a": "{bomb}"}}'.encode()}
    with ChildCompiler(cpu_s=0.3, deadline_s=240, memory_mb=64) as compiler:
        with pytest.raises(Refused) as caught:
            compiler.compile(wish(files))
        assert "template" in caught.value.message
        assert caught.value.issues[0].file == "placeholder-node2/notebook.json"
        issues = compiler.check(wish(files))
        assert [issue.file for issue in issues] == ["placeholder-node2/notebook.json"]
        assert compiler.render("{{a}}", {"a": 1}) == "1"


def test_the_stated_limit_stands_in_the_message() -> None:
    compiler = ChildCompiler(cpu_s=0.5, deadline_s=240)
    with compiler, pytest.raises(Refused, match=r"took more than 0\.5 s"):
        compiler.render(LOOP, {})


def test_the_deadline_kills_a_compilation_and_leaves_nothing_behind() -> None:
    with ChildCompiler(cpu_s=60, deadline_s=0.5) as compiler:
        with pytest.raises((Refused, Unavailable)) as caught:
            compiler.render(LOOP, {})
        assert "took more than" in caught.value.message or "too busy" in caught.value.message
        forks = child_of(compiler).children()
        gone, alive = psutil.wait_procs(forks, timeout=240)
        assert not alive, gone


def test_a_compilation_that_is_killed_once_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with ChildCompiler(cpu_s=60, deadline_s=240) as compiler:
        kill_forks(monkeypatch, compiler, 1)
        assert compiler.render("{{ a }}", {"a": 1}) == "1"


def test_nobody_blames_a_recipe_for_compilations_that_are_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ChildCompiler(cpu_s=60, deadline_s=240) as compiler:
        kill_forks(monkeypatch, compiler, 2)
        with pytest.raises(Unavailable, match="was killed or crashed, twice"):
            compiler.render("{{ a }}", {"a": 1})


def kill_forks(monkeypatch: pytest.MonkeyPatch, compiler: ChildCompiler, count: int) -> None:
    """Have that many forks die before they hear what to do."""
    compiler.start()
    send, left = compiling._Watch.send, iter(range(count))

    def kill_and_send(watch: compiling._Watch, frame: bytes) -> None:
        if next(left, None) is not None:
            assert watch._fork is not None
            signal.pidfd_send_signal(watch._fork, signal.SIGKILL)
        send(watch, frame)

    monkeypatch.setattr(compiling._Watch, "send", kill_and_send)


def test_large_sources_get_more_time_and_memory() -> None:
    small = Limit()
    assert limit_of(small, 999) == small
    large = limit_of(small, 40_000)
    assert large.cpu_s > small.cpu_s
    assert large.deadline_s > small.deadline_s
    assert large.memory_mb > small.memory_mb


def test_a_child_that_died_is_started_again() -> None:
    with ChildCompiler(deadline_s=240) as compiler:
        first = child_of(compiler)
        first.send_signal(signal.SIGKILL)
        assert compiler.render("{{a}}", {"a": 1}) == "1"
        assert child_of(compiler).pid != first.pid


def test_many_threads_share_one_child(warm: ChildCompiler) -> None:
    found: dict[int, str] = {}

    def render(number: int) -> None:
        found[number] = warm.render("{{a}}", {"a": number})

    threads = [threading.Thread(target=render, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: str(number) for number in range(12)}


def test_the_end_closes_the_child() -> None:
    compiler = ChildCompiler()
    compiler.start()
    child = child_of(compiler)
    compiler.close()
    assert not child.is_running()
    with pytest.raises(Unavailable):
        compiler.render("x", {})


def test_the_child_leaves_when_the_server_is_gone() -> None:
    compiler = ChildCompiler()
    compiler.start()
    child = child_of(compiler)
    assert compiler._control is not None
    compiler._control.close()
    assert child.wait(timeout=240) == 0
    compiler.close()


@pytest.mark.parametrize("has_heard", [False, True])
def test_a_child_whose_server_went_while_it_started_leaves_without_a_word(has_heard: bool) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        child = subprocess.Popen(
            [sys.executable, "-m", compiling.__name__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    if has_heard:
        assert select.select([ours], [], [], 240)[0]  # and leaves it unread
    ours.close()
    assert (child.communicate(timeout=240)[0], child.returncode) == (b"", 0)


def test_values_that_no_message_can_hold_are_refused(warm: ChildCompiler) -> None:
    for value in (2**80, object(), "\ud800"):
        with pytest.raises(Refused, match="cannot be used"):
            warm.compile(wish(template(), levels=(("parameter", {"a": value}),)))


def test_files_that_are_no_source_may_be_large(warm: ChildCompiler) -> None:
    files = {**template(), "resources/big.csv": b"x" * 3_000_000}
    assert warm.compile(wish(files)).plan.steps
    files["variables.json"] = b" " * 3_000_000
    with pytest.raises(Refused, match="larger than"):
        warm.compile(wish(files))


def test_the_child_gets_none_of_the_servers_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GALLEY_SECRET_KEY", "top-secret")
    with ChildCompiler() as compiler:
        assert "GALLEY_SECRET_KEY" not in child_of(compiler).environ()


def test_files_are_shown_by_another_process(warm: ChildCompiler) -> None:
    files = template() | {"resources/x.sql": b"{{CurrentKitchen}} {{CurrentOrderId}}"}
    shown = {file.path: file for file in warm.show(wish(files))}
    assert set(shown) == set(files)
    assert shown["resources/x.sql"].text == "dev {{CurrentOrderId}}"
    assert shown["variations.json"].is_document
    assert warm.show_file(wish(files), "resources/x.sql").text == "dev {{CurrentOrderId}}"
    assert warm.list_variations(wish(files)) == ("variation1",)


@pytest.mark.parametrize("source", [LOOP, DOUBLING])
def test_a_shown_file_that_takes_too_much_is_refused_by_name(source: str) -> None:
    files = template() | {"resources/x.sql": source.encode()}
    with ChildCompiler(cpu_s=0.5, deadline_s=60, memory_mb=128) as compiler:
        shown = compiler.show_file(wish(files), "resources/x.sql")
        assert shown.text is None
        assert shown.fault.startswith("resources/x.sql: ")
        if source == LOOP:
            with pytest.raises(Refused, match=r"resources/x\.sql took more than"):
                compiler.show(wish(files))
        else:  # nothing uses the file
            assert {file.path: file.text for file in compiler.show(wish(files))}[
                "resources/x.sql"
            ] is None


def test_a_step_that_doubles_is_refused_by_name_when_shown() -> None:
    files = template() | {"load_orders/notebook.json": DOUBLING.encode()}
    with (
        ChildCompiler(cpu_s=5, deadline_s=60, memory_mb=128) as compiler,
        pytest.raises(Refused, match=r"load_orders/notebook\.json"),
    ):
        compiler.show(wish(files))


def test_faults_are_told_when_files_are_shown(warm: ChildCompiler) -> None:
    with pytest.raises(Refused, match="has no variation 'nope'") as caught:
        warm.show(wish(template(), "nope"))
    assert caught.value.issues
    with pytest.raises(Refused, match="has no variation 'nope'"):
        warm.show_file(wish(template(), "nope"), "load_orders/notebook.json")
    broken = template() | {"resources/x.sql": b"{{ nope( }}"}
    assert warm.show_file(wish(broken), "resources/x.sql").fault.startswith("resources/x.sql: ")
