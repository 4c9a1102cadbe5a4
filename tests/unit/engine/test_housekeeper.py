"""Chores come round again, each at its own pace."""

import threading

import structlog

from galley.engine.housekeeper import Chore, Housekeeper
from galley.kit.clock import ManualClock, SystemClock


def test_each_chore_has_its_pace(manual_clock: ManualClock) -> None:
    done: list[str] = []
    keeper = Housekeeper(
        [
            Chore("quick", 1, lambda: done.append("quick")),
            Chore("slow", 10, lambda: done.append("slow")),
        ],
        manual_clock,
    )
    assert keeper.do_due() == 1
    assert keeper.do_due() == 1
    assert done == ["quick", "slow"]
    manual_clock.advance(9.5)
    assert keeper.do_due() == 0.5
    manual_clock.advance(0.5)
    keeper.do_due()
    assert done == ["quick", "slow", "quick", "slow"]


def test_a_chore_that_fails_comes_round_again(manual_clock: ManualClock) -> None:
    def fail() -> None:
        raise OSError("no")

    done: list[str] = []
    chores = [Chore("bad", 1, fail), Chore("good", 1, lambda: done.append("good"))]
    keeper = Housekeeper(chores, manual_clock)
    for _ in range(2):
        with structlog.testing.capture_logs() as logs:
            keeper.do_due()
        assert [(entry["event"], entry["chore"]) for entry in logs] == [("chore_failed", "bad")]
        manual_clock.advance(1)
    assert done == ["good", "good"]


def test_what_should_not_wait_is_done_at_the_end() -> None:
    first, done = threading.Event(), []

    def write() -> None:
        done.append("write")
        first.set()

    chores = [Chore("write", 3600, write, at_end=True), Chore("look", 3600, lambda: None)]
    keeper = Housekeeper(chores, SystemClock())
    keeper.start()
    assert first.wait(240)
    keeper.stop()
    assert done == ["write", "write"]
