from itertools import pairwise

import pytest

from galley.core.recipes.graph import Ancestry, Graph
from galley.core.runs.plan import Need


def graph(*edges: str) -> Graph:
    made = Graph()
    for edge in edges:
        first, _, rest = edge.partition(">")
        second, _, when = rest.partition(":")
        if second:
            made.connect(first, second, when or None)
        else:
            made.add(first)
    return made


def test_steps_come_after_what_they_need() -> None:
    assert graph("a>b", "c>b", "b>d", "e").sorted_steps() == ["a", "c", "e", "b", "d"]


def test_repeated_edges_count_once_and_branches_are_kept() -> None:
    made = graph("a>b", "a>b", "a>b:c_true")
    assert made.needs["b"] == [Need("a"), Need("a", "c_true")]
    assert made.sorted_steps() == ["a", "b"]


@pytest.mark.parametrize(
    ("edges", "circle"),
    [
        (("a>b", "b>c"), []),
        (("a>b", "b>a"), ["a", "b", "a"]),
        (("x>a", "a>b", "b>c", "c>a", "c>y"), ["a", "b", "c", "a"]),
    ],
)
def test_circles_are_found_and_named(edges: tuple[str, ...], circle: list[str]) -> None:
    found = graph(*edges).find_circle()
    assert set(found) == set(circle)
    assert len(found) == len(circle)
    if found:
        pairs = {f"{first}>{second}" for first, second in pairwise(found)}
        assert pairs <= set(edges)


def test_left_out_steps_leave_a_plain_way() -> None:
    made = graph("a>b", "b>c:x_true", "c>d", "a>e", "e>d").only(("a", "d"))
    assert made.needs == {"a": [], "d": [Need("a")]}
    kept = graph("a>b:x_true").only(("a", "b"))
    assert kept.needs["b"] == [Need("a", "x_true")]


def test_ancestors_are_found_through_the_graph() -> None:
    ancestry = Ancestry(graph("a>b", "b>c", "x>c").needs)
    assert ancestry.precedes(["a"], "c")
    assert ancestry.precedes(["q", "x"], "c")
    assert not ancestry.precedes(["c"], "a")
    assert not ancestry.precedes(["x"], "b")


def test_a_long_chain_is_no_trouble() -> None:
    made = graph(*(f"s{i}>s{i + 1}" for i in range(20_000)))
    assert made.find_circle() == []
    assert made.sorted_steps()[-1] == "s20000"
    assert Ancestry(made.needs).precedes(["s0"], "s20000")
