"""Executors by tag: which of them may run a step."""

from collections.abc import Iterable, Iterator, Sequence

from galley.core.errors import Refused
from galley.core.runs.ports import Executor


class ExecutorRegistry:
    """The executors of an installation, by name, in order of preference."""

    def __init__(self, executors: Sequence[Executor] = ()) -> None:
        self._executors: dict[str, Executor] = {}
        for executor in executors:
            self.add(executor)

    def add(self, executor: Executor) -> None:
        """Add an executor under the name that its capabilities give.

        Raises:
            ValueError: there is one of that name already.
        """
        name = executor.capabilities().name
        if name in self._executors:
            raise ValueError(f"there are two executors named {name}")
        self._executors[name] = executor

    def find(self, name: str) -> Executor | None:
        """The executor of that name, or None."""
        return self._executors.get(name)

    def __iter__(self) -> Iterator[Executor]:
        return iter(self._executors.values())

    def for_tags(self, tags: Iterable[str]) -> Executor:
        """The first executor that has all these tags; no tags mean the first of all.

        Raises:
            Refused: none has them all; the message names what there is.
        """
        wanted = frozenset(tags)
        for executor in self._executors.values():
            if wanted <= executor.capabilities().tags:
                return executor
        known = "; ".join(
            f"{name}: {', '.join(sorted(executor.capabilities().tags)) or 'no tags'}"
            for name, executor in self._executors.items()
        )
        raise Refused(
            f"No executor has all the tags {', '.join(sorted(wanted))}. "
            f"There are {known or 'no executors'}: change the step's tags, or add a worker."
        )
