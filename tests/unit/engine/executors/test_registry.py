"""Which executor runs a step."""

import pytest

from galley.core.errors import Refused
from galley.core.runs.ports import Capabilities
from galley.engine.executors import ExecutorRegistry


class Plain:
    def __init__(self, name, *tags):
        self._told = Capabilities(name=name, slots=1, tags=frozenset(tags), isolation=())

    def capabilities(self):
        return self._told


def test_the_first_that_has_all_tags():
    a, b = Plain("a", "linux"), Plain("b", "linux", "gpu")
    registry = ExecutorRegistry([a, b])
    assert registry.for_tags([]) is a
    assert registry.for_tags(["gpu", "linux"]) is b
    assert registry.find("b") is b
    assert registry.find("c") is None
    assert list(registry) == [a, b]


def test_no_such_tags():
    with pytest.raises(Refused, match=r"No executor has all the tags gpu\. There are a: linux"):
        ExecutorRegistry([Plain("a", "linux")]).for_tags(["gpu"])


def test_names_are_unique():
    with pytest.raises(ValueError, match="two executors named a"):
        ExecutorRegistry([Plain("a"), Plain("a")])
