"""Good requests for every operation of the DataKitchen dialect that is done."""

import base64
import itertools
import random
from collections.abc import Callable
from typing import Any

from tests.contract.datakitchen import recipes
from tests.contract.live import PASSWORD, Api, until
from tests.fuzz.mutations import Request

FINAL = {"COMPLETED_SERVING", "SERVING_ERROR", "STOPPED_SERVING", "SERVING_RERAN"}
_numbers = itertools.count(1)


class World:
    """A kitchen with a recipe, and what it takes to make one good call of each operation."""

    def __init__(self, api: Api, user: str, rng: random.Random) -> None:
        self.api = api
        self.user = user
        self.rng = rng
        self.kitchen = self.name("world")
        self.api.good("PUT", f"/v2/kitchen/create/master/{self.kitchen}", {})
        self.make_recipe("demo")
        self.order = self.place("v1")
        self.daily = self.place("daily")
        self.run = self.ended(self.order)["hid"]

    def name(self, prefix: str) -> str:
        """A name that nothing else has."""
        return f"{prefix}_{next(_numbers)}"

    def make_recipe(self, name: str) -> str:
        """A recipe with the demo's files."""
        self.api.good("POST", f"/v2/recipe/create/{self.kitchen}/{name}", {})
        body = {"message": "m", "files": recipes.changes()}
        self.api.good("POST", f"/v2/recipe/update/{self.kitchen}/{name}", body)
        return name

    def make_kitchen(self) -> str:
        """An empty kitchen."""
        name = self.name("kit")
        self.api.good("PUT", f"/v2/kitchen/create/master/{name}", {})
        return name

    def place(self, variation: str, body: Any = None) -> str:
        """An order; its id."""
        path = f"/v2/order/create/{self.kitchen}/demo/{variation}"
        return str(self.api.good("PUT", path, body)["order_id"])

    def runs(self, order: str) -> list[Any]:
        """The order's runs, newest first."""
        path = f"/v2/order/servings/{self.kitchen}/{order}"
        return list(self.api.good("GET", path)["servings"])

    def ended(self, order: str) -> Any:
        """The order's run, once it has ended."""

        def look() -> Any:
            found = self.runs(order)
            return found[0] if found and found[0]["status"] in FINAL else None

        return until(look, what=f"the end of order {order}")

    def failed_run(self) -> str:
        """A run that failed and was not resumed."""
        run = self.ended(self.place("v1", {"parameters": {"amount": "1"}}))
        assert run["status"] == "SERVING_ERROR", run
        return str(run["hid"])

    def document(self) -> Any:
        """The kitchen as clients send it back."""
        return self.api.good("GET", f"/v2/kitchen/{self.kitchen}")["kitchen"]


Builder = Callable[[World, Request], Request]
GOOD: dict[str, Callable[[World], tuple[dict[str, str], Any]]] = {}


def good(operation: str) -> Any:
    """Register what gives an operation's path parameters and body."""

    def register(make: Callable[[World], tuple[dict[str, str], Any]]) -> Any:
        GOOD[operation] = make
        return make

    return register


def _here(world: World, **more: str) -> dict[str, str]:
    return {"kitchen": world.kitchen, **more}


@good("login")
def _login(world: World) -> tuple[dict[str, str], Any]:
    return {}, {"username": world.user, "password": PASSWORD}


@good("kitchen-create")
def _kitchen_create(world: World) -> tuple[dict[str, str], Any]:
    body = world.rng.choice([{}, {"message": "junk", "description": "d"}, {"description": None}])
    return {"parent": "master", "name": world.name("new")}, body


@good("kitchen-update")
@good("kitchen-settings-put")
def _kitchen_update(world: World) -> tuple[dict[str, str], Any]:
    document = world.document()
    document["recipeoverrides"] = {"region": world.name("r")}
    return _here(world), {"kitchen.json": document, "message": "m"}


