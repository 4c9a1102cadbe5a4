"""A seeded walk over every operation of the DataKitchen dialect, with good and hostile calls.

`GALLEY_FUZZ_CALLS` (2,000) says how many, `GALLEY_FUZZ_SEED` which ones. Many are walked in parts
of 10,000, each with the next seed.
"""

import http.client
import json
import os
import random
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.contract.live import NO_RATES, serve
from tests.fuzz.datakitchen_world import World, good_request
from tests.fuzz.mutations import Request, hostile

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS = tomllib.loads((ROOT / "src/galley/dialects/datakitchen/operations.toml").read_text())[
    "operation"
]
DONE = [operation for operation in OPERATIONS if operation["state"] == "done"]
_ALL_CALLS = int(os.environ.get("GALLEY_FUZZ_CALLS", "2000"))
PARTS = max(1, _ALL_CALLS // 10_000)  # each with a server of its own, side by side
CALLS = _ALL_CALLS // PARTS
SEED = int(os.environ.get("GALLEY_FUZZ_SEED", "20261123"))
ENOUGH = 20
BODY_LIMIT = 10_000_000
USER = "fuzz@example.com"
LEAKS = re.compile(
    r"Traceback|File \"|\.py\b.*line \d|sqlalchemy|sqlite3?\.|psycopg|site-packages"
    r"|SELECT .* FROM|INSERT INTO|object at 0x",
    re.IGNORECASE,
)


@dataclass
class Got:
    """An answer, or how the connection ended."""

    status: int
    kind: str
    text: str
    closed: bool = False


class Wire:
    """Sends requests exactly as they are made."""

    def __init__(self, base: str, token: str) -> None:
        parts = urlsplit(base)
        self._place = (parts.hostname or "", parts.port or 80)
        self._token = token
        self._connection = http.client.HTTPConnection(*self._place, timeout=240)

    def send(self, request: Request) -> Got:
        """The answer to one request."""
        content = request.content
        headers = {k: v.encode("utf-8") for k, v in request.headers.items()}
        given = request.authorization
        if given is not None:
            text = f"Bearer {self._token}" if given == "good" else given
            headers["Authorization"] = text.encode()
        try:
            return self._sent(request, content, headers)
        except (ConnectionError, http.client.HTTPException):
            self._connection.close()
            if len(content) > BODY_LIMIT:
                return Got(413, "", "", closed=True)
            return self._sent(request, content, headers)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _sent(self, request: Request, content: bytes, headers: dict[str, bytes]) -> Got:
        self._connection.request(request.method, request.target, content, headers)  # type: ignore[arg-type]
        answer = self._connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        return Got(answer.status, answer.getheader("Content-Type", ""), text)


def faults_of(request: Request, got: Got, planned: bool) -> list[str]:
    """What is wrong with an answer."""
    if got.closed:
        return []
    faults = []
    if got.status >= 500 and not (got.status == 501 and planned):
        faults.append(f"answered {got.status}")
    if 300 <= got.status < 400:
        faults.append("redirects")
    if got.status >= 400 and LEAKS.search(got.text):
        faults.append("tells about the server's insides")
    if not request.target.startswith("/v2/"):
        return faults
    if request.method == "HEAD" or not got.text:
        return faults if request.method == "HEAD" else [*faults, "has no body"]
    if "/login" in request.template and (got.status, got.text) == (401, "Credentials are invalid"):
        return faults
    is_token = request.template == "/v2/login" and got.status == 200
    return faults if is_token else faults + shape_faults(got)


def shape_faults(got: Got) -> list[str]:
    """What is wrong with the shape of an answer's body."""
    try:
        document = json.loads(got.text)
    except ValueError:
        return ["is no JSON"]
    if not isinstance(document, dict):
        return ["is no JSON object"]
    if got.status < 300:
        return ["has a top-level error"] if "error" in document else []
    message = document.get("message")
    if not isinstance(message, dict) or not isinstance(message.get("error"), str | dict):
        return ["is not in the shape of an error"]
    return []


def plan_of(rng: random.Random) -> list[tuple[dict, bool]]:
    """(operation, good?) for each call: sign-ins first, the rest shuffled."""
    good = [(operation, True) for operation in DONE for _ in range(ENOUGH + 2)]
    left = max(CALLS - len(good), len(OPERATIONS))
    bad = [(rng.choice(OPERATIONS), False) for _ in range(left)]
    first = [step for step in good if step[0]["id"] == "login"]
    rest = [step for step in good if step[0]["id"] != "login"] + bad
    rng.shuffle(rest)
    return first + rest


@pytest.mark.timeout(3600)
@pytest.mark.evidence("assumed", "contract 3.1, rules 5 and 6, hold for whatever is sent")
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_that_is_sent_breaks_the_server(tmp_path, part):
    rng = random.Random(SEED + part)  # noqa: S311 - seeded on purpose
    answers: dict[str, Counter] = {operation["id"]: Counter() for operation in OPERATIONS}
    faults = []
    with serve(tmp_path / "data", **NO_RATES) as server:
        server.add_user(USER, admin=True)
        api = server.log_in(USER)
        good, scratch = World(api, USER, rng), World(api, USER, rng)
        wire = Wire(server.base, api.token or "")
        for number, (operation, is_good) in enumerate(plan_of(rng)):
            request = good_request(good if is_good else scratch, operation)
            if not is_good:
                request = hostile(rng, request)
            got = wire.send(request)
            answers[operation["id"]][got.status] += 1
            wrong = faults_of(request, got, operation["state"] == "planned")
            if is_good and not 200 <= got.status < 300:
                wrong.append(f"refused a good call with {got.status}")
            faults += [
                f"call {number} ({operation['id']}) {text}: {request.method} {request.target[:200]}"
                f" {request.headers} {request.content[:300]!r} -> {got.text[:500]}"
                for text in wrong
            ]
        assert server.process.poll() is None, "the server is gone"
        wire.close()
        log = "".join(server.lines[-200:])
    told = f"seed {SEED + part}: {len(faults)} faults\n" + "\n".join(faults[:40])
    assert not faults, f"{told}\n{log[-6000:]}"
    few = {
        operation["id"]: dict(answers[operation["id"]])
        for operation in DONE
        if sum(n for status, n in answers[operation["id"]].items() if 200 <= status < 300) < ENOUGH
    }
    assert not few, f"too few good answers: {few}"
    print(f"seed {SEED + part}: {sum(c.total() for c in answers.values())} calls")
