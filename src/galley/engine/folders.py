"""Where the files of runs lie below the data folder."""

from dataclasses import dataclass
from pathlib import Path

SHARED = ("git", "logs", "work", "files", "attempts", "trees")
"""The folders that all servers and workers on one Postgres share."""

OUT = "out"
"""Where below its folder an attempt puts files to be published."""


@dataclass(frozen=True, slots=True)
class Folders:
    """The places of one data folder; every method only names them."""

    data: Path

    @property
    def logs(self) -> Path:
        """Logs: one folder a run, one file an attempt."""
        return self.data / "logs"

    @property
    def attempts(self) -> Path:
        """Control files of attempts: pid, exit file, staged files."""
        return self.data / "attempts"

    @property
    def trees(self) -> Path:
        """Checked-out source folders by their tree's hash, read-only."""
        return self.data / "trees"

    @property
    def work(self) -> Path:
        """The folders that the steps of a run share."""
        return self.data / "work"

    @property
    def environments(self) -> Path:
        """Cached interpreters of script steps."""
        return self.data / "environments"

    @property
    def files(self) -> Path:
        """The installation's own file area, which recipes may read and write."""
        return self.data / "files"

    def attempt(self, run_id: int, attempt_id: int) -> Path:
        """An attempt's own folder."""
        return self.attempts / str(run_id) / str(attempt_id)

    def run_work(self, work_id: int) -> Path:
        """The folder that the steps of a run share, and of the runs that go on with it."""
        return self.work / str(work_id)

    def tree(self, tree_id: str) -> Path:
        """A checked-out tree."""
        return self.trees / tree_id

    def make(self) -> None:
        """Create what is missing, private to the server's user."""
        for folder in (
            self.logs,
            self.attempts,
            self.trees,
            self.work,
            self.environments,
            self.files,
        ):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
