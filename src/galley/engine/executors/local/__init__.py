"""The executor of this machine: one process per attempt, forked from a warm template.

`executor` is the server's side; `template` and `shim` run in processes of their own.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from galley.engine.executors.local.executor import LocalExecutor, Quick

__all__ = ["LocalExecutor", "Quick"]


def __getattr__(name: str) -> Any:
    """Import on demand: a template shall not carry what only the server needs."""
    if name in __all__:
        from galley.engine.executors.local import executor

        return getattr(executor, name)
    raise AttributeError(name)
