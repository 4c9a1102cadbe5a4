"""Every failpoint is named in the docs, and some test kills or fails there."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CALL = re.compile(r"""\bfailpoint\(\s*(?:f?["']([^"']*)["'])?""")
NAME = re.compile(r"`([a-z_]+\.[a-z_]+)`")


def in_the_source() -> list[str]:
    found = []
    for path in (ROOT / "src").rglob("*.py"):
        if path.name != "failpoints.py":
            found += CALL.findall(path.read_text())
    return found


def test_each_is_called_by_a_plain_name_in_one_place() -> None:
    assert {name: n for name, n in Counter(in_the_source()).items() if n > 1 or not name} == {}


def test_each_stands_in_the_docs_and_the_docs_name_no_other() -> None:
    page = (ROOT / "docs/explanation/runs.md").read_text()
    table = page.split("## Killed at every step")[1]
    assert sorted(NAME.findall(table)) == sorted(in_the_source())


def test_each_is_used_by_a_test() -> None:
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    text = "\n".join(path.read_text() for path in tests)
    assert [name for name in in_the_source() if f'"{name}' not in text] == []
