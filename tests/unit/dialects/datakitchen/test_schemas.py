from datetime import UTC, datetime

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from galley.core.errors import Invalid
from galley.core.runs.plan import ScheduleSpec
from galley.core.runs.schedule import next_due
from galley.dialects.datakitchen import orderschemas, schemas
from galley.wire.errors import describe_validation


def order(**body):
    return orderschemas.NewOrder.model_validate(body)


def test_an_order_without_a_body_leaves_everything_to_the_variation():
    wish = order()
    assert (wish.parameters, wish.schedule_spec(), wish.nodes(), wish.alerts) == (
        {}, None, None, None
    )  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "spec"),
    [
        ("now", ScheduleSpec()),
        ("", None),
        ("0 6 * * 1-5", ScheduleSpec(cron="0 6 * * 1-5")),
        ({"cron": "0 6 * * *"}, ScheduleSpec(cron="0 6 * * *")),
        ({"recurrence": "@daily", "zone": "Asia/Tokyo", "start": "2026-12-01", "end": 18e11},
         ScheduleSpec(cron="@daily", zone="Asia/Tokyo", start_at="2026-12-01T00:00:00+09:00",
                      end_at="2027-01-15T08:00:00+00:00")),
        ('{"schedule": "5 * * * *", "scheduleTimeZone": "Europe/Paris"}',
         ScheduleSpec(cron="5 * * * *", zone="Europe/Paris")),
        ({"recurrence": "now"}, ScheduleSpec()),
    ],
)  # fmt: skip
def test_a_schedule_comes_in_three_shapes(schedule, spec):
    assert order(schedule=schedule).schedule_spec() == spec


@pytest.mark.parametrize(
    ("start", "cron", "at"),
    [
        ("2026-12-01T06:30:00+01:00", "30 5 1 12 *", "2026-12-01T05:30:00+00:00"),
        ("2026-12-01T05:30:01", "31 5 1 12 *", "2026-12-01T05:31:00+00:00"),
    ],
)
def test_a_start_alone_is_one_run_at_that_minute(start, cron, at):
    spec = order(schedule={"start": start}).schedule_spec()
    assert (spec.cron, spec.start_at) == (cron, at)
    due = next_due(spec, datetime(2026, 11, 23, tzinfo=UTC))
    assert due == datetime.fromisoformat(at)
    assert next_due(spec, due) is None


def test_an_end_needs_a_recurrence_and_a_zone_must_exist():
    with pytest.raises(Invalid, match="recurrence"):
        order(schedule={"cron": "now", "end": "2030-01-01"}).schedule_spec()
    with pytest.raises(Invalid, match="zone"):
        order(
            schedule={"cron": "0 6 * * *", "start": "2030-01-01", "zone": "Mars/Base"}
        ).schedule_spec()


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        ({"crom": "0 6 * * *"}, r"'crom' \(did you mean 'cron'\?\)"),
        ({"cron": "0 6 * * *", "zon": "Europe/Paris"}, r"'zon' \(did you mean 'zone'\?\)"),
        ({}, "says no time"),
        ("{}", "says no time"),
        ({"recurrence": None, "zone": "Europe/Paris"}, "says no time"),
        ({"end": "2030-01-01"}, "says no time"),
        ({"cron": ["0 6 * * *"]}, "valid string"),
    ],
)
def test_a_schedule_with_a_slip_in_a_key_does_not_run_at_once(schedule, told):
    with pytest.raises(ValidationError, match=told):
        order(schedule=schedule)


@pytest.mark.parametrize("start", ["soon", True, {"a": 1}, 1e300])
def test_a_start_that_is_no_moment_is_refused(start):
    with pytest.raises(ValidationError):
        order(schedule={"cron": "0 6 * * *", "start": start})


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"parameters": '{"a": "\\u0000"}'}, "NUL"),
        ({"infrastructure": '{"a": 1, "a": 2}'}, "twice"),
        ({"schedule": '{"recurrence": "\\u0000"}'}, "NUL"),
        ({"graph-setting": '[["a\\u0000"]]'}, "NUL"),
        ({"graph-setting": "[" * 100 + "]" * 100}, "64 levels"),
        ({"parameters": '"\ud800"'}, "surrogate"),
    ],
)
def test_json_inside_a_text_is_held_to_what_bodies_are(sent, told):
    with pytest.raises(ValidationError, match=told):
        order(**sent)


