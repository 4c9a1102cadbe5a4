"""What becomes of single attempts: outcomes, logs, usage, failures with a reason."""

import errno
import json
import os
import re
import signal
import stat

import pytest

from galley.core.errors import Unavailable
from galley.core.runs.plan import Limits
from galley.core.runs.task import Outcome
from galley.engine.executors.local import claims, messages, processes

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z [DIWEO] .*")


def test_a_step_succeeds_in_a_process_of_its_own(bench):
    outcome = bench.run("noop")
    assert outcome.state == "succeeded"
    assert bench.recorder.kinds("one") == ["started", "finished"]
    started = bench.recorder.of("one")[0]
    assert started[2] == 7
    assert started[3] == {"pid": outcome.exports["pid"]}
    assert outcome.exports["pid"] != os.getpid()
    assert outcome.timings == {"notebook": 0.5}


def test_the_outcome_tells_what_was_used(bench):
    usage = bench.run("noop").usage
    assert set(usage) == {"max_rss_mb", "user_s", "system_s", "wall_s"}
    assert usage["max_rss_mb"] > 5


def test_the_log_has_one_stamped_line_for_each_line(bench):
    bench.run("talk", body={"text": "first\nsecond \x1b[31mred\x1b[0m \x07", "level": "warning"})
    lines = bench.log().splitlines()
    assert all(LINE.fullmatch(line) for line in lines), lines
    assert [line[28:] for line in lines] == [
        "W first", "W second red \\x07", "O printed", "O without an end"
    ]  # fmt: skip


def test_control_files_are_private(bench):
    bench.run("noop")
    assert stat.S_IMODE(bench.file("one", "").stat().st_mode) == 0o700
    assert stat.S_IMODE(bench.file("one", "exit.json").stat().st_mode) == 0o600
    claim = json.loads(bench.file("one", "pid").readlink().name)
    assert claim["pid"] == bench.recorder.outcome("one").exports["pid"]
    assert claim["started"] > 0
    left = sorted(p.name for p in bench.file("one", "").iterdir())
    assert left == ["exit.json", "pid"]


@pytest.mark.parametrize(
    ("kind", "reason", "retryable"),
    [
        ("invalid", "The key `x` is missing in f.json.", False),
        ("unavailable", "The database rests.", True),
        ("exit", "the step's code called exit(3)", True),
        ("other", "KeyError: 'other'", True),
        ("nothing", "the step's code returned NoneType, no outcome", True),
    ],
)
def test_what_a_step_raises_is_its_reason(bench, kind, reason, retryable):
    outcome = bench.run("raise", body={"kind": kind})
    assert (outcome.state, outcome.reason, outcome.retryable) == ("failed", reason, retryable)


def test_a_traceback_goes_to_the_log_only(bench):
    outcome = bench.run("raise", body={"kind": "other"})
    assert "Traceback" not in outcome.reason
    assert "E Traceback (most recent call last):" in bench.log()


@pytest.mark.parametrize("secrets", [{}, {"vault://one": "a secret"}])
def test_what_no_database_keeps_is_shown_as_a_box(bench, secrets):
    outcome = bench.run("spoil", secrets=secrets)
    assert outcome.reason == "no file a\ufffdb\ufffdc"
    assert outcome.exports == {"x\ufffd": ["\\u0000", "\ufffd"]}
    assert (outcome.checks[0].name, outcome.checks[0].text) == ("c\ufffd", "got \ufffd")


def test_secrets_reach_the_step_and_nothing_else(bench):
    secret = "s3cret/with+signs\nand a second line"
    outcome = bench.run("reveal", secrets={"vault://one": secret})
    kept = bench.log() + bench.file("one", "exit.json").read_text() + repr(outcome)
    for part in ("s3cret", "second line"):
        assert part not in kept
    assert outcome.exports == {"x": ["[masked]", 7]}
    assert outcome.checks[0].text == "got [masked]"


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGKILL, "killed by signal 9 (SIGKILL): out of memory or an operator"),
        (signal.SIGSEGV, "killed by signal 11 (SIGSEGV): a crash in native code"),
    ],
)
def test_a_process_that_dies_by_a_signal_is_lost(bench, number, reason):
    bench.executor.submit(bench.task("one", "die", body={"number": int(number)}))
    assert bench.recorder.wait("one") == ("lost", f"the step's process was {reason}")
    assert bench.log().splitlines()[-1].endswith(f"E The step's process was {reason}.")


def test_a_process_that_exits_without_a_word_is_lost(bench):
    bench.executor.submit(bench.task("one", "exit", body={"code": 0}))
    kind, reason = bench.recorder.wait("one")
    assert kind == "lost"
    assert reason == "the step's process ended with exit status 0 and left no result"


def test_sigterm_from_outside_makes_an_attempt_lost(bench, tmp_path):
    body = {"at": str(tmp_path / "at"), "until": str(tmp_path / "never")}
    bench.executor.submit(bench.task("one", "wait", body=body))
    pid = bench.recorder.until(("started",), "one")[3]["pid"]
    os.kill(pid, signal.SIGTERM)
    kind, reason = bench.recorder.wait("one")
    assert kind == "lost"
    assert "signal 15" in reason


def test_a_repeated_key_is_ignored(own_bench):
    bench = own_bench
    bench.run("noop")
    bench.executor.submit(bench.task("one", "noop"))
    bench.run("noop", key="two")
    assert bench.recorder.kinds("one") == ["started", "finished"]


