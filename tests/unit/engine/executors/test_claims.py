"""Exactly one process wins an attempt."""

import os
import threading

from galley.engine.executors.local import claims, processes

MARK = processes.Mark(pid=123, started=456, boot="b")


def test_the_first_wins(tmp_path):
    folder = str(tmp_path / "new" / "attempt")
    assert claims.claim(folder, 0, MARK)
    assert not claims.claim(folder, 0, processes.Mark(9, 9, "b"))
    assert not claims.abandon(folder, 0)
    assert claims.settle(folder).mark == MARK
    assert os.listdir(folder) == ["pid"]  # noqa: PTH208


def test_settling_takes_what_nobody_claimed(tmp_path):
    folder = str(tmp_path)
    assert claims.settle(folder) is None
    assert not claims.claim(folder, 0, MARK)
    assert claims.settle(folder) is None


def test_a_later_generation_is_found(tmp_path):
    folder = str(tmp_path)
    assert claims.abandon(folder, 0)
    assert claims.claim(folder, 1, MARK)
    assert claims.settle(folder).mark == MARK


def test_one_of_many_wins(tmp_path):
    folder = str(tmp_path)
    won = []
    ready = threading.Barrier(8)

    def run(number):
        ready.wait()
        if claims.claim(folder, 0, processes.Mark(number, 1, "b")):
            won.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert claims.find(folder).pid == won[0]


def test_marks_tell_processes_apart():
    mark = processes.mark_of(os.getpid())
    assert processes.alive(mark)
    assert not processes.alive(processes.Mark(mark.pid, mark.started + 1, mark.boot))
    assert not processes.alive(processes.Mark(mark.pid, mark.started, "another boot"))
    assert processes.age_s(mark) > 0
    assert processes.mark_of(2**22 - 1) is None
