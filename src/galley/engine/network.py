"""Whether a user's program gets this machine's network: only if its step asks, and may."""

import os

from galley.engine.faults import StepError

STEP_NETWORK_VARIABLE = "GALLEY_STEP_NETWORK"
NONE, DECLARED = "none", "declared"

NO_NETWORK_HINT = (
    'It had no network. A program that needs it says so in its step (`"network": true`), and the'
    f" server is started with {STEP_NETWORK_VARIABLE}={DECLARED}."
)


def network_of(asked: bool) -> bool:
    """Whether a step's programs get the network that the step asks for.

    Raises:
        StepError: it asks, and this installation gives none.
    """
    if asked and os.environ.get(STEP_NETWORK_VARIABLE, NONE) != DECLARED:
        raise StepError(
            "The step asks for the network (`network` is true), which this installation gives no"
            f" program. An administrator allows it with {STEP_NETWORK_VARIABLE}={DECLARED};"
            " without `network` the step runs cut off."
        )
    return asked
