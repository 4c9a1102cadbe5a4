"""The vendor's Python library DKUtils, unmodified, version 2.11.6, in its own interpreter."""

import json
import subprocess

import pytest
from tests.contract import clients
from tests.contract.datakitchen.world import ADMIN, MEMBER, new_name
from tests.contract.live import PASSWORD

pytestmark = pytest.mark.evidence("client", "DKUtils 2.11.6, datakitchen_api/datakitchen_client.py")

HEAD = """
import json, sys
from requests import HTTPError
from dkutils.datakitchen_api.datakitchen_client import DataKitchenClient
facts = json.load(sys.stdin)
client = DataKitchenClient(facts["user"], facts["password"], base_url=facts["base"],
                           kitchen=facts["kitchen"], recipe="demo", variation="v1",
                           is_api_token=facts.get("pair", False))
def show(value):
    print("RESULT " + json.dumps(value))
"""


@pytest.fixture
def dkutils(live, demo, tmp_path):
    """Runs lines of Python with a client named `client`; what they gave to `show`."""

    def run(lines, **facts):
        known = {
            "user": MEMBER, "password": PASSWORD, "base": live.base, "kitchen": demo.kitchen,
            **facts,
        }  # fmt: skip
        done = subprocess.run(
            [str(clients.environment("dkutils") / "bin" / "python"), "-c", HEAD + lines],
            input=json.dumps(known), capture_output=True, text=True, timeout=240, check=False,
            env=clients.clean_environment(HOME=str(tmp_path)),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        shown = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        return [json.loads(line.removeprefix("RESULT ")) for line in shown]

    return run


def test_kitchens_recipes_and_variations(dkutils, demo):
    kitchens, recipes, variations = dkutils(
        "show(client.get_kitchens()); show(client.get_recipes()); show(client.get_variations())"
    )
    assert {"master", demo.kitchen} <= set(kitchens)
    assert recipes == ["demo"]
    assert set(variations) == {"v1", "daily", "slow"}


def test_orders_are_created_and_monitored(dkutils, demo):
    (done,) = dkutils(
        """
wish = {"kitchen": facts["kitchen"], "recipe": "demo", "variation": "v1"}
wishes = [dict(wish, parameters={"amount": "20"}), dict(wish, parameters={"amount": "1"}),
          dict(wish)]
show(client.create_and_monitor_orders(wishes, 0.2, 60, max_concurrent=2))
"""
    )
    completed, active, queued = done
    assert (active, queued) == ([], [])
    by_amount = {o.get("parameters", {}).get("amount"): o["order_run_status"] for o in completed}
    assert by_amount == {
        "20": "COMPLETED_SERVING", "1": "SERVING_ERROR", None: "COMPLETED_SERVING"
    }  # fmt: skip
    for order in completed:
        assert demo.runs(order["order_id"])[0]["hid"] == order["order_run_id"]


def test_a_failure_stops_what_is_queued(dkutils):
    (done,) = dkutils(
        """
wish = {"kitchen": facts["kitchen"], "recipe": "demo", "variation": "v1"}
wishes = [dict(wish, parameters={"amount": "1"}), dict(wish)]
show(client.create_and_monitor_orders(wishes, 0.2, 60, max_concurrent=1, stop_on_error=True))
"""
    )
    completed, active, queued = done
    assert [o["order_run_status"] for o in completed] == ["SERVING_ERROR"]
    assert (len(active), len(queued)) == (0, 1)


def test_orders_are_listed_with_filters(dkutils, demo):
    good = demo.order()
    bad = demo.order(body={"parameters": {"amount": "1"}})
    demo.ended(good)
    demo.ended(bad)
    everything, some, failed, status = dkutils(
        """
show(client.get_orders())
show(client.get_orders(order_id_regex=facts["good"], time_period_hours=1, order_run_count=1))
show(client.get_orders(order_status="ORDER_ERROR", order_run_status="SERVING_ERROR"))
show([run["hid"] for run in client.get_order_status()])
""",
        good=good,
    )
    assert [o["hid"] for o in everything["orders"]] == [bad, good]
    assert [o["hid"] for o in some["orders"]] == [good]
    assert [o["hid"] for o in failed["orders"]] == [bad]
    assert status == [demo.runs(bad)[0]["hid"], demo.runs(good)[0]["hid"]]


def test_details_of_a_run(dkutils, demo):
    run = demo.ended(demo.order())["hid"]
    full, bare, status, nobody = dkutils(
        """
show(client.get_order_run_details(facts["run"], include_logs=True, include_servingjson=True,
     include_summary=True, include_testresults=True, include_timingresults=True))
show(client.get_order_run_details(facts["run"]))
show(client.get_order_run_status(facts["run"]))
show(client.get_order_run_status("887d01ba-365e-11e9-8394-0242ac110002"))
""",
        run=run,
    )
    assert full["hid"] == bare["hid"] == run
    assert full["log"]["count"] >= 1
    assert set(full["summary"]["nodes"]) == {"first", "gate", "last"}
    assert "Tests: Passed" in full["testresults"]
    assert full["timingresults"].startswith("DKRecipe timing (demo)")
    assert "summary" not in bare
    assert status == "COMPLETED_SERVING"
    assert nobody is None


def test_failed_runs_are_resumed_and_monitored(dkutils, demo):
    order = demo.order(body={"parameters": {"amount": "1"}})
    old = demo.ended(order)["hid"]
    kitchen = demo.api.good("GET", f"/v2/kitchen/{demo.kitchen}")["kitchen"]
    document = {**kitchen, "recipeoverrides": {"floor": 0}}
    demo.api.good("POST", f"/v2/kitchen/update/{demo.kitchen}", {"kitchen.json": document})
    (done,) = dkutils(
        """
wishes = [{"kitchen": facts["kitchen"], "order_run_id": facts["run"]}]
show(client.resume_and_monitor_orders(wishes, 0.2, 60))
""",
        run=old,
    )
    ((entry,), active, queued) = done
    assert (active, queued) == ([], [])
    assert entry["order_id"] == order
    assert entry["order_run_id"] != old
    assert entry["order_run_status"] == "COMPLETED_SERVING"


def test_overrides_staff_and_alerts_of_a_kitchen(dkutils, demo, admin):
    (overrides,) = dkutils(
        """
client.update_overrides({"region": "us"})
client.update_kitchen_staff(["mia@example.com"])
client.add_kitchen_staff(["ada@example.com"])
show(client.get_overrides())
""",
    )
    assert overrides == {"region": "us"}
    shown = admin.good("GET", f"/v2/kitchen/{demo.kitchen}")["kitchen"]
    assert set(shown["kitchen-staff"]) == {ADMIN, MEMBER}
    shown["kitchen-roles"] = {MEMBER: "Admin"}
    admin.good("POST", f"/v2/kitchen/update/{demo.kitchen}", {"kitchen.json": shown})
    (alerts,) = dkutils(
        """
kitchen = client.get_kitchen()
kitchen.add_alerts({"Start": ["a@example.com"]})
show(client.get_kitchen().get_alerts())
""",
    )
    assert "a@example.com" in json.dumps(alerts)


def test_recipes_are_made_changed_and_deleted(dkutils, demo):
    names, files, after = dkutils(
        """
from dkutils.datakitchen_api.recipe import Recipe
made = Recipe.create(client, "fresh", "made by a library")
show(client.get_recipes())
made.update_recipe_files(facts["kitchen"], {"a.txt": "A", "b.json": '{"b": 1}'})
made.delete_recipe_files(facts["kitchen"], ["b.json"])
show(made.get_recipe_files(facts["kitchen"]))
made.delete(facts["kitchen"])
client.recipe = "demo"
show(client.get_recipes())
"""
    )
    assert set(names) == {"demo", "fresh"}
    assert files["a.txt"] == "A"
    assert "b.json" not in files
    assert after == ["demo"]


def test_an_api_token_pair_instead_of_a_password(live, dkutils, demo):
    key, _, secret = live.add_token(MEMBER, "datakitchen").partition(":")
    (kitchens,) = dkutils("show(client.get_kitchens())", user=key, password=secret, pair=True)
    assert demo.kitchen in kitchens


def test_a_wrong_password_is_an_http_error(live, tmp_path):
    facts = {"user": MEMBER, "password": "wrong", "base": live.base, "kitchen": "master"}
    done = subprocess.run(
        [str(clients.environment("dkutils") / "bin" / "python"), "-c", HEAD],
        input=json.dumps(facts), capture_output=True, text=True, timeout=240, check=False,
        env=clients.clean_environment(HOME=str(tmp_path)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "HTTPError: 401" in done.stderr


def test_a_client_from_the_command_lines_own_settings(live, dkutils, demo, tmp_path):
    address, _, port = live.base.rpartition(":")
    context = tmp_path / ".dk" / "default"
    context.mkdir(parents=True)
    (context / "config.json").write_text(
        json.dumps(
            {
                "dk-cloud-ip": address,
                "dk-cloud-port": port,
                "dk-cloud-username": MEMBER,
                "dk-cloud-password": PASSWORD,
            }
        )
    )
    (recipes,) = dkutils(
        """
from dkutils.datakitchen_api.datakitchen_client import create_using_context
other = create_using_context("default", kitchen=facts["kitchen"])
show(other.get_recipes())
"""
    )
    assert recipes == ["demo"]


def test_tests_of_recipes_are_found(dkutils):
    (found,) = dkutils(
        """
import datetime
from dkutils.datakitchen_api.tests_utils import get_test_infos
show([str(vars(info) if hasattr(info, "__dict__") else info)
      for info in get_test_infos(client, datetime.datetime.now(), ["demo"])])
"""
    )
    assert any("enough" in info for info in found)
    assert any("plenty" in info for info in found)


def test_a_kitchen_is_made_compared_and_deleted(dkutils, demo, admin):
    child = f"{demo.kitchen}_child"
    parent, differences, kitchens = dkutils(
        f"""
client.update_overrides({{"region": "us"}})
made = client.create_kitchen({child!r}, "made by a library")
show(made.parent_name)
client.kitchen = {child!r}
client.update_overrides({{"region": "eu"}})
show(str(vars(client.compare_overrides(other=facts["kitchen"]))))
made.delete()
show(client.get_kitchens())
"""
    )
    assert parent == demo.kitchen
    assert "region" in json.dumps(differences)
    assert child not in kitchens
    assert admin.call("GET", f"/v2/kitchen/{child}").status == 400


def test_orders_and_runs_are_deleted(dkutils, demo):
    order = demo.order()
    run = demo.ended(order)["hid"]
    dkutils(f"client.delete_order_run({run!r})")
    assert demo.runs(order) == []
    dkutils(f"client.delete_order({order!r})")
    assert demo.api.good("GET", f"/v2/order/status/{demo.kitchen}")["orders"] == []


def test_a_vault_and_its_secrets(dkutils, demo, admin):
    name = f"u{new_name()}"
    own, inherited, secrets, rest, account = dkutils(
        f"""
from dkutils.datakitchen_api.vault import Vault
vault = Vault(client, facts["kitchen"])
assert vault.get_secrets() == []
vault.update_or_add_secret("pg/password", "a=b\\nc")
vault.update_or_add_secret("pg/user", "me")
vault.update_or_add_secret("pg/user", "you")
show(vault.get_config())
show(vault.get_config(is_global=True))
show(vault.get_secrets())
vault.delete_secret("pg/password")
show(vault.get_secrets())
vault.update_or_add_secret({name!r}, "v", is_global=True)
show([one for one in vault.get_secrets(is_global=True) if {name!r} in one])
vault.delete_secret({name!r}, is_global=True)
""",
        user=ADMIN,
    )
    assert (own["service"], own["private"], own["prefix"], own["url"]) == ("default", False, "", "")
    assert inherited["service"] == "default"
    assert secrets == ["vault://pg/password", "vault://pg/user"]
    assert rest == ["vault://pg/user"]
    assert account == [f"vault://{name}"]
    listed = admin.good("GET", "/v2/secret", {"kitchens": demo.kitchen})
    assert listed[demo.kitchen]["list"] == ["vault://pg/user"]
    assert f"vault://{name}" not in listed["**__GLOBAL__**"]["list"]


def test_a_kitchens_vault_is_configured(dkutils, demo):
    first, second, told = dkutils(
        """
from dkutils.datakitchen_api.vault import Vault
client.update_kitchen_vault("Acme/dev", "s.hush-hush", inheritable=False)
vault = Vault(client, facts["kitchen"])
show(vault.get_config())
vault.update_config("Acme/test", "s.hush-hush", vault_url="https://v.example.com", private=True)
show(vault.get_config())
try:
    vault.get_secrets()
except ValueError as error:
    show(str(error))
"""
    )
    assert first == {
        "service": "custom", "url": "https://vault2.datakitchen.io:8200", "prefix": "Acme/dev",
        "private": False, "inheritable": False,
    }  # fmt: skip
    assert second == {
        "service": "custom", "url": "https://v.example.com", "prefix": "Acme/test",
        "private": True, "inheritable": True,
    }  # fmt: skip
    assert told.startswith("Error retrieving secrets: ")
    assert "is private" in told
    shown = demo.api.good("GET", "/v2/vault/config", {"kitchens": demo.kitchen})
    assert shown["config"][demo.kitchen] == second
