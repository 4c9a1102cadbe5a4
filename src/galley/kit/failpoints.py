"""Named places before and after each durable step, where a test can kill or fail the process.

Off unless GALLEY_FAILPOINTS is set when the process starts: a comma-separated list of
`name=kill` (exit 137 at once), `name=error` (raise OSError), or `name=kill@N` (at the N-th pass).

With GALLEY_FAILPOINTS_AT naming a folder, they are quiet until it has a file `armed`, and each acts
once in all processes together: it leaves a file of its name there.
"""

import os
from collections.abc import Callable

_EXIT_AS_KILLED = 137


class _Armed:
    """The parsed wishes of one process, with a counter for each name."""

    def __init__(self, text: str, folder: str | None = None) -> None:
        import threading  # a process of a step is forked many times a second: not without need

        self._folder = folder
        self._lock = threading.Lock()
        self._acts: dict[str, tuple[str, int]] = {}
        self._passes: dict[str, int] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, _, act = part.partition("=")
            kind, _, at = act.partition("@")
            self._acts[name] = (kind or "kill", int(at or 1))

    def __call__(self, name: str) -> None:
        wish = self._acts.get(name)
        if wish is None or not self._is_armed():
            return
        kind, at = wish
        with self._lock:
            self._passes[name] = count = self._passes.get(name, 0) + 1
        if count < at or not self._is_first(name):
            return
        if kind == "kill":
            os._exit(_EXIT_AS_KILLED)
        if count == at:
            raise OSError(5, f"failpoint {name}")

    def _is_armed(self) -> bool:
        return self._folder is None or os.path.exists(f"{self._folder}/armed")  # noqa: PTH110

    def _is_first(self, name: str) -> bool:
        if self._folder is None:
            return True
        try:
            os.close(os.open(f"{self._folder}/{name}", os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return False
        return True


def _nothing(_name: str) -> None:
    """Do nothing: the ordinary case."""


failpoint: Callable[[str], None] = (
    _Armed(os.environ["GALLEY_FAILPOINTS"], os.environ.get("GALLEY_FAILPOINTS_AT"))
    if os.environ.get("GALLEY_FAILPOINTS")
    else _nothing
)
