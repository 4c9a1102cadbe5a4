"""Parameters of handlers that are made in the handler's own thread.

Each change between the event loop and a thread costs more than most of what a handler does, and a
dependency that FastAPI runs in a thread changes twice. So such dependencies only say how their
value is made; `session.CallRoute` makes it where the handler runs, in the order of its signature.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Later:
    """Stands for a value that `make` gives, for as long as the handler runs."""

    make: Callable[[], AbstractContextManager[Any]]


@contextmanager
def made(arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The arguments with every `Later` made, in their order; they end in the other one."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(value.make()) if isinstance(value, Later) else value
            for name, value in arguments.items()
        }