def test_parameters_of_a_form_are_json_text():
    assert order(parameters='{"a": "1"}').parameters == {"a": "1"}
    assert order(parameters="").parameters == order(parameters=None).parameters == {}
    with pytest.raises(ValidationError, match="must be an object"):
        order(parameters="a=1")
    with pytest.raises(ValidationError):
        order(parameters=[1])


@pytest.mark.parametrize("name", ["source-date", "date-of-source-data", "source_date"])
def test_the_date_of_source_data_has_three_names(name):
    assert order(**{name: "2026-11-22"}).source_date == "2026-11-22"
    with pytest.raises(ValidationError, match="ISO 8601"):
        order(**{name: "yesterday"})


def test_alerts_are_for_all_events_or_for_named_ones():
    everywhere = order(alerts="ops@x.org").alerts
    events = ["start", "warning", "over_duration", "success", "failure"]
    assert everywhere == {event: ["ops@x.org"] for event in events}
    assert order(**{"alert-destinations": {"orderrunError": ["a@x.org"]}}).alerts == {
        "failure": ["a@x.org"]
    }
    with pytest.raises(ValidationError, match="no alert 'boom'"):
        order(alerts={"boom": ["a"]})


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"schedule": 5}, "schedule: write now, a cron line such as 0 6 * * *, or an object"),
        ({"schedule": []}, "schedule: write now, a cron line such as 0 6 * * *, or an object"),
        ({"schedule": {"start": 10**30}}, "schedule.start: must be ISO 8601"),
        ({"schedule": {"cron": 5}}, "schedule.cron: Input should be a valid string"),
        ({"graph-setting": [["a"], 5]}, "graph-setting.1: Input should be a valid list"),
        ({"alerts": {"orderrunError": [5]}}, "alerts: Alert orderrunError: its destinations must"),
        (
            {"alerts": {"orderrunError": ["ops"]}},
            "alerts: Alert orderrunError: 'ops' is neither a mail address",
        ),
        ({"alerts": 5}, "alerts: alerts must be an object of events, or a list of addresses."),
    ],
)
def test_faults_name_their_place_in_the_clients_words(sent, told):
    with pytest.raises(ValidationError) as caught:
        order(**sent)
    faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in caught.value.errors()]
    assert describe_validation(RequestValidationError(faults)).startswith(told)


def test_a_graph_names_its_nodes_once():
    assert order(**{"graph-setting": [["a"], ["a", "b"], "c"]}).nodes() == ("a", "b", "c")
    assert order(**{"graph-setting": '[["a"]]'}).nodes() == ("a",)


def test_a_kitchen_document_takes_both_shapes_of_overrides():
    new = schemas.KitchenDocument.model_validate({"recipeoverrides": {"a": 1}})
    old = schemas.KitchenDocument.model_validate(
        {"recipeoverrides": [{"variable": "a", "value": 1, "category": "x"}]}
    )
    assert new.overrides == old.overrides == {"a": 1}
    with pytest.raises(ValidationError, match="each override"):
        schemas.KitchenDocument.model_validate({"recipeoverrides": [{"value": 1}]})


def test_a_kitchen_document_without_a_key_leaves_its_property():
    document = schemas.KitchenDocument.model_validate({"name": "x", "staff": ["a"]})
    own = ["description", "staff", "roles", "overrides", "recipes", "restrict_recipes", "settings"]
    assert [getattr(document, part) for part in own] == [None] * len(own)
    assert document.alert_addresses() is None
    assert document.model_extra == {"name": "x", "staff": ["a"]}


def test_a_file_change_without_contents_deletes():
    changes = schemas.FileChanges.model_validate(
        {"files": {"a": {}, "b": {"contents": "", "isNew": True}}}
    )
    assert changes.files["a"].contents is None
    assert changes.files["b"].contents == ""


def test_query_and_body_filters_are_the_same():
    line = schemas.StatusQuery.model_validate(
        {"r": "demo", "start": "2", "count": "5", "scount": "1"}
    )
    body = schemas.StatusQuery.model_validate(
        {"recipe": "demo", "servingsCount": 1, "timePeriod": 24}
    )
    assert (line.recipe, line.start, line.count, line.runs) == ("demo", 2, 5, 1)
    assert (body.recipe, body.runs, body.hours) == ("demo", 1, 24)
    with pytest.raises(ValidationError):
        schemas.StatusQuery.model_validate({"count": -1})
