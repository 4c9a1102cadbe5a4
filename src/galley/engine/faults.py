"""The one error of a step that a user can understand and mend."""

import re
import signal

from galley.core.errors import Refused


class StepError(Refused):
    """A step cannot do what it was asked to: the message says what, where and how to mend it.

    `retryable` tells whether the same work may succeed later without anybody's help.
    """

    code = "step_failed"

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable

    def inside(self, place: str) -> "StepError":
        """The same fault, saying first where it happened."""
        return StepError(f"{place}: {self.message}", retryable=self.retryable)


def ended(code: int) -> str:
    """How a program ended: `ended with exit code 3`, `was killed by signal 9 (SIGKILL)`.

    `code` is its exit code, or minus the number of the signal that ended it.
    """
    return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal_name(-code)}"


def signal_name(number: int) -> str:
    """`signal 9 (SIGKILL)`."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def told(error: BaseException) -> str:
    """What a driver said, in one line.

    Its "does not exist" is put in other words: clients search whole answers for that phrase to
    tell whether an order is known.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    text = re.sub(r"^(ERROR|FATAL):\s+", "", text)
    return text.replace("does not exist", "is not there").rstrip(".!")
