"""The recipe that contract tests order, as the vendor's files."""

import json
from typing import Any


def _text(document: Any) -> str:
    return json.dumps(document, indent=4)


def _noop(notebook: dict[str, Any] | None = None) -> dict[str, str]:
    return {
        "description.json": _text({"type": "DKNode_NoOp", "description": "waits and checks"}),
        "notebook.json": _text(notebook or {}),
    }


GATE = {
    "tests": {
        "enough": {
            "description": "there are enough",
            "action": "stop-on-error",
            "test-variable": "amount",
            "type": "test-contents-as-integer",
            "test-logic": {"test-compare": "greater-than", "test-metric": "floor"},
        },
        "plenty": {
            "action": "warning",
            "test-variable": "amount",
            "type": "test-contents-as-integer",
            "test-logic": {"test-compare": "greater-than", "test-metric": 100},
        },
    }
}

GRAPHS = {
    "chain": [["first", "gate"], ["gate", "last"]],
    "wait": [["slow"]],
}

VARIATIONS = {
    "variation-list": {
        "v1": {"description": "once", "graph-setting": "chain"},
        "daily": {
            "description": "every morning",
            "graph-setting": "chain",
            "schedule-setting": "at_six",
        },
        "slow": {"description": "takes its time", "graph-setting": "wait"},
    },
    "graph-setting-list": GRAPHS,
    "schedule-setting-list": {
        "at_six": {"schedule": "0 6 * * *", "scheduleTimeZone": "Europe/Paris"}
    },
    "override-setting-list": {},
    "conditions-list": {},
    "ingredient-definition-list": [],
}

NODES = {
    "first": _noop(),
    "gate": _noop(GATE),
    "last": _noop(),
    "slow": _noop({"sleep": 600}),
}


def demo_files() -> dict[str, str]:
    """Path -> text: three quick nodes with a gate, a schedule, and a node that sleeps."""
    files = {
        "description.json": _text({"description": "for tests"}),
        "variables.json": _text({"variable-list": {"amount": "12", "floor": 10, "region": "eu"}}),
        "variations.json": _text(VARIATIONS),
        "resources/README.txt": "Nothing to see.\n",
    }
    for node, parts in NODES.items():
        files |= {f"{node}/{name}": text for name, text in parts.items()}
    return files


def changes() -> dict[str, dict[str, Any]]:
    """The body of an update that writes the whole recipe."""
    return {path: {"contents": text, "isNew": True} for path, text in demo_files().items()}
