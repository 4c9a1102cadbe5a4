"""A recipe whose middle step waits until a file appears, so that a test can watch a run live."""

import json

EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"

_SCRIPT = """\
import os
import time

print("the gate is shut")
print(evil)
LOGGER.warning("a warning from the script")
deadline = time.monotonic() + 600
while not os.path.exists(gate):
    if time.monotonic() > deadline:
        raise RuntimeError("nobody opened the gate")
    time.sleep(0.05)
print("the gate is open")
answer = 42
"""


def files(gate: str, *, metric: int = 0) -> dict[str, str]:
    """The recipe's files; `gate` is the path waited for, `metric` what the answer must exceed."""
    texts = {
        "description.json": {"description": "Waits for a gate"},
        "variables.json": {"variable-list": {"gate": gate, "evil": EVIL, "region": "EWR"}},
        "variations.json": {
            "variation-list": {"main": {"description": "once", "graph-setting": "g"}},
            "graph-setting-list": {"g": [["start", "watch"], ["watch", "finish"]]},
            "schedule-setting-list": {},
            "override-setting-list": {},
            "conditions-list": {},
            "ingredient-definition-list": [],
        },
        "watch/description.json": {"type": "DKNode_Container", "description": "Waits"},
        "watch/notebook.json": {
            "tests": {
                "answer_is_large": {
                    "description": f"The answer exceeds its metric {EVIL}",
                    "action": "stop-on-error",
                    "test-variable": "answer",
                    "type": "test-contents-as-integer",
                    "test-logic": {"test-compare": "greater-than", "test-metric": metric},
                }
            },
        },
        "watch/docker-share/config.json": {
            "dependencies": [],
            "keys": {
                "watch": {
                    "script": "watch.py",
                    "parameters": {"gate": "{{gate}}", "evil": "{{evil}}"},
                    "export": ["answer"],
                }
            },
        },
    }
    for step in ("start", "finish"):
        texts[f"{step}/description.json"] = {"type": "DKNode_NoOp", "description": step}
        texts[f"{step}/notebook.json"] = {}
    found = {path: json.dumps(document, indent=4) for path, document in texts.items()}
    found["variables.json"] = json.dumps(texts["variables.json"])
    return {**found, "watch/docker-share/watch.py": _SCRIPT, "resources/README.txt": "Waits.\n"}
