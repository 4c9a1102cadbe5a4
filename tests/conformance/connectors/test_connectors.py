"""One suite over every system that keeps rows: what goes in comes out, and faults are clear."""

import pytest
from tests.conformance.connectors.rigs import SAMPLE

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import BUILT_IN, connector, tables
from galley.engine.faults import StepError
from galley.engine.nodes.measures import measure

MANY = """
SELECT i::BIGINT AS id, CASE WHEN i % 10 = 0 THEN NULL ELSE 'name ' || i END AS name,
       (i / 7)::DOUBLE AS price FROM range({count}) t(i)
"""


def content(place, batch, select="*", order="id"):
    with tables.engine(place, batch.path.parent) as engine:
        known = tables.typed(engine, batch)
        types = {column.name: column.type for column in known.columns}
        found = engine.execute(
            f"SELECT {select} FROM {tables.reader(known)} ORDER BY {order}"
        ).fetchall()
    return types, found


def test_types_nulls_and_text_come_back(rig, system, place, rows, into):
    sample = rows(SAMPLE)
    system.write(rig.config, rig.write, sample)

    types, found = content(place, system.read(rig.config, rig.read, into()))

    assert types == rig.types
    wanted = ", ".join(
        f'"{name}"::{kind.replace("BIGINT", "BIGINT")} AS "{name}"'
        if kind != "VARCHAR"
        else f'"{name}"::VARCHAR AS "{name}"'
        for name, kind in rig.types.items()
    )
    _, expected = content(place, sample, select=wanted)
    assert found == expected
    assert [row[1] for row in found] == [
        "ünï \"q\", 's';\nline",
        "plain",
        None,
        "",
    ]


def test_no_rows_stay_no_rows(rig, system, place, rows, into):
    system.write(rig.config, rig.write, rows(f"SELECT * FROM ({SAMPLE}) WHERE false"))
    back = system.read(rig.config, rig.read, into())
    lines = measure(place, back, ["row_count"])["row_count"]
    assert lines == (1 if back.format == "csv" and back.is_file else 0)


def _many(rig, system, place, into, sample):
    count = sample.row_count
    system.write(rig.config, rig.write, sample)
    back = system.read(rig.config, rig.read, into())
    _, found = content(
        place, back, "count(*), count(name), sum(id), max(price), count(DISTINCT id)", "1"
    )
    total = count * (count - 1) // 2
    assert found == [(count, count - count // 10, total, (count - 1) / 7, count)]


def test_a_hundred_thousand_rows(rig, system, place, rows, into):
    _many(rig, system, place, into, rows(MANY.format(count=100_000)))


@pytest.mark.slow
def test_a_million_rows(rig, system, place, rows, into):
    _many(rig, system, place, into, rows(MANY.format(count=1_000_000)))


def test_a_reachable_system_passes_its_own_test(rig, system, rows):
    system.write(rig.config, rig.write, rows(SAMPLE))
    assert system.test(rig.config) is None


def test_a_wrong_place_is_refused_with_its_cure(rig, system, rows):
    with pytest.raises(StepError) as caught:
        system.write(rig.wrong, rig.write, rows(SAMPLE))
    message = caught.value.message
    assert any(word in message for word in ("outside", "could not be called", "let us not in"))
    assert "Traceback" not in message


def test_what_is_not_there_is_named(rig, system, rows, into):
    system.write(rig.config, rig.write, rows(SAMPLE))
    with pytest.raises(StepError, match=r"[Cc]heck") as caught:
        system.read(rig.config, rig.missing, into())
    assert "nowhere" in caught.value.message
    assert "does not exist" not in caught.value.message
    assert not caught.value.retryable


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_connector_refuses_what_it_cannot_do(name, place):
    made = connector(name, place)
    known = made.capabilities
    assert known.reads | known.writes | known.runs
    if not known.wildcard:
        with pytest.raises(StepError, match="name the keys"):
            made.keys({}, "*")
    if not known.runs:
        with pytest.raises(StepError, match="does not go with"):
            made.run({}, KeySpec("k", "statement", sql="SELECT 1"))


def test_an_unknown_system_names_the_known_ones(place):
    with pytest.raises(StepError, match="no connector for abacus; there are dictionary, duckdb"):
        connector("abacus", place)