@good("kitchen-settings-file-get")
def _settings_file(world: World) -> tuple[dict[str, str], Any]:
    return {"kitchen": "master"}, None


@good("kitchen-settings-file-update")
def _settings_file_update(world: World) -> tuple[dict[str, str], Any]:
    file = {"kitchenwizard": {"wizards": [], "variablesets": []}, "note": world.name("n")}
    return {"kitchen": "master"}, {"filepath": ["kitchen-settings.json"], "file": file}


@good("kitchen-delete")
def _kitchen_delete(world: World) -> tuple[dict[str, str], Any]:
    gone = world.make_kitchen() if world.rng.random() < 0.7 else world.name("never")
    return {"kitchen": gone}, {"synchronous-delete": False, "message": "m"}


@good("recipe-get")
@good("recipe-get-by-get")
def _recipe_get(world: World) -> tuple[dict[str, str], Any]:
    body = world.rng.choice([None, {}, {"recipe-files": ["gate/*"]}, {"include-recipe-tree": True}])
    return _here(world, recipe="demo"), body


@good("recipe-file")
def _recipe_file(world: World) -> tuple[dict[str, str], Any]:
    path = world.rng.choice(["variations.json", "gate/notebook.json"])
    return _here(world, recipe="demo", path=path), None


@good("recipe-create")
def _recipe_create(world: World) -> tuple[dict[str, str], Any]:
    body = world.rng.choice([{}, {"templatename": "qs1"}, {"templatename": "qs3"}])
    return _here(world, recipe=world.name("rec")), body


@good("recipe-add-file")
def _recipe_add(world: World) -> tuple[dict[str, str], Any]:
    body = {"message": "m", "filepath": f"resources/{world.name('f')}.txt", "file": "text"}
    return _here(world, recipe="demo"), body


@good("recipe-copy")
def _recipe_copy(world: World) -> tuple[dict[str, str], Any]:
    return _here(world, recipe="demo", name=world.name("copy")), None


@good("recipe-delete-file")
def _recipe_delete_file(world: World) -> tuple[dict[str, str], Any]:
    path = f"resources/{world.name('f')}.txt"
    body = {"message": "m", "filepath": path, "file": "text"}
    world.api.good("PUT", f"/v2/recipe/create/{world.kitchen}/demo", body)
    return _here(world, recipe="demo"), {"message": "m", "filepath": path, "file": path}


@good("recipe-delete")
def _recipe_delete(world: World) -> tuple[dict[str, str], Any]:
    name = world.name("gone")
    world.api.good("POST", f"/v2/recipe/create/{world.kitchen}/{name}", {})
    return _here(world, recipe=name), {}


@good("recipe-update")
def _recipe_update(world: World) -> tuple[dict[str, str], Any]:
    path = f"resources/{world.rng.randint(1, 5)}.txt"
    files = {path: {"contents": world.name("text"), "isNew": True}}
    one = {"message": "m", "filepath": path, "file": world.name("text")}
    return _here(world, recipe="demo"), world.rng.choice([{"message": "m", "files": files}, one])


@good("recipe-compile-file")
def _compile_file(world: World) -> tuple[dict[str, str], Any]:
    content = base64.b64encode(b"{{region}} {{CurrentOrderId}}").decode()
    path = world.rng.choice(["resources/q.sql", "gate/notebook.json"])
    return _order_path(world), {"file": {"path": path, "contents": content}}


@good("recipe-validate")
def _validate(world: World) -> tuple[dict[str, str], Any]:
    changed = {"gate/notebook.json": '{"sleep": 1}', "resources/README.txt": {}}
    return _order_path(world), world.rng.choice([{"files": {}}, {"files": changed}])


@good("recipe-compile")
def _compile(world: World) -> tuple[dict[str, str], Any]:
    return _order_path(world), None


