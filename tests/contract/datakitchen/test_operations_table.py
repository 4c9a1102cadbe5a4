"""The operations file against the contract's own tables, row by row."""

import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.evidence("source", "contract 3.2, 3.3, 3.5, 3.6, 3.9, their tables")

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).parent
OPERATIONS = tomllib.loads((ROOT / "src/galley/dialects/datakitchen/operations.toml").read_text())[
    "operation"
]
ROW = re.compile(r"^\| ((?:GET|POST|PUT|DELETE) .*?) \|")


def shape(path):
    """A path with its parameters made alike: `{k}`, `{run or "None"}` and the like are `{}`."""
    return re.sub(r"\{[^}]*\}", "{}", path.split("?")[0])


def operations_of(cell):
    """The (method, path) pairs that a row's first cell names."""
    found, method = [], ""
    cell = re.sub(r"\{[^}]*\}", "{}", cell)
    for part in re.split(r",\s*", re.sub(r"\s*\(GET too\)", ", GET *", cell)):
        verb, _, path = part.strip().rpartition(" ")
        method = verb or method
        found.append((method, found[-1][1] if path == "*" else shape(path)))
    return found


def contract_rows():
    rows = []
    for line in (HERE / "tables.md").read_text().splitlines():
        match = ROW.match(line)
        if match:
            rows.extend(operations_of(match.group(1)))
    return rows


def test_the_copy_of_the_tables_is_there():
    assert len(contract_rows()) >= 55


@pytest.mark.parametrize(("method", "path"), contract_rows())
def test_every_row_of_the_contract_is_listed(method, path):
    listed = {(o["method"], shape(o["path"])) for o in OPERATIONS}
    assert (method, path) in listed


def test_nothing_else_is_listed_and_nothing_twice():
    listed = [(o["method"], shape(o["path"])) for o in OPERATIONS]
    assert len(listed) == len(set(listed))
    assert set(listed) == set(contract_rows())
    assert len({o["id"] for o in OPERATIONS}) == len(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o["id"])
def test_what_is_done_names_its_test_and_what_is_planned_does_not(operation):
    assert operation["state"] in {"done", "planned"}
    if operation["state"] == "planned":
        assert "test" not in operation
        return
    file, _, name = operation["test"].partition("::")
    assert f"def {name}(" in (ROOT / file).read_text()
