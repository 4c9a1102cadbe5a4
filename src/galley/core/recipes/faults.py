"""Collects what is wrong with a source, so that its author hears of everything at once."""

from galley.core.errors import Issue, Refused

MAX_ISSUES = 200
MAX_WARNINGS = 100


class SourceFault(Exception):
    """One fault that ends the reading of one file; becomes an issue where it is caught."""

    def __init__(self, file: str, text: str) -> None:
        super().__init__(text)
        self.file = file
        self.text = text


class Faults:
    """A growing list of issues; at most `MAX_ISSUES` are kept, the rest is counted.

    No more than `MAX_WARNINGS` of them are warnings, which so never displace all errors.
    """

    def __init__(self) -> None:
        self._issues: dict[tuple[str, str, str], Issue] = {}
        self._errors = 0
        self._warnings = 0
        self._sure: set[Issue] = set()

    @property
    def has_errors(self) -> bool:
        """Whether anything found forbids a run."""
        return self._errors > 0

    @property
    def issues(self) -> tuple[Issue, ...]:
        """What was found, in the order found."""
        return tuple(self._issues.values())

    @property
    def warnings(self) -> tuple[tuple[str, str], ...]:
        """What does not forbid a run: (file, text) of each."""
        return tuple(
            (issue.file, issue.description)
            for issue in self._issues.values()
            if issue.severity == "warning"
        )

    def error(self, file: str, text: str) -> None:
        """Something that forbids a run: what, where, and what to write instead."""
        self._add(Issue(file, text))
        self._errors += 1

    def warning(self, file: str, text: str, *, is_sure: bool = False) -> None:
        """Something odd that does not forbid a run.

        It `is_sure` if it holds whatever the values are that only a run knows.
        """
        issue = Issue(file, text, "warning")
        self._add(issue)
        if is_sure:
            self._sure.add(issue)

    def is_sure(self, issue: Issue) -> bool:
        """Whether the issue was reported as sure."""
        return issue in self._sure

    def take(self, other: "Faults") -> None:
        """Take over another list's issues."""
        for issue in other.issues:
            if issue.severity == "warning":
                self._add(issue)
            else:
                self.error(issue.file, issue.description)

    def raise_if_any(self, what: str) -> None:
        """Refuse when there are errors.

        Raises:
            Refused: with all issues; the message tells the first one.
        """
        if self.has_errors:
            raise refusal(what, self.issues)

    def _add(self, issue: Issue) -> None:
        key = (issue.file, issue.description, issue.severity)
        is_warning = issue.severity == "warning"
        is_full = len(self._issues) >= MAX_ISSUES or (is_warning and self._warnings >= MAX_WARNINGS)
        if not is_full and key not in self._issues:
            self._issues[key] = issue
            self._warnings += is_warning


def refusal(what: str, issues: tuple[Issue, ...]) -> Refused:
    """The refusal of `what`, with its issues; the message tells the first error and the count."""
    errors = [issue for issue in issues if issue.severity == "error"]
    message = f"{what} has a fault"
    if errors:
        first = errors[0]
        others = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
        message = f"{what} cannot run: {first.file}: {first.description}{others}"
    return Refused(message, issues=issues)