@good("kitchen-merge-preview")
@good("kitchen-merge")
@good("kitchen-manual-merge")
def _kitchen_merge(world: World) -> tuple[dict[str, str], Any]:
    source = world.name("child")
    world.api.good("PUT", f"/v2/kitchen/create/{world.kitchen}/{source}", {})
    body = {"message": "m", "filepath": f"resources/{world.name('f')}.txt", "file": "text"}
    world.api.good("PUT", f"/v2/recipe/create/{source}/demo", body)
    place = {"source": source, "target": world.kitchen}
    seen = world.api.good("GET", f"/v2/kitchen/merge/{source}/{world.kitchen}")
    tips = {key: seen[key] for key in ("source_kitchen_sha", "target_kitchen_sha")}
    return place, world.rng.choice([{"files": {}, **tips}, {"resolved_conflicts": {}}])


@good("kitchen-revert")
def _kitchen_revert(world: World) -> tuple[dict[str, str], Any]:
    body = {"message": "m", "filepath": f"resources/{world.name('f')}.txt", "file": "text"}
    world.api.good("PUT", f"/v2/recipe/create/{world.kitchen}/demo", body)
    seen = world.api.good("GET", f"/v2/kitchen/revert/{world.kitchen}")
    return _here(world, sha=seen["before_sha"]), None


@good("kitchen-history")
def _kitchen_history(world: World) -> tuple[dict[str, str], Any]:
    return _here(world), world.rng.choice([None, {"per_page": 3}, {"per_page": 0}])


@good("recipe-file-history")
def _file_history(world: World) -> tuple[dict[str, str], Any]:
    return _here(world, recipe="demo", path="variations.json"), {"change_count": 2}


@good("file-merge")
def _file_merge(world: World) -> tuple[dict[str, str], Any]:
    path = f"/v2/recipe/tree/{world.kitchen}/demo"
    origin = world.api.good("GET", path)["ORIG_HEAD"]
    content = base64.b64encode(world.name("text").encode()).decode()
    body = {"orig_head": origin, "last_file_sha": "none", "content": content}
    return _here(world, recipe="demo", path="variations.json"), body


def _order_path(world: World, **more: str) -> dict[str, str]:
    return _here(world, recipe="demo", variation="v1", **more)


@good("order-create")
def _order_create(world: World) -> tuple[dict[str, str], Any]:
    body = world.rng.choice(
        [
            None,
            {},
            {"schedule": "now", "parameters": {"amount": "20"}},
            {"schedule": {"recurrence": "0 6 * * *", "zone": "Europe/Paris"}},
            {"source-date": "2026-11-01", "infrastructure": {"region": "us"}},
            {"alerts": ["a@example.com"]},
        ]
    )
    return _order_path(world), body


@good("order-create-graph")
def _order_graph(world: World) -> tuple[dict[str, str], Any]:
    return _order_path(world), {"schedule": "now", "graph-setting": [["first"]]}


@good("order-create-onenode")
def _order_node(world: World) -> tuple[dict[str, str], Any]:
    return _order_path(world, node="first"), None


@good("order-status")
def _order_status(world: World) -> tuple[dict[str, str], Any]:
    body = world.rng.choice(
        [None, {"recipe": "demo", "timePeriod": 24, "search": ".*", "servingsCount": 3},
         {"orderStatus": "COMPLETED_ORDER", "orderRunStatus": "COMPLETED_SERVING"}]
    )  # fmt: skip
    return _here(world), body


@good("order-servings")
def _order_servings(world: World) -> tuple[dict[str, str], Any]:
    return _here(world, order=world.order), {"count": 100000}


@good("order-details")
def _order_details(world: World) -> tuple[dict[str, str], Any]:
    every = {"summary": True, "logs": True, "timingresults": True, "testresults": True}
    body = world.rng.choice(
        [{}, {"serving_hid": world.run, **every}, {"order_id": world.order}, {"testresults": True}]
    )
    return _here(world), body


@good("order-export-logs")
def _export_logs(world: World) -> tuple[dict[str, str], Any]:
    return _here(world, run=world.run), None


