"""The log of an order run: a stretch of it, and the whole of it in an archive."""

import base64
import io
import json
import zipfile

import pytest
from tests.contract.datakitchen.recipes import GATE
from tests.contract.datakitchen.world import MEMBER

pytestmark = pytest.mark.evidence("source", "contract 3.6, 3.8, from dkcloudcommand 1.5.33")

NOBODY = "887d01ba-365e-11e9-8394-0242ac110002"


@pytest.fixture
def ended(demo):
    """The demo with two nodes that log, and a run of it that has ended."""
    files = {"first/notebook.json": {"contents": json.dumps(GATE)}}
    demo.api.good("POST", f"/v2/recipe/update/{demo.kitchen}/demo", {"files": files})
    return demo, demo.ended(demo.order())["hid"]


def exported(demo, run):
    answer = demo.api.good("GET", f"/v2/order/export/logs/{demo.kitchen}/{run}")
    assert list(answer) == ["log"]
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(answer["log"], validate=True))) as archive:
        assert archive.namelist() == [f"{run}.txt"]
        return archive.read(f"{run}.txt").decode().splitlines()


def test_a_log_is_read_from_its_beginning(ended):
    demo, run = ended
    path = f"/v2/order/logs/{demo.kitchen}/{run}"
    (details,) = demo.details(serving_hid=run, logs=True)["servings"]
    log = demo.api.good("GET", path)
    assert log == details["log"]
    assert log["count"] == len(log["lines"]) > 3
    assert (log["start"], set(log)) == (0, {"count", "start", "lines"})
    some = demo.api.good("GET", path, params={"start": 1, "count": 2})
    assert some == {"count": 2, "start": 1, "lines": log["lines"][1:3]}
    gate = demo.api.good("GET", path, {"node": "gate"})["lines"]
    assert gate == [line for line in log["lines"] if line["node"] == "gate"] != []
    warned = demo.api.good("GET", path, params={"record_type": "WARNING,ERROR"})["lines"]
    assert warned == [line for line in log["lines"] if line["record_type"] in {"WARN", "ERROR"}]
    assert warned
    both = demo.api.good("GET", path, {"record_type": ["INFO"], "node": "first", "count": 5000})
    assert both["lines"] == [
        line for line in log["lines"] if (line["node"], line["record_type"]) == ("first", "INFO")
    ]
    assert demo.api.good("GET", path, {"start": 10_000})["lines"] == []


def test_the_whole_log_is_taken_away_in_an_archive(ended):
    demo, run = ended
    head, columns, *lines = exported(demo, run)
    assert head == f"Log of the order run {run}: recipe demo, variation v1"
    assert columns == "datetime | record_type | node | message"
    log = demo.api.good("GET", f"/v2/order/logs/{demo.kitchen}/{run}")
    assert lines == [
        f"{line['datetime']}Z | {line['record_type']} | {line['node']} | {line['message']}"
        for line in log["lines"]
    ]


def test_a_log_of_more_than_the_bound_says_so(live, ended):
    demo, run = ended
    written = [path for path in (live.data / "logs").rglob("*.log") if path.stat().st_size]
    newest = max(written, key=lambda path: path.stat().st_mtime_ns)
    sample = newest.read_bytes().splitlines(keepends=True)[0]
    with newest.open("r+b") as file:
        content = file.read()
        file.seek(0)
        line = sample.rstrip(b"\n") + b" " + b"x" * 4000 + b"\n"
        file.write(line * (70_000_000 // len(line)) + content)
    _, told, _, *lines = exported(demo, run)
    assert told.startswith("The first ")
    assert "64 MiB" in told
    assert content.splitlines()[-1].decode()[30:] in lines[-1]
    assert 60_000_000 < sum(map(len, lines)) < 70_000_000


@pytest.mark.parametrize("path", ["/v2/order/logs/{}/{}", "/v2/order/export/logs/{}/{}"])
def test_whoever_may_not_read_it_and_what_is_not_there(ended, outsider, path):
    demo, run = ended

    def refusal(api, kitchen, wanted):
        got = api.call("GET", path.format(kitchen, wanted))
        assert got.status == 400
        return json.dumps(got.json)

    for unknown in (NOBODY, "nonsense", "None"):
        assert "does not exist." in refusal(demo.api, demo.kitchen, unknown)
    assert "does not exist." in refusal(demo.api, "master", run)
    assert "access rights" in refusal(demo.api, "nowhere", run)
    assert outsider.call("GET", path.format(demo.kitchen, run)).status == 200
    settings = f"/v2/kitchen/settings/{demo.kitchen}"
    document = demo.api.good("GET", settings)
    document["kitchen-staff"] = [MEMBER]
    demo.api.good("PUT", settings, {"kitchen.json": document})
    assert "access rights" in refusal(outsider, demo.kitchen, run)


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        ({"record_type": "LOUD"}, "LOUD"),
        ({"record_type": [1]}, "record_type"),
        ({"node": "nope"}, "nope"),
        ({"count": 5001}, "count"),
        ({"start": -1}, "start"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(ended, filters, told):
    demo, run = ended
    got = demo.api.call("GET", f"/v2/order/logs/{demo.kitchen}/{run}", filters)
    assert got.status == 400
    assert told in got.json["message"]["error"]
