"""Collects what is wrong with a source, so that its author hears of everything at once."""

from galley.core.errors import Issue, Refused

MAX_ISSUES = 200


class SourceFault(Exception):
    """One fault that ends the reading of one file; becomes an issue where it is caught."""

    def __init__(self, file: str, text: str) -> None:
        super().__init__(text)
        self.file = file
        self.text = text


class Faults:
    """A growing list of issues; at most `MAX_ISSUES` are kept, the rest is counted."""

    def __init__(self) -> None:
        self._issues: dict[tuple[str, str, str], Issue] = {}
        self._errors = 0

    @property
    def has_errors(self) -> bool:
        """Whether anything found forbids a run."""
        return self._errors > 0

    @property
    def issues(self) -> tuple[Issue, ...]:
        """What was found, in the order found."""
        return tuple(self._issues.values())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What does not forbid a run, as lines `file: text`."""
        return tuple(
            f"{issue.file}: {issue.description}"
            for issue in self._issues.values()
            if issue.severity == "warning"
        )

    def error(self, file: str, text: str) -> None:
        """Something that forbids a run: what, where, and what to write instead."""
        self._add(Issue(file, text))
        self._errors += 1

    def warning(self, file: str, text: str) -> None:
        """Something odd that does not forbid a run."""
        self._add(Issue(file, text, "warning"))

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
        if len(self._issues) < MAX_ISSUES:
            self._issues.setdefault(key, issue)


def refusal(what: str, issues: tuple[Issue, ...]) -> Refused:
    """The refusal of `what`, with its issues; the message tells the first error and the count."""
    errors = [issue for issue in issues if issue.severity == "error"]
    message = f"{what} has a fault"
    if errors:
        first = errors[0]
        others = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
        message = f"{what} cannot run: {first.file}: {first.description}{others}"
    return Refused(message, issues=issues)
