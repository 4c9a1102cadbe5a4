"""The graph of steps: its order, its circles, and what is left when only some steps are wanted."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from galley.core.runs.plan import Need


@dataclass(slots=True)
class Graph:
    """Steps in the order of their first mention, each with what it needs."""

    needs: dict[str, list[Need]] = field(default_factory=dict)

    def add(self, step: str) -> None:
        """A step, once."""
        self.needs.setdefault(step, [])

    def connect(self, first: str, second: str, when: str | None = None) -> None:
        """`second` comes after `first`; repeated edges count once."""
        self.add(first)
        self.add(second)
        need = Need(first, when)
        if need not in self.needs[second]:
            self.needs[second].append(need)

    def sorted_steps(self) -> list[str]:
        """All steps, each after what it needs; steps of a circle and beyond are left out."""
        open_needs = {
            step: len({need.step for need in needs}) for step, needs in self.needs.items()
        }
        followers = self.followers()
        ready = deque(step for step, count in open_needs.items() if count == 0)
        found = []
        while ready:
            step = ready.popleft()
            found.append(step)
            for follower in followers.get(step, ()):
                open_needs[follower] -= 1
                if open_needs[follower] == 0:
                    ready.append(follower)
        return found

    def followers(self) -> dict[str, list[str]]:
        """Step -> the steps that need it, each once."""
        found: dict[str, list[str]] = {}
        for step, needs in self.needs.items():
            for before in dict.fromkeys(need.step for need in needs):
                found.setdefault(before, []).append(step)
        return found

    def find_circle(self) -> list[str]:
        """The steps of one circle, the first one again at the end; empty if there is none."""
        sound = set(self.sorted_steps())
        if len(sound) == len(self.needs):
            return []
        step = next(step for step in self.needs if step not in sound)
        path: dict[str, None] = {}
        while step not in path:
            path[step] = None
            step = next(need.step for need in self.needs[step] if need.step not in sound)
        trail = list(path)
        return [step, *reversed(trail[trail.index(step) :])]

    def only(self, wanted: Sequence[str]) -> "Graph":
        """The wanted steps alone; a way through steps left out becomes one plain edge."""
        kept = set(wanted)
        shorter = Graph()
        for step in self.needs:
            if step not in kept:
                continue
            shorter.add(step)
            for need in self.needs[step]:
                if need.step in kept:
                    shorter.connect(need.step, step, need.when)
                else:
                    for before in self._nearest(need.step, kept):
                        shorter.connect(before, step)
        return shorter

    def _nearest(self, start: str, kept: set[str]) -> list[str]:
        seen, stack, found = {start}, [start], []
        while stack:
            for need in self.needs[stack.pop()]:
                if need.step in kept:
                    found.append(need.step)
                elif need.step not in seen:
                    seen.add(need.step)
                    stack.append(need.step)
        return list(dict.fromkeys(found))


class Ancestry:
    """Answers whether one of some steps comes before another; remembers what it walked."""

    def __init__(self, needs: Mapping[str, Sequence[Need]]) -> None:
        self._needs = needs
        self._cache: dict[str, set[str]] = {}

    def precedes(self, before: Iterable[str], step: str) -> bool:
        """Whether a step of `before` comes before `step`."""
        wanted = set(before)
        if any(need.step in wanted for need in self._needs.get(step, ())):
            return True
        return not wanted.isdisjoint(self._ancestors(step))

    def _ancestors(self, step: str) -> set[str]:
        found = self._cache.get(step)
        if found is None:
            found, stack = set(), [step]
            while stack:
                for need in self._needs.get(stack.pop(), ()):
                    if need.step not in found:
                        found.add(need.step)
                        stack.append(need.step)
            if len(self._cache) > 64:  # noqa: PLR2004 - bounds the memory of long chains
                self._cache.clear()
            self._cache[step] = found
        return found
