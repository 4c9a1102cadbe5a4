from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import msgspec
import pytest
from tests.unit.dialects.datakitchen.views import (
    LATER,
    RUN_UID,
    START,
    detail,
    order_view,
    run_view,
)

from galley.core.runs.plan import ScheduleSpec
from galley.core.runs.states import OrderState, RunState, StepState
from galley.dialects.datakitchen import details, render, states
from galley.wire.services import Account

ACCOUNT = Account(name="Acme", code="ac", organisation="AcmeOrg")
START_MS = 1795413600123


def kitchen_row(**changes):
    facts = {
        "uid": "01K4ZC0000000000000000000K", "name": "dev", "is_root": False,
        "parent": "master", "description": "",
        "staff": ["a@x.org"], "roles": {"a@x.org": "Admin"}, "overrides": {"region": "eu"},
        "alerts": {"failure": ["ops@x.org"]}, "settings": {"agile-tools": {"a": 1}},
        "restrict_recipes": False, "recipes": [], "created_by_login": "a@x.org",
        "created_at": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
    }  # fmt: skip
    return SimpleNamespace(**{**facts, **changes})


def test_a_kitchen_has_every_key():
    shown = render.kitchen(kitchen_row(), ACCOUNT)
    assert shown == {
        "name": "dev", "parent-kitchen": "master", "description": "",
        "kitchen-staff": ["a@x.org"], "kitchen-roles": {"a@x.org": "Admin"},
        "recipeoverrides": {"region": "eu"}, "recipes": [], "restrict-recipes": False,
        "settings": {
            "agile-tools": {"a": 1},
            "alerts": {
                "orderrunStart": None, "orderrunWarning": None, "orderrunOverDuration": None,
                "orderrunSuccess": None, "orderrunError": ["ops@x.org"],
            },
            "backup": {"backup_enabled": False},
        },
        "customer": "Acme", "git_name": "ac", "git_org": "AcmeOrg", "creator_user": "a@x.org",
        "created_time": 1700000000000, "mesos-constraint": False, "mesos-group": None,
        "wizard-status": {}, "_created": None, "_finished": False,
        "_hid": "01K4ZC0000000000000000000K",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "parent", "shown"),
    [("master", None, "master"), ("dev", "master", "master"), ("orphan", None, None)],
)
def test_the_root_is_its_own_parent_and_an_orphan_has_none(name, parent, shown):
    row = kitchen_row(name=name, parent=parent, is_root=name == "master")
    assert render.kitchen(row, ACCOUNT)["parent-kitchen"] == shown


def test_userinfo_tells_role_and_account():
    shown = render.user("a@x.org", "", frozenset({"member"}), ACCOUNT)
    assert shown["role"] == "DEVELOPER"
    assert shown["customer_name"] == "Acme"
    assert shown["customer_git_name"] == "ac"
    assert shown["name"] == "a@x.org"
    assert render.user("a", "n", frozenset({"admin"}), ACCOUNT)["role"] == "ADMIN"
    assert render.user("a", "n", frozenset({"operator", "member"}), ACCOUNT)["role"] == "IT"


def test_every_state_has_its_word():
    assert set(states.ORDER_STATUS) == set(OrderState)
    assert set(states.RUN_STATUS) == set(RunState) == set(states.WHOLE_STATUS)
    assert set(states.NODE_STATUS) == set(StepState)
    assert {*states.RUN_STATUS.values(), states.RERAN} == set(states.RUN_TEXT)


@pytest.mark.parametrize("state", list(RunState))
def test_a_resumed_run_is_reran_however_it_ended(state):
    assert states.run_status(run_view(state=state, resumed_by=9)) == "SERVING_RERAN"


def test_filters_find_the_states_behind_a_word():
    assert states.order_states_of("ORDER_ERROR") == {OrderState.FAILED}
    assert states.run_states_of("PLANNED_SERVING") == {RunState.QUEUED}
    assert states.run_states_of("SERVING_RERAN") == {RunState.FAILED, RunState.CANCELED}
    assert states.order_states_of("NONSENSE") == frozenset()


