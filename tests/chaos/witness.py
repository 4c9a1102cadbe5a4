"""A recipe whose steps write to a file outside Galley, and a checker that reads it.

Two of its steps also leave a result, whose content is known beforehand.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEYS = ("a", "b", "c", "d", "e", "f", "g", "h")
EDGES = [
    ["a", "b"], ["a", "c"], ["a", "d"],
    ["b", "e"], ["c", "e"], ["d", "e"],
    ["e", "f"], ["e", "g"], ["f", "h"], ["g", "h"],
]  # fmt: skip
KEPT = {"e": 3000, "h": 1}
"""The steps that leave a result, and how many lines it has."""


def recipe(witness: Path, *, step_s: float) -> dict[str, str]:
    """Eight steps; each appends a line when it starts and when it ends, with its process's pid."""
    variations = {
        "variation-list": {"v": {"description": "", "graph-setting": "g"}},
        "graph-setting-list": {"g": EDGES},
        "schedule-setting-list": {},
        "override-setting-list": {},
        "conditions-list": {},
        "ingredient-definition-list": [],
    }
    files: dict[str, Any] = {
        "description.json": {"description": "for kills"},
        "variables.json": {"variable-list": {}},
        "variations.json": variations,
    }
    for key in KEYS:
        files[f"{key}/description.json"] = {"type": "DKNode_Action", "description": key}
        files[f"{key}/notebook.json"] = {"artifacts": [kept_name(key)]} if key in KEPT else {}
        files[f"{key}/actions/say.json"] = {
            "name": "say",
            "type": "DKDataSource_SHELL",
            "config": {},
            "keys": {"say": {"command": ["sh", "-c", _program(witness, key, step_s)]}},
        }
    return {path: json.dumps(content) for path, content in files.items()}


def _program(witness: Path, key: str, step_s: float) -> str:
    write = "printf '%s {{NodeName}} %s %s\\n' {{CurrentOrderRunId}}"
    keep = f"yes '{{{{CurrentOrderRunId}}}} {key}' | head -n {KEPT.get(key)} > {kept_name(key)};"
    return (
        f"{write} start $$ >> {witness}; sleep {step_s}; {keep if key in KEPT else ''}"
        f" {write} end $$ >> {witness}"
    )


def kept_name(key: str) -> str:
    """The name of the result that the step leaves."""
    return f"kept-{key}.txt"


def kept(run: str, key: str) -> bytes:
    """The content of the result that the step leaves."""
    return f"{run} {key}\n".encode() * KEPT[key]


@dataclass(frozen=True)
class Story:
    """What the steps wrote: how often each (run, step) started and ended, and in which order."""

    starts: Counter[tuple[str, str]]
    ends: Counter[tuple[str, str]]
    order: list[tuple[str, str, str]]

    def check_order(self) -> None:
        """No step began before all that it needs had ended."""
        ended: set[tuple[str, str]] = set()
        for run, key, what in self.order:
            if what == "end":
                ended.add((run, key))
                continue
            for before, after in EDGES:
                if after == key:
                    assert (run, before) in ended, f"{key} of {run} started before {before} ended"


def read(witness: Path) -> Story:
    """The story that the steps told."""
    starts: Counter[tuple[str, str]] = Counter()
    ends: Counter[tuple[str, str]] = Counter()
    order = []
    for line in witness.read_text().splitlines():
        run, key, what, _pid = line.split()
        (starts if what == "start" else ends)[run, key] += 1
        order.append((run, key, what))
    return Story(starts, ends, order)
