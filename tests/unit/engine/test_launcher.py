"""Tasks with all they need, faults as the attempt's end, kills that are never lost."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from galley.core.errors import GalleyError, Refused, Unavailable
from galley.core.runs import messages as msg
from galley.core.runs.live import LiveAttempt, LiveRun, LiveStep
from galley.core.runs.plan import Limits, Plan, Source, StepPlan
from galley.core.runs.states import AttemptState, StepState
from galley.core.runs.task import Outcome, Staged, Task
from galley.core.secrets.errors import VaultUnreachable
from galley.core.secrets.sealing import KeyMissing, SealBroken
from galley.engine import publishing
from galley.engine.executors.local import claims
from galley.engine.executors.local.processes import Mark
from galley.engine.folders import Folders
from galley.engine.launcher import Launcher
from galley.engine.publishing import Publisher
from galley.kit import files
from galley.kit.ids import new_uid
from galley.storage.blobs import BlobsAway, LocalBlobs, sha256_of
from galley.storage.git import GitStore

WAIT_S = 240


class Recorder:
    """Stands for the writer, the executor and the source store at once."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.submitted: list[Task] = []
        self.adopted: list[Task] = []
        self.cancelled: list[str] = []
        self.heard = threading.Event()
        self.may_check_out = threading.Event()
        self.may_check_out.set()
        self.is_checking_out = threading.Event()

    def send(self, message: Any) -> "Future[Any]":
        self.sent.append(message)
        self.heard.set()
        return Future()

    def submit(self, task: Task) -> None:
        self.submitted.append(task)
        self.heard.set()

    def adopt(self, task: Task, *, given_at: datetime | None = None) -> None:
        self.adopted.append(task)
        self.given_at = given_at

    def cancel(self, key: str, *, grace_s: float = 5.0) -> None:
        self.cancelled.append(key)
        self.heard.set()

    def repository(self, _project: str) -> "Recorder":
        return self

    def check_out(self, tree: str, into: Path) -> None:
        self.is_checking_out.set()
        assert self.may_check_out.wait(WAIT_S)
        into.mkdir(parents=True)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.recorder = Recorder()
        self.folders = Folders(folder)
        self.folders.make()
        self.blobs = LocalBlobs(folder / "blobs")
        self.secrets: Any = lambda _run, wanted: dict.fromkeys(wanted, "s3cret")
        self.looked_back: list[str] = []
        self.launcher = Launcher(
            writer=self.recorder,  # type: ignore[arg-type]
            executors={"local": self.recorder},  # type: ignore[dict-item]
            folders=self.folders,
            repositories=self.recorder,  # type: ignore[arg-type]
            blobs=self.blobs,
            secrets=self._secrets,
            history=self._history,
            timeout_s=3600,
            is_remote=lambda worker: worker == "far",
        )

    def _secrets(self, run: Any, wanted: Any) -> Any:
        return self.secrets(run, wanted)

    def _history(self, _run: Any, step_key: str) -> Any:
        self.looked_back.append(step_key)
        return {"notebook//rows": [1, 2]}

    def run(
        self,
        *,
        tree: str = "",
        worker: str = "local",
        run_limits: Limits = Limits(),  # noqa: B008 - it never changes
        **step: Any,
    ) -> Any:
        planned = StepPlan("a", **{"kind": "noop", **step})
        source = Source("recipe", "main/recipes", "rec", "v", tree=tree)
        attempt = LiveAttempt(7, 1, AttemptState.STARTING, 3, worker)
        live = LiveStep(5, 0, planned, attempt, StepState.RUNNING)
        run = LiveRun(
            id=2,
            uid=new_uid(),
            order_id=1,
            order_uid=new_uid(),
            project_id=1,
            kitchen="master",
            plan=Plan(
                source=source,
                steps=(planned,),
                variables={"limit": 3, "rows": 1},
                limits=run_limits,
            ),
            plan_id=1,
            steps={"a": live},
            created_at=datetime.now(UTC),
            work_id=2,
            exports={"rows": 9, "odd": "#{vault://from/data}"},
        )
        return run, live


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "data")
    yield made
    made.launcher.close()


def test_a_task_carries_variables_with_exports_above_the_plan_s(bench: Bench) -> None:
    bench.launcher.start(*bench.run())
    task = bench.recorder.submitted[0]
    assert (task.key, task.fence) == ("7", 3)
    assert (task.variables["limit"], task.variables["rows"]) == (3, 9)
    assert task.variables["NodeName"] == "a"
    assert task.work == str(bench.folders.run_work(2))