def test_an_order_of_the_list():
    view = order_view(
        schedule=ScheduleSpec(cron="0 6 * * *", zone="Europe/Paris"),
        only_steps=("load",),
        source_date="2026-11-22",
        alerts={"failure": ["a@x.org"]},
        state=OrderState.ACTIVE,
    )
    shown = render.order(view, ACCOUNT, parent_run="p")
    assert shown == {
        "hid": view.uuid, "recipe": "demo", "variation": "daily", "order-status": "ACTIVE_ORDER",
        "order_status": "ACTIVE_ORDER", "schedule": "0 6 * * *", "created_time": START_MS,
        "input_settings": {
            "login": "a@x.org", "parameters": {"region": "eu"},
            "schedule": "0 6 * * *", "customer_git_name": "ac", "graph-setting": [["load"]],
            "source-date": "2026-11-22", "alerts": {"orderrunError": ["a@x.org"]},
            "schedule-setting": {"recurrence": "0 6 * * *", "zone": "Europe/Paris"},
            "ingredient_owner_order_run": "p",
        },
    }  # fmt: skip


def test_a_finished_run_has_three_integer_times():
    shown = render.run(run_view(), LATER)
    assert shown["timings"] == {
        "start-time": START_MS, "end-time": START_MS + 5000, "duration": 5000
    }  # fmt: skip
    assert all(type(value) is int for value in shown["timings"].values())
    assert shown["order_id"] == order_view().uuid
    assert (shown["status"], shown["orderrun_status"]) == (
        "COMPLETED_SERVING",
        "OrderRun Completed",
    )


def test_a_planned_run_starts_when_it_was_made_and_has_no_end():
    planned = run_view(state=RunState.QUEUED, started_at=None, finished_at=None)
    assert render.run(planned, START + timedelta(seconds=1))["timings"] == {
        "start-time": START_MS, "duration": 1000
    }  # fmt: skip


def test_a_resumed_run_names_its_successor():
    shown = render.run(run_view(state=RunState.FAILED, resumed_by=9, resumed_by_uid=RUN_UID), LATER)
    assert shown["resumed_by"] == run_view().uuid


def test_the_warnings_of_a_recipe_are_issues_of_its_runs():
    assert "issues" not in details.run(detail(), details.Wanted(), LATER)
    plan = msgspec.structs.replace(detail().plan, warnings=(("a/notebook.json", "`tets` ..."),))
    assert details.run(detail(plan=plan), details.Wanted(), LATER)["issues"] == [
        {"severity": "warning", "file": "a/notebook.json", "description": "`tets` ..."}
    ]


def test_nothing_but_the_wanted_parts_is_shown():
    bare = details.run(detail(), details.Wanted(), LATER)
    assert not {"summary", "testresults", "timingresults", "log", "servingjson"} & set(bare)
    assert bare["run_time_variables"]["region"] == "eu"
    assert bare["run_time_variables"]["limit"] == 10
    assert bare["run_time_variables"]["orders_rows"] == 12
    assert bare["run_time_variables"]["CurrentKitchen"] == "dev"
    assert bare["conditions"] == {"c1_true": {"node": "decide"}}
    assert bare["state"] == "DKNodeStatus_completed_production"
    assert bare["scheduled_start_time"] == START_MS


def test_the_summary_has_every_node_with_its_tests():
    shown = details.run(detail(), details.Wanted(summary=True), LATER)["summary"]
    assert shown == {
        "name": "demo", "hid": run_view().uuid, "status": "DKNodeStatus_completed_production",
        "start-time": START_MS, "end-time": START_MS + 5000, "total-recipe-time": 5000,
        "nodes": {
            "load": {
                "status": "DKNodeStatus_completed_production", "start_time": START_MS,
                "timing": 4000, "type": "DKNode_Action", "message": "", "tests": {},
                "actions": {"source": {"tests": {"row_floor": {
                    "status": "Passed", "results": "12 greater-than limit=10", "value": 12,
                    "metric": 10, "description": "", "applies-to-keys": None,
                }}}},
            }
        },
    }  # fmt: skip


def test_a_graph_is_shown_with_conditions_and_lone_nodes():
    shown = details.run(detail(), details.Wanted(serving=True), LATER)["servingjson"]
    assert shown["graph-setting"] == [
        ["load", "decide"],
        ["decide", "publish", {"condition": "c1_true"}],
        ["audit"],
    ]
