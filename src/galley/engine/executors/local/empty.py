"""The process of an empty step: one that has nothing to run, to check or to choose.

It has a claim, a log and an exit file like any other, and does nothing else. It sees no secret, no
variable and nothing that a user wrote, and so it may share its template's memory: see `beside`.
"""

import os
import time

from galley.core.runs.task import Outcome, Task
from galley.engine.executors.local import claims, logfile, messages, processes, shim
from galley.kit.failpoints import failpoint


def places_of(task: Task) -> bytes:
    """All that the process of an empty step is told: its folder and its log."""
    return f"{task.folder}\0{task.log}".encode()


def main(places: bytes, generation: int) -> int:
    """Claim the attempt, make its log, leave the exit file; returns the exit status.

    SIGTERM stays blocked, as in the template: it ends before anybody could wait for it.
    """
    began = time.monotonic()
    os.setsid()
    failpoint("empty.forked")
    folder, _, log = places.decode().partition("\0")
    mark = processes.mark_of(os.getpid())
    try:
        if mark is None or not claims.claim(folder, generation, mark):
            return messages.NOT_OURS
        failpoint("empty.claimed")
        os.close(logfile.opened(log))
    except OSError:
        return messages.COULD_NOT_BEGIN
    outcome = Outcome(state="succeeded", timings={"notebook": 0.0}, usage=shim.usage_since(began))
    failpoint("empty.before_exit_file")
    try:
        messages.write_outcome(folder, outcome)
    except OSError:
        return messages.FAILED_TO_REPORT
    failpoint("empty.after_exit_file")
    return 0