def test_another_executor_cannot_run_a_claimed_attempt(own_bench, make_bench):
    bench = own_bench
    first = bench.run("noop")
    other = make_bench()
    other.folder = bench.folder
    other.start()
    other.executor.submit(other.task("one", "noop", fence=8))
    assert other.recorder.outcome("one").exports == first.exports


def test_more_attempts_than_slots_wait(make_bench, tmp_path):
    bench = make_bench(slots=1).start()
    until = tmp_path / "go"
    body = {"at": str(tmp_path / "at"), "until": str(until)}
    bench.executor.submit(bench.task("first", "wait", body=body))
    bench.executor.submit(bench.task("second", "noop"))
    bench.recorder.until(("started",), "first")
    assert bench.recorder.of("second") == []
    until.touch()
    bench.recorder.outcome("second")
    kinds = [(event[0], event[1]) for event in bench.recorder.events]
    assert kinds.index(("finished", "first")) < kinds.index(("started", "second"))


def test_own_steps_have_a_memory_limit(bench):
    outcome = bench.run("hoard", body={"size_mb": 400}, limits=Limits(memory_mb=200))
    assert outcome.state == "failed"
    assert "limit of 200 MB of memory: raise `memory_mb`" in outcome.reason
    generous = bench.run("hoard", "two", body={"size_mb": 400}, limits=Limits(memory_mb=600))
    assert generous.state == "succeeded"


def test_the_installations_memory_limit_holds_too(make_bench):
    bench = make_bench(limits=Limits(memory_mb=100)).start()
    assert "limit of 100 MB" in bench.run("hoard", body={"size_mb": 300}).reason
    raised = bench.run("hoard", "two", body={"size_mb": 300}, limits=Limits(memory_mb=600))
    assert raised.state == "succeeded"


def test_own_steps_have_a_processor_limit(bench):
    outcome = bench.run("spin", limits=Limits(cpu_s=1))
    assert outcome.state == "failed"
    assert "limit of 1 s of processor time: raise `cpu_s`" in outcome.reason


def test_duckdb_is_preloaded_without_a_thread(make_bench):
    bench = make_bench(preload=["duckdb"]).start()
    assert bench.run("query").exports == {"total": 499500}


def test_the_template_shows_nothing_of_the_servers_environment(make_bench, monkeypatch):
    monkeypatch.setenv("GALLEY_SECRET_KEY", "key")
    monkeypatch.setenv("DB_PASSWORD", "word")
    bench = make_bench().start()
    names = ["GALLEY_SECRET_KEY", "DB_PASSWORD"]
    assert bench.run("show", body={"names": names}).exports == dict.fromkeys(names)


def test_capabilities_name_slots_tags_and_walls(bench):
    told = bench.executor.capabilities()
    assert (told.name, told.slots, told.tags) == ("local", 4, frozenset({"local"}))
    open_words = "no bubblewrap: files and network open; against mistakes, not hostile code"
    assert open_words in told.isolation


def test_it_serves_once(bench):
    with pytest.raises(Unavailable):
        bench.executor.start(bench.recorder)


def test_a_run_step_that_is_not_there_is_told_to_who_waits(make_bench):
    bench = make_bench(run_step="steps:no_such_thing").start()
    bench.executor.submit(bench.task("one", "noop"))
    kind, reason = bench.recorder.wait("one")
    assert kind == "never_ran"
    assert "cannot start" in reason
    assert "no_such_thing" in reason


def test_what_somebody_has_claimed_is_looked_for_though_no_template_starts(make_bench):
    bench = make_bench(run_step="steps:no_such_thing").start()
    task = bench.task("one", "noop")
    claims.claim(task.folder, 0, processes.Mark(2**22 - 1, 1, processes.boot_id()))
    messages.write_outcome(task.folder, Outcome(state="succeeded"))
    bench.executor.submit(task)
    assert bench.recorder.outcome("one").state == "succeeded"
    assert bench.executor.list_keys() == frozenset()


def test_a_lack_of_descriptors_holds_steps_up_and_loses_none(bench, monkeypatch):
    make, faults = os.memfd_create, iter([OSError(errno.EMFILE, "too many open files")] * 2)

    def fail_twice(*arguments):
        if (fault := next(faults, None)) is not None:
            raise fault
        return make(*arguments)

    monkeypatch.setattr(os, "memfd_create", fail_twice)
    for key in ("one", "two"):
        bench.executor.submit(bench.task(key, "noop"))
    assert [bench.recorder.outcome(key).state for key in ("one", "two")] == ["succeeded"] * 2


def test_a_task_that_does_not_arrive_is_refused(bench, monkeypatch):
    """The kernel may pass a message on without the memory file."""
    bench.run("noop")
    supervisor = bench.executor._supervisors[0]
    told, on_report = [], supervisor.on_report
    monkeypatch.setattr(supervisor, "on_report", lambda it: (told.append(it), on_report(it)))
    link = supervisor._template.link
    link._pass_on(messages.REQUEST.pack(1_000_000, 0))
    assert bench.run("noop", "two").state == "succeeded"
    assert (told[0].kind, told[0].serial) == (messages.REFUSED, 1_000_000)
    assert supervisor._template.link is link
