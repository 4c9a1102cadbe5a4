"""A recipe whose one step uses a secret, and tells which value it got without telling the value."""

import hashlib
import json
from typing import Any

from tests.contract.datakitchen.world import Demo
from tests.contract.live import Api

_FILES = {
    "description.json": {"description": "uses a secret"},
    "variables.json": {"variable-list": {"expected": ""}},
    "variations.json": {
        "variation-list": {"v1": {"graph-setting": "one"}},
        "graph-setting-list": {"one": [["look"]]},
    },
    "look/description.json": {"type": "DKNode_Container"},
    "look/notebook.json": {
        "tests": {"the very value": {"action": "stop-on-error", "test-logic": "digest == expected"}}
    },
    "look/docker-share/config.json": {
        "dependencies": [],
        "keys": {
            "look": {
                "script": "look.py",
                "parameters": {"secret": "#{vault://pg/password}"},
                "export": ["digest"],
            }
        },
    },
}
_SCRIPT = """
import hashlib
LOGGER.info("the secret is " + secret[:500])
digest = hashlib.sha256(secret.encode()).hexdigest()
"""


def make_recipe(api: Api, kitchen: str) -> Demo:
    """The recipe, in this kitchen; its step uses `vault://pg/password`."""
    api.good("POST", f"/v2/recipe/create/{kitchen}/secretive", {"templatename": "qs1"})
    texts = {path: json.dumps(document) for path, document in _FILES.items()}
    texts["look/docker-share/look.py"] = _SCRIPT
    files = {path: {"contents": text, "isNew": True} for path, text in texts.items()}
    api.good("POST", f"/v2/recipe/update/{kitchen}/secretive", {"message": "m", "files": files})
    return Demo(api, kitchen, recipe="secretive")


def run_of(demo: Demo, value: str) -> dict[str, Any]:
    """What a run is like whose step must get this value: its status, and all that is told of it."""
    digest = hashlib.sha256(value.encode()).hexdigest()
    order = demo.order("v1", {"parameters": {"expected": digest}})
    run = demo.ended(order)
    told = demo.details(
        serving_hid=run["hid"], logs=True, summary=True, testresults=True, servingjson=True
    )
    return {"status": run["status"], "text": json.dumps(told)}


def gets(demo: Demo, value: str) -> bool:
    """Whether a run's step gets this value, and the value stands nowhere in what is told of it."""
    seen = run_of(demo, value)
    assert value not in seen["text"]
    return bool(seen["status"] == "COMPLETED_SERVING")
