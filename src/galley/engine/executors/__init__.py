"""Ways to run an attempt somewhere, and their registry by tag."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from galley.engine.executors.registry import ExecutorRegistry

__all__ = ["ExecutorRegistry"]


def __getattr__(name: str) -> Any:
    """Import on demand: the processes of steps live below this package and should stay small."""
    if name == "ExecutorRegistry":
        from galley.engine.executors.registry import ExecutorRegistry

        return ExecutorRegistry
    raise AttributeError(name)