@pytest.mark.parametrize(
    ("own", "run_limits", "holds"),
    [
        (Limits(), Limits(), Limits()),
        (Limits(memory_mb=5), Limits(), Limits(memory_mb=5)),
        (Limits(), Limits(memory_mb=7, disk_mb=8), Limits(memory_mb=7, disk_mb=8)),
        (Limits(memory_mb=5), Limits(memory_mb=7, disk_mb=8), Limits(memory_mb=5, disk_mb=8)),
    ],
)
def test_a_step_s_own_limits_come_before_the_run_s(
    own: Limits, run_limits: Limits, holds: Limits, bench: Bench
) -> None:
    bench.launcher.start(*bench.run(limits=own, run_limits=run_limits))
    assert bench.recorder.submitted[0].limits == holds


@pytest.mark.parametrize(
    ("kind", "own", "holds"),
    [("action", None, 3600), ("script", None, 3600), ("action", 5.0, 5.0), ("noop", None, None)],
)
def test_a_step_without_a_time_has_the_installation_s_unless_it_only_waits(
    kind: str, own: float | None, holds: float | None, bench: Bench
) -> None:
    bench.launcher.start(*bench.run(kind=kind, timeout_s=own))
    assert bench.recorder.submitted[0].timeout_s == holds


def test_secrets_are_resolved_for_what_was_written_but_not_for_data(bench: Bench) -> None:
    bench.launcher.start(*bench.run(text={"notebook.json": '"#{vault://pg/password}"'}))
    assert bench.recorder.heard.wait(WAIT_S)
    assert bench.recorder.submitted[0].secrets == {"vault://pg/password": "s3cret"}


def test_a_missing_secret_ends_the_attempt_with_its_name(bench: Bench) -> None:
    def refuse(_run: Any, wanted: Any) -> Any:
        raise Refused(f"No such secret: {', '.join(wanted)}.")

    bench.secrets = refuse
    bench.launcher.start(*bench.run(text={"notebook.json": '"#{vault://pg/password}"'}))
    assert bench.recorder.heard.wait(WAIT_S)
    (sent,) = bench.recorder.sent
    assert sent.outcome.reason == "No such secret: vault://pg/password."
    assert not sent.outcome.retryable
    assert not bench.recorder.submitted


def test_the_tree_is_checked_out_once(bench: Bench) -> None:
    bench.launcher.start(*bench.run(tree="t1"))
    assert bench.recorder.heard.wait(WAIT_S)
    bench.recorder.is_checking_out.clear()
    bench.launcher.start(*bench.run(tree="t1"))
    assert len(bench.recorder.submitted) == 2
    assert not bench.recorder.is_checking_out.is_set()


def test_only_a_step_whose_checks_look_back_gets_a_history_and_none_when_adopted(
    bench: Bench,
) -> None:
    bench.launcher.start(*bench.run())
    assert bench.recorder.submitted.pop().history == {}
    bench.recorder.heard.clear()
    bench.launcher.start(*bench.run(keeps_history=True))
    assert bench.recorder.heard.wait(WAIT_S)
    assert bench.recorder.submitted[0].history == {"notebook//rows": [1, 2]}
    bench.launcher.adopt(*bench.run(keeps_history=True))
    assert bench.recorder.adopted[0].history == {}
    assert bench.looked_back == ["a"]


def test_a_kill_during_preparation_keeps_the_step_from_starting(bench: Bench) -> None:
    bench.recorder.may_check_out.clear()
    bench.launcher.start(*bench.run(tree="t1"))
    assert bench.recorder.is_checking_out.wait(WAIT_S)
    bench.launcher.kill(7, "local")
    bench.recorder.may_check_out.set()
    assert bench.recorder.heard.wait(WAIT_S)
    assert bench.recorder.sent == [
        msg.Finished(7, 3, Outcome(state="canceled", reason="never started"))
    ]
    assert not bench.recorder.submitted


def test_a_kill_follows_an_adoption(bench: Bench) -> None:
    bench.launcher.adopt(*bench.run(tree="t1"))
    bench.launcher.kill(7, "local")
    assert [task.key for task in bench.recorder.adopted] == ["7"]
    assert bench.recorder.cancelled == ["7"]


def test_a_repository_that_is_not_there_hands_the_step_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench.recorder, "repository", GitStore(tmp_path / "git").repository)
    bench.launcher.start(*bench.run(tree="t1"))
    assert bench.recorder.heard.wait(WAIT_S)
    (sent,) = bench.recorder.sent
    assert (type(sent), sent.never_ran) == (msg.Lost, True)
    assert "project main/recipes has no repository" in sent.reason


