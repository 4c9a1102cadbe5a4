"""The vendor's words for Galley's states, kinds, events and levels: tables, nothing else.

Source: contract 1 (order, run and node states), 3.8 (log record types), 3.3 (alert names).
"""

from galley.core.runs.states import OrderState, RunState, StepState
from galley.core.runs.views import RunView

ORDER_STATUS = {
    OrderState.ACTIVE: "ACTIVE_ORDER",
    OrderState.PAUSED: "PAUSED_ORDER",
    OrderState.COMPLETED: "COMPLETED_ORDER",
    OrderState.FAILED: "ORDER_ERROR",
    OrderState.STOPPED: "STOPPED_ORDER",
}

RUN_STATUS = {
    RunState.QUEUED: "PLANNED_SERVING",
    RunState.RUNNING: "ACTIVE_SERVING",
    RunState.SUCCEEDED: "COMPLETED_SERVING",
    RunState.FAILED: "SERVING_ERROR",
    RunState.CANCELED: "STOPPED_SERVING",
}
RERAN = "SERVING_RERAN"

RUN_TEXT = {
    "PLANNED_SERVING": "OrderRun Planned",
    "ACTIVE_SERVING": "OrderRun Active",
    "COMPLETED_SERVING": "OrderRun Completed",
    "SERVING_ERROR": "Error in OrderRun",
    "STOPPED_SERVING": "OrderRun Stopped",
    RERAN: "OrderRun Resumed",
}

NODE_STATUS = {
    StepState.WAITING: "DKNodeStatus_ready_for_production",
    StepState.READY: "DKNodeStatus_ready_for_production",
    StepState.RUNNING: "DKNodeStatus_in_production",
    StepState.SUCCEEDED: "DKNodeStatus_completed_production",
    StepState.FAILED: "DKNodeStatus_production_error",
    StepState.CANCELED: "DKNodeStatus_production_stopped",
    StepState.SKIPPED: "DKNodeStatus_Skipped",
    StepState.UNREACHED: "DKNodeStatus_ready_for_production",
}

WHOLE_STATUS = {
    RunState.QUEUED: "DKNodeStatus_ready_for_production",
    RunState.RUNNING: "DKNodeStatus_in_production",
    RunState.SUCCEEDED: "DKNodeStatus_completed_production",
    RunState.FAILED: "DKNodeStatus_production_error",
    RunState.CANCELED: "DKNodeStatus_production_stopped",
}

NODE_TYPE = {
    "noop": "DKNode_NoOp",
    "condition": "DKNode_NoOp",
    "transfer": "DKNode_DataMapper",
    "action": "DKNode_Action",
    "script": "DKNode_Container",
}
"""Kinds that this vendor does not know keep their own name."""

TEST_STATUS = {"passed": "Passed", "failed": "Failed", "warning": "Warning", "logged": "Log"}

PLACE = {"source": "data_sources", "sink": "data_sinks", "action": "actions"}

RECORD_TYPE = {
    "debug": "DEBUG",
    "info": "INFO",
    "output": "INFO",
    "warning": "WARN",
    "error": "ERROR",
}
PRIORITY = {"DEBUG": 31, "INFO": 30, "WARN": 28, "ERROR": 27}
"""Syslog numbers of the facility `daemon`; 30 for INFO is what the vendor's samples show."""

ALERT_EVENT = {
    "orderrunStart": "start",
    "orderrunWarning": "warning",
    "orderrunOverDuration": "over_duration",
    "orderrunSuccess": "success",
    "orderrunError": "failure",
}
ALERT_NAME = {event: name for name, event in ALERT_EVENT.items()}

ACCOUNT_ROLE = (("admin", "ADMIN"), ("operator", "IT"))
"""The first of these that a user bears is shown; everybody else is a DEVELOPER."""


def run_status(run: RunView) -> str:
    """A run's `status`; once resumed it is reran for good, however it ended."""
    return RERAN if run.resumed_by is not None else RUN_STATUS[run.state]


def order_states_of(status: str) -> frozenset[OrderState]:
    """The states that an order status of a filter means; a KeyError-free empty set if unknown."""
    return frozenset(state for state, word in ORDER_STATUS.items() if word == status)


def run_states_of(status: str) -> frozenset[RunState]:
    """The states behind a run status of a filter: a reran run had failed or been stopped."""
    if status == RERAN:
        return frozenset({RunState.FAILED, RunState.CANCELED})
    return frozenset(state for state, word in RUN_STATUS.items() if word == status)


def account_role(roles: frozenset[str]) -> str:
    """The account-level role that the vendor's clients look at."""
    return next((word for role, word in ACCOUNT_ROLE if role in roles), "DEVELOPER")
