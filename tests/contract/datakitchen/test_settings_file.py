"""The settings file of the account: read, replaced, and its alerts used."""

import json
import uuid

import pytest
import sqlalchemy as sa
from tests.contract.datakitchen.world import ADMIN
from tests.contract.live import until

from galley.core.events.models import audit_entries
from galley.core.runs import models
from galley.storage.db import Database

pytestmark = pytest.mark.evidence("source", "contract 3.3, from dkcloudcommand 1.5.33")

PATH = "/v2/kitchen/settings/json/master"
ALERTS = ("orderrunStart", "orderrunWarning", "orderrunOverDuration", "orderrunSuccess",
          "orderrunError")  # fmt: skip
NOTHING = {
    "kitchenwizard": {"wizards": [], "variablesets": []},
    "agile-tools": None,
    "alerts": dict.fromkeys(ALERTS),
}


@pytest.fixture(autouse=True)
def clean(admin):
    """Whatever this or another test puts there goes."""
    put(admin, {})
    yield
    put(admin, {})


def put(api, file, **more):
    return api.good("POST", PATH, {"filepath": ["kitchen-settings.json"], "file": file}, **more)


def stored(live, query):
    database = Database(f"sqlite:///{live.data / 'galley.db'}")
    try:
        with database.reading() as session:
            return session.execute(query).all()
    finally:
        database.close()


def audited(live):
    """The entries of changed settings, oldest first."""
    query = sa.select(audit_entries).where(audit_entries.c.action == "settings.manage")
    return stored(live, query.order_by(audit_entries.c.id))


def test_the_settings_file_of_an_account_that_set_nothing(admin):
    answer = admin.good("GET", PATH)
    assert answer == {"filename": "kitchen-settings.json", "json": NOTHING}
    assert list(answer["json"]) == list(NOTHING)


def test_the_settings_file_is_replaced(live, admin):
    before = len(audited(live))
    wizard = {"wizards": [{"name": "w"}], "variablesets": [{"a": 1}], "more": True}
    file = {
        "kitchenwizard": wizard,
        "agile-tools": {"jira": {"url": "https://jira.example.com"}},
        "alerts": {"orderrunError": ["ops@example.com", "https://hooks.example.com/x"]},
        "ours": {"kept": [1, 2, None]},
    }
    assert put(admin, file) == {"status": "success"}
    alerts = {**dict.fromkeys(ALERTS), **file["alerts"]}
    assert admin.good("GET", PATH)["json"] == {**file, "alerts": alerts}
    shown = admin.good("GET", PATH)["json"]
    put(admin, shown)
    assert admin.good("GET", PATH)["json"] == shown
    put(admin, {"agile-tools": None})
    assert admin.good("GET", PATH)["json"] == NOTHING
    entries = audited(live)[before:]
    assert [(entry.actor, entry.outcome) for entry in entries] == [(ADMIN, "done")] * 2


def test_a_replacement_that_is_sent_again_counts_once(admin):
    key = {"Idempotency-Key": str(uuid.uuid4())}
    put(admin, {"ours": 1}, headers=key)
    put(admin, {"ours": 2})
    put(admin, {"ours": 1}, headers=key)
    assert admin.good("GET", PATH)["json"]["ours"] == 2


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "filepath"),
        ({"filepath": ["kitchen-settings.json"]}, "file"),
        ({"filepath": ["other.json"], "file": {}}, "kitchen-settings.json"),
        ({"filepath": ["kitchen-settings.json"], "file": [1]}, "file"),
        ({"filepath": ["kitchen-settings.json"], "file": {"kitchenwizard": {"wizards": 5}}}, "wiz"),
        ({"filepath": ["kitchen-settings.json"], "file": {"agile-tools": "x"}}, "agile-tools"),
        ({"filepath": ["kitchen-settings.json"], "file": {"alerts": {"onFire": ["a@x.org"]}}},
         "onFire"),
        ({"filepath": ["kitchen-settings.json"], "file": {"alerts": {"orderrunError": ["no"]}}},
         "orderrunError"),
        ({"filepath": ["kitchen-settings.json"], "file": {"alerts": {"orderrunError": 7}}},
         "orderrunError"),
        ({"filepath": ["kitchen-settings.json"], "file": {"big": "x" * 1_000_001}}, "1000000"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_is_refused(admin, body, told):
    put(admin, {"ours": "as before"})
    got = admin.call("POST", PATH, body)
    assert got.status == 400, got.text
    assert told in json.dumps(got.json["message"])
    assert admin.good("GET", PATH)["json"] == {**NOTHING, "ours": "as before"}


def test_it_is_for_operators_and_at_the_root(admin, member, kitchen):
    body = {"filepath": ["kitchen-settings.json"], "file": {}}
    for method, sent in (("GET", None), ("POST", body)):
        got = member.call(method, PATH, sent)
        assert got.status == 403
        assert "admin or operator" in got.json["message"]["error"]
        other = PATH.replace("master", kitchen)
        got = admin.call(method, other, sent)
        assert got.status == 400
        assert "master" in got.json["message"]["error"]
        got = admin.call(method, PATH.replace("master", "nowhere"), sent)
        assert got.status == 400
        assert "was not found in the database" in got.json["message"]["error"]


def test_the_accounts_alerts_are_sent_with_the_kitchens_and_the_orders(live, admin, demo):
    put(admin, {"alerts": {"orderrunSuccess": ["all@example.com", "both@example.com"]}})
    path = f"/v2/kitchen/settings/{demo.kitchen}"
    document = demo.api.good("GET", path)
    document["settings"]["alerts"]["orderrunSuccess"] = ["both@example.com", "dev@example.com"]
    demo.api.good("PUT", path, {"kitchen.json": document})
    order = demo.order(body={"alerts": {"orderrunSuccess": ["me@example.com", "all@example.com"]}})
    run = demo.ended(order)["hid"]
    uid = stored(live, sa.select(models.runs.c.uid).order_by(models.runs.c.id.desc()).limit(1))[
        0
    ].uid
    assert uuid.UUID(run)

    def told():
        query = sa.select(models.outbox.c.body)
        bodies = [row.body for row in stored(live, query) if row.body.get("run_uid") == uid]
        return sorted((body["event"], body["to"]) for body in bodies)

    assert until(told, what="the alerts") == [
        ("success", f"{name}@example.com") for name in ("all", "both", "dev", "me")
    ]
    put(admin, {})
    later = demo.ended(demo.order())["hid"]
    (shown,) = demo.details(serving_hid=later)["servings"]
    assert "dev@example.com" in json.dumps(shown["issues"])
    assert "all@example.com" not in json.dumps(shown)
