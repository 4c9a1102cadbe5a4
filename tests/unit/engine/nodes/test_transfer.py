from pathlib import Path

import pytest

from galley.core.recipes.spec import CheckSpec, EndpointSpec, KeySpec, MappingSpec, StepSpec
from galley.engine.nodes import run_spec

CSV = "id,name\n1,a\n2,\n3,c\n"
MEASURES = {
    "row_count": "n_lines",
    "column_count": "n_columns",
    "size": "n_bytes",
    "md5": "m",
    "sha": "s",
}


def source(*keys, **more):
    return EndpointSpec("source", "file", {}, keys, **more)


def orders(**more):
    return KeySpec("orders", "read_file", path="orders.csv", **more)


def sink(*keys, **more):
    return EndpointSpec("sink", more.pop("system", "file"), more.pop("config", {}), keys, **more)


def transfer(sources, sinks, **more):
    mapping = MappingSpec("source", "orders", "sink", "target", "m1")
    return StepSpec("transfer", sources=sources, sinks=sinks, **{"mappings": (mapping,), **more})


def test_a_file_becomes_a_table_with_measures_on_both_sides(task, console, work):
    (work / "orders.csv").write_text(CSV)
    target = KeySpec(
        "target", "insert", table="orders",
        options={"write-mode": "create"}, exports={"row_count": "n_rows", "schema": "types"},
    )  # fmt: skip
    spec = transfer(
        (source(orders(exports=MEASURES), exports={"key_count": "keys"}),),
        (sink(target, system="duckdb", config={"database": "shop.db"}),),
    )
    outcome = run_spec(task("transfer"), spec, console)
    assert outcome.state == "succeeded", outcome.reason
    assert outcome.exports["n_lines"] == 4
    assert outcome.exports["n_rows"] == 3
    assert outcome.exports["types"] == {"id": "BIGINT", "name": "VARCHAR"}
    assert (outcome.exports["n_columns"], outcome.exports["n_bytes"]) == (2, len(CSV))
    assert (outcome.exports["keys"], len(outcome.exports["m"]), len(outcome.exports["s"])) == (
        1,
        32,
        64,
    )
    assert set(outcome.timings) == {"source/source", "notebook", "sink/sink"}


@pytest.mark.parametrize("place", ["source", "notebook"])
def test_a_gate_stops_before_anything_is_written(task, console, work, place):
    (work / "orders.csv").write_text(CSV)
    gate = (CheckSpec("gate", "stop", variable="n", compare="gt", metric=100),)
    spec = transfer(
        (source(orders(exports={"row_count": "n"}), checks=gate if place == "source" else ()),),
        (sink(KeySpec("target", "write_file", path="out.csv")),),
        checks=gate if place == "notebook" else (),
    )
    outcome = run_spec(task("transfer"), spec, console)
    assert (outcome.state, outcome.retryable) == ("failed", False)
    assert "The check gate of step step1" in outcome.reason
    assert "4 greater-than 100" in outcome.reason
    assert outcome.exports == {"n": 4}
    assert not (work / "out.csv").exists()


def test_a_check_of_a_sink_sees_what_was_written(task, console, work):
    (work / "orders.csv").write_text(CSV)
    gate = (CheckSpec("written", "stop", variable="n", compare="eq", metric=4),)
    target = KeySpec("target", "write_file", path="out.csv", exports={"row_count": "n"})
    outcome = run_spec(
        task("transfer"), transfer((source(orders()),), (sink(target, checks=gate),)), console
    )
    assert outcome.state == "succeeded", outcome.reason
    assert outcome.checks[0].place == ("sink", "sink")


def test_an_older_check_loops_over_keys(task, console, work):
    (work / "orders.csv").write_text(CSV)
    loop = CheckSpec("size", "stop", variable="row_count", compare="eq", metric=4, over=("orders",))
    spec = StepSpec("transfer", sources=(source(orders(), checks=(loop,)),))
    outcome = run_spec(task("transfer"), spec, console)
    assert outcome.state == "succeeded", outcome.reason
    assert [(c.name, c.text) for c in outcome.checks] == [("size/orders", "4 equal-to 4")]


def test_wildcards_carry_every_file(task, console, work):
    (work / "in").mkdir()
    for name in ("a.csv", "b.csv"):
        (work / "in" / name).write_text(CSV)
    template = KeySpec("*", "read_file", path="*", exports={"size": "last_size"})
    spec = StepSpec(
        "transfer",
        sources=(EndpointSpec("source", "file", {"folder": "in"}, wildcard="*.csv",
                              key_template=template,
                              exports={"key_count": "n"}),),
        sinks=(EndpointSpec("sink", "file", {}, wildcard="*",
                            key_template=KeySpec("*", "write_file", path="out/copy-*")),),
        wildcards=(("source", "sink"),),
    )  # fmt: skip
    outcome = run_spec(task("transfer"), spec, console)
    assert outcome.state == "succeeded", outcome.reason
    assert outcome.exports == {"last_size": len(CSV), "n": 2}
    assert sorted(path.name for path in (work / "out").iterdir()) == ["copy-a.csv", "copy-b.csv"]


def test_wildcards_fill_tables_named_after_files(task, console, work):
    for name in ("a.csv", "b.csv"):
        (work / name).write_text(CSV)
    table = KeySpec("*", "insert", table="t_*", options={"write-mode": "create"})
    spec = StepSpec(
        "transfer",
        sources=(EndpointSpec("source", "file", {}, wildcard="?.csv"),),
        sinks=(
            EndpointSpec("sink", "sqlite", {"database": "x.db"}, wildcard="*", key_template=table),
        ),
        wildcards=(("source", "sink"),),
    )
    assert run_spec(task("transfer"), spec, console).state == "succeeded"
    both = "SELECT count(*) FROM (SELECT * FROM t_a UNION ALL SELECT * FROM t_b)"
    count = KeySpec("c", "scalar", sql=both, exports={"result": "n"})
    action = EndpointSpec("a", "sqlite", {"database": "x.db"}, (count,))
    assert run_spec(task("action"), StepSpec("action", actions=(action,)), console).exports == {
        "n": 6
    }


