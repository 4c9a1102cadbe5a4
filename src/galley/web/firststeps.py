"""What to type for the first run on this very server: by the `dk` client, or over HTTP. Pure."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

_KITCHEN, _RECIPE, _VARIATION = "sprint1", "orders", "variation1"
_TEMPLATE = "qs2"
"""A template of the server that runs as it is, with nothing beside it."""


@dataclass(frozen=True, slots=True)
class FirstSteps:
    """Lines for a shell that make a kitchen and a recipe, and order its first run.

    `connect` prints how to point the client here; `client` and `requests` are two ways to do it.
    """

    connect: str
    client: str
    requests: str


def first_steps(address: str, root_kitchen: str, login: str) -> FirstSteps:
    """The lines for the server at `address`, where `login` works below `root_kitchen`."""
    root, place = shlex.quote(root_kitchen), shlex.quote(address)
    connect = f"galley connect dk --url {place} --user {shlex.quote(login)}"
    client = (
        f"dk kitchen-create -p {root} -d 'my first' {_KITCHEN}",
        f"dk recipe-create -k {_KITCHEN} -tm {_TEMPLATE} {_RECIPE}",
        f"dk order-run -y -k {_KITCHEN} -r {_RECIPE} {_VARIATION}",
    )
    made = f"{_KITCHEN}/{_RECIPE}"
    requests = (
        "PAIR='ID:SECRET'",
        _request(address, "PUT", f"kitchen/create/{root_kitchen}/{_KITCHEN}", {}),
        _request(address, "POST", f"recipe/create/{made}", {"template": _TEMPLATE}),
        _request(address, "PUT", f"order/create/{made}/{_VARIATION}", {"schedule": "now"}),
    )
    return FirstSteps(connect, "\n".join(client), "\n".join(requests))


def _request(address: str, method: str, path: str, body: Mapping[str, str]) -> str:
    place = shlex.quote(f"{address}/v2/{path}")
    return (
        f'curl -u "$PAIR" -X {method} {place} \\\n'
        f"  -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
    )
