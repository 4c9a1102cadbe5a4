"""New recipes to start from: `qs1` (two placeholders), `qs2` (a table, checked), `qs3` (a script).

Source of qs1: contract section 2 (samples of the vendor's clients, November 2026): 8 files, two
placeholder steps, one variation `variation1`.
"""

import json
from collections.abc import Callable
from typing import Any

Template = Callable[[str, str], dict[str, bytes]]

_README = """\
{name}
{line}

{description}

Files that several steps share go here: SQL, scripts, texts. A template inserts one by
`load_text('resources/...')`.
"""
_ORDERS = """\
order_id,region,amount
1,eu,120.50
2,us,80.00
3,eu,42.25
4,apac,310.10
5,us,15.75
"""
_SCRIPT = '''\
"""Sums up a list of numbers; `numbers` comes from the step's parameters."""

total = sum(numbers)
mean = total / len(numbers)
LOGGER.info("The total of %s numbers is %s.", len(numbers), total)
'''


def quick_start_1(name: str, description: str) -> dict[str, bytes]:
    """Two placeholder steps, one after the other, that do nothing yet."""
    steps = ("placeholder-node1", "placeholder-node2")
    files = _root(name, description, [list(steps)], {})
    for step in steps:
        files[f"{step}/description.json"] = _json(
            {"type": "DKNode_NoOp", "description": "A placeholder: give it a type and a task."}
        )
        files[f"{step}/notebook.json"] = _json({})
    return files


def quick_start_2(name: str, description: str) -> dict[str, bytes]:
    """A CSV file is read, checked, and kept as Parquet."""
    files = _root(name, description, [["load_orders"]], {"minimum_rows": 5})
    files["resources/orders.csv"] = _ORDERS.encode()
    files["load_orders/description.json"] = _json(
        {"type": "DKNode_DataMapper", "description": "Checks the orders and keeps them."}
    )
    files["load_orders/notebook.json"] = _json(
        {
            "mappings": {
                "orders": {
                    "source-name": "source",
                    "source-key": "orders_in",
                    "sink-name": "sink",
                    "sink-key": "orders_out",
                }
            },
            "artifacts": ["orders.parquet"],
        }
    )
    files["load_orders/data_sources/source.json"] = _json(_source_of_orders())
    files["load_orders/data_sinks/sink.json"] = _json(
        {
            "name": "sink",
            "type": "DKDataSink_File",
            "config": {},
            "keys": {
                "orders_out": {
                    "file-key": "orders.parquet",
                    "use-only-file-key": True,
                    "format": "parquet",
                }
            },
        }
    )
    return files


def quick_start_3(name: str, description: str) -> dict[str, bytes]:
    """A Python script with parameters, whose results are checked."""
    files = _root(name, description, [["sum_up"]], {"numbers": [3, 5, 8, 13]})
    files["sum_up/description.json"] = _json(
        {"type": "DKNode_Container", "description": "Runs a Python script and checks its result."}
    )
    files["sum_up/notebook.json"] = _json(
        {
            "tests": {
                "total_is_positive": {
                    "description": "The script found a total above zero.",
                    "action": "stop-on-error",
                    "test-variable": "total",
                    "type": "test-contents-as-integer",
                    "test-logic": {"test-compare": "greater-than", "test-metric": 0},
                },
                "mean": {"action": "log", "test-variable": "mean", "test-logic": "mean"},
            }
        }
    )
    files["sum_up/docker-share/config.json"] = (
        b'{\n    "dependencies": [],\n    "keys": {\n        "sum_up": {\n'
        b'            "script": "sum_up.py",\n'
        b'            "parameters": {"numbers": {{numbers}}},\n'
        b'            "export": ["total", "mean"]\n        }\n    }\n}\n'
    )
    files["sum_up/docker-share/sum_up.py"] = _SCRIPT.encode()
    return files


TEMPLATES: dict[str, Template] = {
    "qs1": quick_start_1,
    "qs2": quick_start_2,
    "qs3": quick_start_3,
}
DEFAULT_TEMPLATE = "qs1"


def _source_of_orders() -> dict[str, Any]:
    return {
        "name": "source",
        "type": "DKDataSource_File",
        "config": {},
        "keys": {
            "orders_in": {
                "file-key": "resources/orders.csv",
                "use-only-file-key": True,
                "format": "csv",
                "set-runtime-vars": {"row_count": "order_lines"},
            }
        },
        "tests": {
            "enough_orders": {
                "description": "The file has its header and the rows that are expected.",
                "action": "stop-on-error",
                "test-variable": "order_lines",
                "type": "test-contents-as-integer",
                "test-logic": {"test-compare": "greater-than", "test-metric": "{{minimum_rows}}"},
            }
        },
    }


def _root(
    name: str, description: str, graph: list[list[str]], variables: dict[str, Any]
) -> dict[str, bytes]:
    return {
        "description.json": _json({"description": description}),
        "variables.json": _json({"variable-list": variables}),
        "variations.json": _json(
            {
                "variation-list": {
                    "variation1": {
                        "description": "Runs once, when it is ordered.",
                        "graph-setting": "graph1",
                    }
                },
                "graph-setting-list": {"graph1": graph},
                "schedule-setting-list": {},
                "override-setting-list": {},
                "conditions-list": {},
                "ingredient-definition-list": [],
            }
        ),
        "resources/README.txt": _README.format(
            name=name, line="=" * len(name), description=description or "What this recipe does."
        ).encode(),
    }


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=4, ensure_ascii=False) + "\n").encode()