def test_a_scalar_can_go_to_a_sink(task, console):
    query = EndpointSpec("source", "duckdb", {"database": "x.db"}, (
        KeySpec("orders", "scalar", sql="SELECT 41 + 1", exports={"result": "answer"}),
    ))  # fmt: skip
    make = EndpointSpec(
        "a", "duckdb", {"database": "x.db"}, (KeySpec("k", "statement", sql="SELECT 1"),)
    )
    run_spec(task("action"), StepSpec("action", actions=(make,)), console)
    made = task("transfer")
    target = sink(KeySpec("target", "value"), system="dictionary", config={"bucket-name": "b"})
    outcome = run_spec(made, transfer((query,), (target,)), console)
    assert outcome.exports == {"answer": 42}, outcome.reason
    back = EndpointSpec("source", "dictionary", {"bucket-name": "b"}, (
        KeySpec("target", "value", exports={"result": "again"}),
    ))  # fmt: skip
    outcome = run_spec(task("transfer"), StepSpec("transfer", sources=(back,)), console)
    assert outcome.exports == {"again": 42}


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        (
            MappingSpec("source", "nope", "sink", "target"),
            "the source source.nope, which is not there",
        ),
        (
            MappingSpec("source", "orders", "sink", "nope", "m1"),
            "mapping m1 names the sink sink.nope",
        ),
    ],
)
def test_a_mapping_to_nowhere_is_named(task, console, work, mapping, words):
    (work / "orders.csv").write_text(CSV)
    spec = transfer(
        (source(orders()),), (sink(KeySpec("target", "write_file", path="o")),), mappings=(mapping,)
    )
    assert words in run_spec(task("transfer"), spec, console).reason


def test_a_sink_key_without_data_is_told(task, console, work):
    (work / "orders.csv").write_text(CSV)
    spec = transfer(
        (source(orders()),),
        (
            sink(
                KeySpec("target", "write_file", path="o.csv"),
                KeySpec("other", "write_file", path="p"),
            ),
        ),
    )
    assert run_spec(task("transfer"), spec, console).state == "succeeded"
    assert "W Nothing is mapped to sink.other; left out" in console.text


def test_files_in_out_and_artifacts_are_staged(task, console, work):
    (work / "orders.csv").write_text(CSV)
    (work / "plots").mkdir()
    (work / "plots" / "a.html").write_text("<p>")
    made = task("transfer")
    target = KeySpec("target", "write_file", path=f"{made.folder}/out/data/orders.parquet")
    spec = transfer((source(orders()),), (sink(target),), artifacts=("plots/*.html",))
    outcome = run_spec(made, spec, console)
    assert outcome.state == "succeeded", outcome.reason
    import hashlib

    assert [s.name for s in outcome.staged] == ["data/orders.parquet", "plots/a.html"]
    for staged in outcome.staged:
        content = Path(staged.path).read_bytes()
        assert staged.sha256 == hashlib.sha256(content).hexdigest()
        assert staged.size_bytes == len(content)
    assert [s.media_type for s in outcome.staged] == ["application/vnd.apache.parquet", "text/html"]


def test_a_missing_artifact_fails_the_step(task, console):
    outcome = run_spec(task(), StepSpec("noop", artifacts=("nope.html",)), console)
    assert "The artifact nope.html is not there" in outcome.reason


def test_links_in_out_are_not_published(task, console, tmp_path):
    made = task()
    out = Path(made.folder) / "out"
    out.mkdir(parents=True)
    (out / "link").symlink_to("/etc/passwd")
    assert run_spec(made, StepSpec("noop"), console).staged == ()


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_an_artifact_is_not_written_through_a_link_in_out(task, console, work, tmp_path, linked):
    victim = tmp_path / "victims" / "report.html"
    victim.parent.mkdir()
    victim.write_text("mine")
    (work / "plots").mkdir()
    (work / "plots" / "report.html").write_text("evil")
    made = task()
    out = Path(made.folder) / "out"
    out.mkdir(parents=True)
    if linked == "file":
        (out / "plots").mkdir()
        (out / "plots" / "report.html").symlink_to(victim)
    else:
        (out / "plots").symlink_to(victim.parent)
    outcome = run_spec(made, StepSpec("noop", artifacts=("plots/*.html",)), console)
    assert victim.read_text() == "mine"
    if linked == "file":
        assert [Path(staged.path).read_text() for staged in outcome.staged] == ["evil"]
    else:
        assert "plots/report.html cannot be put into the folder" in outcome.reason


def test_an_artifact_is_taken_only_from_where_it_lies(task, console, work, tmp_path, monkeypatch):
    """A program of another step, which shares the folder, swaps the file after the look."""
    (tmp_path / "secret.key").write_text("TOP SECRET")
    (work / "report.html").write_text("<p>")
    look = Path.is_file

    def swap(path):
        found = look(path)
        if path.name == "report.html":
            path.unlink()
            path.symlink_to(tmp_path / "secret.key")
        return found

    monkeypatch.setattr(Path, "is_file", swap)
    outcome = run_spec(task(), StepSpec("noop", artifacts=("report.html",)), console)
    assert "lies outside the folders that a step may read" in outcome.reason
    assert outcome.staged == ()