@good("order-logs")
def _order_logs(world: World) -> tuple[dict[str, str], Any]:
    filters = {"node": "gate", "record_type": ["INFO", "WARN"], "start": 0, "count": 10}
    return _here(world, run=world.run), world.rng.choice([None, {}, filters])


@good("order-resume")
def _order_resume(world: World) -> tuple[dict[str, str], Any]:
    body = {"kitchen_name": world.kitchen, "serving_hid": world.failed_run()}
    return {"run": "None"}, {**body, "parameters": {"amount": "30"}}


@good("order-pause")
@good("order-unpause")
def _order_pause(world: World) -> tuple[dict[str, str], Any]:
    return {"order": world.daily}, {"kitchen_name": world.kitchen}


@good("order-stop")
def _order_stop(world: World) -> tuple[dict[str, str], Any]:
    order = world.place("daily")
    return {"order": "None"}, {"kitchen_name": world.kitchen, "serving_book_hid": order}


@good("serving-stop")
def _serving_stop(world: World) -> tuple[dict[str, str], Any]:
    return {"run": world.run}, {"kitchen_name": world.kitchen, "serving_hid": world.run}


@good("order-delete")
def _order_delete(world: World) -> tuple[dict[str, str], Any]:
    order = world.place("daily")
    return {"order": "None"}, {"kitchen_name": world.kitchen, "serving_book_hid": order}


@good("order-delete-all")
def _order_delete_all(world: World) -> tuple[dict[str, str], Any]:
    return {"kitchen": world.make_kitchen()}, None


@good("serving-delete")
def _serving_delete(world: World) -> tuple[dict[str, str], Any]:
    run = world.ended(world.place("v1"))["hid"]
    return {"run": "None"}, {"kitchen_name": world.kitchen, "serving_hid": run}


@good("vault-config-get")
@good("secret-list")
@good("secret-list-slash")
def _of_kitchen(world: World) -> tuple[dict[str, str], Any]:
    return {}, {"kitchens": world.kitchen}


@good("secret-check")
@good("secret-list-path")
def _below_path(world: World) -> tuple[dict[str, str], Any]:
    return {"path": world.rng.choice(["pg", "pg/password"])}, {"kitchens": world.kitchen}


@good("vault-config-set")
def _vault_config_set(world: World) -> tuple[dict[str, str], Any]:
    vault = {"service": "default", "inheritable": world.rng.random() < 0.5}
    return {}, {"config": {world.kitchen: vault}}


@good("vault-config-delete")
def _vault_config_delete(world: World) -> tuple[dict[str, str], Any]:
    world.api.good("POST", "/v2/vault/config", {"config": {world.kitchen: {"service": "default"}}})
    return _here(world), None


@good("secret-write")
def _secret_write(world: World) -> tuple[dict[str, str], Any]:
    value = world.rng.choice(["", "v", "a=b\nc", "é" * 100])
    return {"path": f"pg/{world.rng.randint(1, 5)}"}, {"value": value, "kitchen": world.kitchen}


@good("secret-delete")
def _secret_delete(world: World) -> tuple[dict[str, str], Any]:
    path = f"gone/{world.name('s')}"
    world.api.good("POST", f"/v2/secret/{path}", {"value": "v", "kitchen": world.kitchen})
    return {"path": path}, {"kitchen": world.kitchen}


def good_request(world: World, operation: dict[str, Any]) -> Request:
    """A request that the operation should answer with 2xx."""
    make = GOOD.get(operation["id"])
    parameters, body = make(world) if make else ({}, None)
    for name in _parameters_of(operation["path"]):
        parameters.setdefault(name, {"kitchen": world.kitchen, "recipe": "demo"}.get(name, "x"))
    return Request(operation["method"], operation["path"], parameters, body)


def _parameters_of(path: str) -> list[str]:
    return [
        part.split(":")[0].rstrip("}")
        for part in path.split("{")[1:]
        for part in [part.split("}")[0]]
    ]