@pytest.mark.parametrize(
    ("fault", "hands_back"),
    [
        (OSError(28, "No space left on device"), True),
        (OSError(5, "Input/output error"), True),
        (OSError(13, "Permission denied"), False),
    ],
)
def test_a_step_whose_files_find_no_room_waits_for_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fault: OSError, hands_back: bool
) -> None:
    def check_out(_tree: str, _into: Path) -> None:
        raise fault

    monkeypatch.setattr(bench.recorder, "check_out", check_out)
    bench.launcher.start(*bench.run(tree="t1"))
    assert bench.recorder.heard.wait(WAIT_S)
    (sent,) = bench.recorder.sent
    if hands_back:
        assert (type(sent), sent.never_ran) == (msg.Lost, True)
        assert str(fault.strerror) in sent.reason
    else:
        assert isinstance(sent, msg.Finished)
        assert str(fault.strerror) in sent.outcome.reason


class Away:
    """A database that does not answer, in the ways in which that is told."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, _run: Any, _wanted: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "error", [OperationalError("SELECT", {}, Exception("gone")), Unavailable("away")]
)
def test_while_the_database_is_away_nothing_starts_and_what_runs_is_watched(
    bench: Bench, error: Exception
) -> None:
    bench.secrets = Away(error)
    text = {"notebook.json": '"#{vault://pg/password}"'}
    bench.launcher.adopt(*bench.run(text=text, keeps_history=True, tree="t1"))
    assert [task.key for task in bench.recorder.adopted] == ["7"]
    assert not bench.recorder.heard.is_set()
    bench.launcher.start(*bench.run(text=text))
    assert bench.recorder.heard.wait(WAIT_S)
    (sent,) = bench.recorder.sent
    assert (type(sent), sent.never_ran) == (msg.Lost, True)
    assert "the database did not answer" in sent.reason
    assert not bench.recorder.submitted


def test_what_an_earlier_server_s_process_took_up_is_watched_though_its_start_fails(
    bench: Bench,
) -> None:
    bench.secrets = Away(Unavailable("away"))
    claims.claim(str(bench.folders.attempt(2, 7)), 0, Mark(pid=1, started=1, boot="b"))
    bench.launcher.start(*bench.run(text={"notebook.json": '"#{vault://pg/password}"'}))
    bench.launcher.close()
    assert [task.key for task in bench.recorder.adopted] == ["7"]
    assert bench.recorder.sent == []


@pytest.mark.parametrize("error", [SealBroken("sealed with the key abc"), KeyMissing(Path("d"))])
def test_a_secret_that_does_not_open_fails_the_step_at_once_with_the_cure(
    bench: Bench, error: GalleyError
) -> None:
    bench.secrets = Away(error)
    bench.launcher.start(*bench.run(text={"notebook.json": '"#{vault://pg/password}"'}))
    assert bench.recorder.heard.wait(WAIT_S)
    (sent,) = bench.recorder.sent
    assert isinstance(sent, msg.Finished)
    assert (sent.outcome.reason, sent.outcome.retryable) == (error.message, False)


def test_a_vault_that_does_not_answer_fails_the_step_which_may_be_tried_again(
    bench: Bench,
) -> None:
    bench.secrets = Away(VaultUnreachable("The vault of kitchen dev did not answer."))
    bench.launcher.start(*bench.run(text={"notebook.json": '"#{vault://pg/password}"'}))
    assert bench.recorder.heard.wait(WAIT_S)
    (sent,) = bench.recorder.sent
    assert isinstance(sent, msg.Finished)
    assert sent.outcome.reason == "The vault of kitchen dev did not answer."
    assert sent.outcome.retryable


def test_a_later_kill_goes_straight_to_the_executor(bench: Bench) -> None:
    bench.launcher.start(*bench.run())
    bench.launcher.kill(7, "local")
    bench.launcher.kill(8, "gone")
    assert bench.recorder.cancelled == ["7"]


def test_steps_of_other_processes_are_left_to_them_and_unknown_workers_lose_theirs(
    bench: Bench,
) -> None:
    bench.launcher.start(*bench.run(worker="far"))
    assert bench.recorder.sent == []
    bench.launcher.start(*bench.run(worker="gone"))
    bench.launcher.adopt(*bench.run(worker="gone"))
    assert bench.recorder.sent == [
        msg.Lost(7, 3, "The worker gone is gone.", never_ran=True),
        msg.Lost(7, 3, "The worker gone is gone."),
    ]


@pytest.mark.parametrize("state", [AttemptState.STARTING, AttemptState.RUNNING])
def test_an_executor_hears_when_an_attempt_was_given_unless_a_process_was_seen(
    bench: Bench, state: AttemptState
) -> None:
    run, step = bench.run()
    step.attempt.state, step.attempt.started_at = state, datetime.now(UTC)
    bench.launcher.adopt(run, step)
    was_seen = state is AttemptState.RUNNING
    assert bench.recorder.given_at == (None if was_seen else step.attempt.started_at)
    bench.launcher.never_ran("7", 3, "no claim")
    assert bench.recorder.sent == [msg.Lost(7, 3, "no claim", never_ran=True)]


def test_an_outcome_of_any_executor_comes_to_the_ledger_as_text_that_it_can_keep(
    bench: Bench,
) -> None:
    bench.launcher.finished("7", 3, Outcome(state="failed", reason="a\0b", exports={"x": "\0"}))
    (told,) = bench.recorder.sent
    assert (told.outcome.reason, told.outcome.exports) == ("a\ufffdb", {"x": "\ufffd"})


def test_a_removed_run_s_folders_go_under_another_name_first(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = bench.folders
    for base in (folders.logs, folders.attempts, folders.work):
        (base / "2").mkdir()
        (base / "2" / "file").touch()
    seen: list[list[str]] = []

    def look(_name: str) -> None:
        bases = (folders.logs, folders.attempts)
        seen.append(sorted(path.name[:7] for base in bases for path in base.iterdir()))

    monkeypatch.setattr(files, "failpoint", look)
    bench.launcher.remove(2)
    bench.launcher.close()
    assert seen == [[".gone-2", "2"], [".gone-2"]]
    assert list(folders.logs.iterdir()) == list(folders.attempts.iterdir()) == []
    assert (folders.work / "2").exists()


def test_results_are_stored_before_the_ledger_hears_of_them(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("fine")
    sha256 = sha256_of(path)
    staged = Staged("report.html", str(path), sha256, 4)
    bench.launcher.finished("7", 3, Outcome(state="succeeded", staged=(staged,)))
    assert bench.recorder.heard.wait(WAIT_S)
    assert bench.recorder.sent[0].outcome.staged == (staged,)
    assert bench.blobs.read(sha256) == b"fine"


class Flaky:
    """A store that is away for the first calls."""

    def __init__(self, blobs: LocalBlobs, failures: int) -> None:
        self.blobs, self.failures = blobs, failures
        self.was_asked = threading.Event()

    def put_file(self, path: Path, sha256: str) -> None:
        self.was_asked.set()
        if self.failures > 0:
            self.failures -= 1
            raise BlobsAway("The blob store s3://b cannot be used: connection refused")
        self.blobs.put_file(path, sha256)


@pytest.mark.parametrize(("failures", "state"), [(2, "succeeded"), (3, "failed")])
def test_a_store_that_is_away_is_tried_again_before_the_step_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, state: str
) -> None:
    monkeypatch.setattr(publishing, "PAUSES_S", (0.01, 0.01))
    heard: Future[Outcome] = Future()
    store = Flaky(LocalBlobs(tmp_path / "blobs"), failures)
    publisher = Publisher(store, lambda *told: heard.set_result(told[2]))  # type: ignore[arg-type]
    publisher.publish("7", 3, _staging(tmp_path))
    outcome = heard.result(WAIT_S)
    publisher.close()
    assert (outcome.state, outcome.retryable) == (state, True)
    assert ("connection refused" in outcome.reason) is (state == "failed")
    assert bool(outcome.staged) is (state == "succeeded")


def test_a_publication_that_a_stop_interrupts_is_left_to_the_next_server(tmp_path: Path) -> None:
    told: list[Any] = []
    store = Flaky(LocalBlobs(tmp_path / "blobs"), 100)
    publisher = Publisher(store, lambda *more: told.append(more))  # type: ignore[arg-type]
    publisher.publish("7", 3, _staging(tmp_path))
    assert store.was_asked.wait(WAIT_S)
    publisher.close()
    assert told == []


def _staging(folder: Path) -> Outcome:
    path = folder / "report.html"
    path.write_text("fine")
    return Outcome(
        state="succeeded", staged=(Staged("report.html", str(path), sha256_of(path), 4),)
    )


def test_a_result_that_changed_meanwhile_fails_the_step(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("other")
    staged = Staged("report.html", str(path), "0" * 64, 5)
    bench.launcher.finished("7", 3, Outcome(state="succeeded", staged=(staged,)))
    assert bench.recorder.heard.wait(WAIT_S)
    outcome = bench.recorder.sent[0].outcome
    assert (outcome.state, outcome.staged) == ("failed", ())
    assert "report.html" in outcome.reason
