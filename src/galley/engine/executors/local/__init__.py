"""The executor of this machine: one process per attempt, forked from a warm template.

`executor` is the server's side; `template` and `shim` run in processes of their own.
"""

from galley.engine.executors.local.executor import LocalExecutor

__all__ = ["LocalExecutor"]
