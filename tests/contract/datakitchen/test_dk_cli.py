"""The vendor's `dk` command line, unmodified, version 1.5.33."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.contract import clients
from tests.contract.datakitchen.world import ADMIN, MEMBER, new_name
from tests.contract.live import PASSWORD, until

pytestmark = pytest.mark.evidence("client", "dkcloudcommand 1.5.33")

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class Dk:
    """The program with a home of its own."""

    def __init__(self, home: Path, base: str, user: str = MEMBER, password: str = PASSWORD) -> None:
        self.home = home
        self.program = str(clients.environment("dkcloudcommand") / "bin" / "dk")
        address, _, port = base.rpartition(":")
        context = home / ".dk" / "default"
        context.mkdir(parents=True, exist_ok=True)
        (home / ".dk" / ".context").write_text("default")
        config = {
            "dk-cloud-ip": address,
            "dk-cloud-port": port,
            "dk-cloud-username": user,
            "dk-cloud-password": password,
        }
        (context / "config.json").write_text(json.dumps(config))

    def call(self, *argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command."""
        return subprocess.run(
            [self.program, *argv], capture_output=True, text=True, timeout=240, check=False,
            cwd=cwd or self.home, stdin=subprocess.DEVNULL,
            env=clients.clean_environment(HOME=str(self.home)),
        )  # fmt: skip

    def good(self, *argv: str, cwd: Path | None = None) -> str:
        """Run a command that must succeed; what it printed."""
        done = self.call(*argv, cwd=cwd)
        assert done.returncode == 0, f"dk {' '.join(argv)}:\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def dk(live, tmp_path):
    return Dk(tmp_path, live.base)


def run_of(dk, kitchen, order):
    """The order's run, by the command line's own list."""

    def look():
        shown = dk.good("order-list", "-k", kitchen)
        part = shown.partition(f"(order ID: {order})")[2].partition("ORDER SUMMARY")[0]
        found = re.search(rf"OrderRun ID: ({UUID})\)", part)
        return found and found[1]

    return until(look, what=f"a run of {order}")


def ended(dk, kitchen, run):
    def look():
        status = dk.good("orderrun-info", "-k", kitchen, "-ori", run, "--runstatus")
        found = re.search(
            r"(COMPLETED_SERVING|SERVING_ERROR|STOPPED_SERVING|SERVING_RERAN)", status
        )
        return found and found[1]

    return until(look, what=f"the end of {run}")


def test_user_info(dk):
    shown = dk.good("user-info")
    assert MEMBER in shown
    assert "DEVELOPER" in shown


def test_a_wrong_password_ends_with_exit_code_one(live, tmp_path):
    done = Dk(tmp_path, live.base, password="wrong").call("user-info")
    assert done.returncode == 1
    assert "Credentials are invalid" in done.stdout + done.stderr


def test_the_tree_of_kitchens(dk, kitchen):
    shown = dk.good("kitchen-list")
    assert "master" in shown
    assert kitchen in shown


def test_a_kitchen_is_made_and_deleted(dk, member):
    name = new_name("sprint")
    shown = dk.good("kitchen-create", "-p", "master", "-d", "x", name)
    assert name in shown
    made = member.good("GET", f"/v2/kitchen/{name}")["kitchen"]
    assert (made["parent-kitchen"], made["description"]) == ("master", "x")
    dk.good("kitchen-delete", "-y", name)
    listed = [k["name"] for k in member.good("GET", "/v2/kitchen/list")["kitchens"]]
    assert name not in listed
    assert dk.call("kitchen-create", "-p", "no_such_kitchen", "y1").returncode == 1


def test_overrides_of_a_kitchen(dk, member, kitchen):
    dk.good("kitchen-config", "-k", kitchen, "-a", "region", "us")
    settings = member.good("GET", f"/v2/kitchen/settings/{kitchen}")
    assert settings["recipeoverrides"] == {"region": "us"}
    assert "region" in dk.good("kitchen-config", "-k", kitchen, "-la")
    assert "us" in dk.good("kitchen-config", "-k", kitchen, "-g", "region")
    dk.good("kitchen-config", "-k", kitchen, "-u", "region")
    settings = member.good("GET", f"/v2/kitchen/settings/{kitchen}")
    assert settings["recipeoverrides"] == {}


def test_a_recipe_from_a_template_to_disk_and_back(dk, member, kitchen, tmp_path):
    dk.good("recipe-create", "-k", kitchen, "-tm", "qs1", "r1")
    assert member.good("GET", f"/v2/kitchen/recipenames/{kitchen}") == {"recipes": ["r1"]}
    assert "r1" in dk.good("recipe-list", "-k", kitchen)
    dk.good("kitchen-get", kitchen, "-r", "r1")
    folder = tmp_path / kitchen / "r1"
    on_disk = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert len(on_disk) == 8
    shown = dk.good("recipe-status", cwd=folder)
    assert "8 files are unchanged" in shown
    (folder / "resources" / "README.txt").write_text("changed\n")
    (folder / "resources" / "pic.png").write_bytes(bytes(range(256)))
    (folder / "resources" / "new.txt").write_text("new\n")
    assert "8 files are unchanged" not in dk.good("recipe-status", cwd=folder)
    dk.good("file-update", "-m", "one", "resources/README.txt", cwd=folder)
    dk.good("recipe-update", "-m", "all", cwd=folder)
    assert "10 files are unchanged" in dk.good("recipe-status", cwd=folder)
    path = f"/v2/recipe/file/{kitchen}/r1/resources/new.txt"
    assert member.good("GET", path)["contents"] == "new\n"
    dk.good("file-delete", "-m", "gone", "resources/new.txt", cwd=folder)
    assert member.call("GET", path).status == 400
    (folder / "resources" / "pic.png").unlink()
    dk.good("file-get", "resources/pic.png", cwd=folder)
    assert (folder / "resources" / "pic.png").read_bytes() == bytes(range(256))


def test_an_order_is_run_listed_and_read(dk, demo):
    shown = dk.good(
        "order-run", "-y", "-k", demo.kitchen, "-r", "demo", "-p", '{"amount": "33"}', "v1"
    )
    order = re.search(rf"Order ID is: ({UUID})", shown)[1]
    assert "amount: 33" in shown
    run = run_of(dk, demo.kitchen, order)
    assert ended(dk, demo.kitchen, run) == "COMPLETED_SERVING"
    listing = dk.good("order-list", "-k", demo.kitchen)
    assert "COMPLETED_ORDER" in listing
    assert "OrderRun Completed" in listing
    assert "bad format" not in listing
    everything = dk.good("orderrun-info", "-k", demo.kitchen, "-ori", run, "-at")
    for expected in ("ORDER RUN SUMMARY", "TEST RESULTS", "TIMING RESULTS", "LOG", "STEP STATUS",
                     "Recipe:\t\tdemo", "Variation:\tv1", "1. enough (",
                     "gate\tDKNodeStatus_completed_production"):  # fmt: skip
        assert expected in everything, everything
    assert "bad format" not in everything
    assert "(unknown)" not in everything
    assert (
        dk.good("orderrun-info", "-k", demo.kitchen, "-o", order, "--disp_orderrun_id").find(run)
        >= 0
    )


def test_a_single_node_is_run(dk, demo):
    shown = dk.good("order-run", "-y", "-k", demo.kitchen, "-r", "demo", "-n", "first", "v1")
    order = re.search(rf"Order ID is: ({UUID})", shown)[1]
    assert demo.ended(order)["status"] == "COMPLETED_SERVING"
    nodes = demo.details(order_id=order, summary=True)["servings"][0]["summary"]["nodes"]
    assert list(nodes) == ["first"]


def test_a_failed_run_is_resumed(dk, demo):
    shown = dk.good(
        "order-run", "-y", "-k", demo.kitchen, "-r", "demo", "-p", '{"amount": "2"}', "v1"
    )
    order = re.search(rf"Order ID is: ({UUID})", shown)[1]
    failed = run_of(dk, demo.kitchen, order)
    assert ended(dk, demo.kitchen, failed) == "SERVING_ERROR"
    info = dk.good("orderrun-info", "-k", demo.kitchen, "-ori", failed, "-at")
    assert "gate\tDKNodeStatus_production_error" in info
    told = dk.good("orderrun-resume", "-y", "-k", demo.kitchen, "-p", '{"amount": "20"}', failed)
    assert "succeeded" in told
    newest = demo.ended(order, count=2)
    assert newest["status"] == "COMPLETED_SERVING"
    assert ended(dk, demo.kitchen, failed) == "SERVING_RERAN"


def test_orders_are_paused_stopped_and_deleted(dk, demo):
    order = demo.order("daily")
    for command, status in (
        ("order-pause", "PAUSED_ORDER"),
        ("order-unpause", "ACTIVE_ORDER"),
        ("order-stop", "STOPPED_ORDER"),
    ):
        dk.good(command, "-y", "-k", demo.kitchen, "-o", order)
        assert demo.status_of(order) == status
    dk.good("order-delete", "-y", "-k", demo.kitchen, "-o", order)
    assert demo.api.good("GET", f"/v2/order/status/{demo.kitchen}")["orders"] == []
    slow = demo.order("slow")
    run = demo.active(slow)["hid"]
    dk.good("orderrun-stop", "-y", "-k", demo.kitchen, "-ori", run)
    assert demo.ended(slow)["status"] == "STOPPED_SERVING"
    dk.good("orderrun-delete", "-y", "-k", demo.kitchen, run)
    assert demo.runs(slow) == []
    dk.good("order-delete", "-y", "-k", demo.kitchen)
    assert demo.api.good("GET", f"/v2/order/status/{demo.kitchen}")["orders"] == []


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["order-run", "-y", "-k", "nowhere", "-r", "demo", "v1"], "was not found in the database"),
        (["recipe-list", "-k", "nowhere"], "was not found in the database"),
        (["order-list", "-k", "nowhere"], "was not found in the database"),
    ],
)
def test_unknown_names_read_well(dk, argv, text):
    done = dk.call(*argv)
    assert done.returncode == 1
    assert text in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_an_unknown_variation_reads_well(dk, demo):
    done = dk.call("order-run", "-y", "-k", demo.kitchen, "-r", "demo", "no_such_variation")
    assert done.returncode == 1
    assert "no_such_variation" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_recipes_are_copied_and_deleted_and_kitchens_got_whole(dk, demo, tmp_path):
    dk.good("recipe-copy", "-k", demo.kitchen, "demo", "twin")
    dk.good("kitchen-get", demo.kitchen, "--all")
    assert (tmp_path / demo.kitchen / "demo" / "gate" / "notebook.json").is_file()
    assert (tmp_path / demo.kitchen / "twin" / "variations.json").is_file()
    listing = dk.good("recipe-variation-list", "-k", demo.kitchen, "-r", "demo")
    assert {"v1", "daily", "slow"} <= set(re.findall(r"\w+", listing))
    dk.good("recipe-delete", "-k", demo.kitchen, "-y", "twin")
    shown = demo.api.good("GET", f"/v2/kitchen/recipenames/{demo.kitchen}")
    assert shown == {"recipes": ["demo"]}


def test_a_scheduled_variation_is_run_now(dk, demo):
    shown = dk.good("order-run", "-y", "-k", demo.kitchen, "-r", "demo", "--now", "daily")
    order = re.search(rf"Order ID is: ({UUID})", shown)[1]
    assert demo.ended(order)["status"] == "COMPLETED_SERVING"
    entry = demo.api.good("GET", f"/v2/order/status/{demo.kitchen}")["orders"][0]
    assert entry["schedule"] == "now"


def test_the_configuration_is_listed(dk):
    shown = dk.good("config-list")
    assert MEMBER in shown


def test_a_recipe_is_validated_and_compiled(dk, demo, tmp_path):
    dk.good("kitchen-get", demo.kitchen, "-r", "demo")
    folder = tmp_path / demo.kitchen / "demo"
    shown = dk.good("recipe-validate", "-v", "v1", cwd=folder)
    assert "There are no local changes" in shown
    assert "No recipe issues identified." in shown
    (folder / "resources" / "q.sql").write_text("in {{region}} by {{CurrentOrderRunId}}\n")
    shown = dk.good("file-compile", "-v", "v1", "-f", "resources/q.sql", cwd=folder)
    assert "in eu by {{CurrentOrderRunId}}" in shown
    assert "No recipe issues identified." in dk.good("recipe-validate", "-v", "v1", cwd=folder)
    (folder / "gate" / "notebook.json").write_text('{"description": "{{ nope }}"}')
    shown = dk.good("recipe-validate", "-v", "v1", cwd=folder)
    assert "Validating recipe with local changes applied" in shown
    assert "gate/notebook.json" in shown
    assert "nope" in shown
    failed = dk.call("file-compile", "-v", "v1", "-f", "gate/notebook.json", cwd=folder)
    assert failed.returncode == 1
    assert "gate/notebook.json" in failed.stdout + failed.stderr
    dk.good("file-update", "-m", "m", "resources/q.sql", cwd=folder)
    assert "compiled-recipe" in dk.good("recipe-compile", "-v", "v1", cwd=folder)
    compiled = folder / "compiled-recipe" / "demo"
    query = (compiled / "resources" / "q.sql").read_text()
    assert query == "in eu by {{CurrentOrderRunId}}\n"
    notebook = json.loads((compiled / "gate" / "notebook.json").read_text())
    assert "enough" in notebook["tests"]
    for command in ("recipe-validate", "recipe-compile"):
        done = dk.call(command, "-v", "no_such_variation", cwd=folder)
        assert done.returncode == 1
        assert "no_such_variation" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr


def test_the_full_log_is_printed(dk, demo):
    order = demo.order()
    run = demo.ended(order)["hid"]
    shown = dk.good("orderrun-info", "-k", demo.kitchen, "-ori", run, "-fl")
    _, _, full = shown.partition("FULL LOG")
    for line in demo.details(serving_hid=run, logs=True)["servings"][0]["log"]["lines"]:
        assert f"| {line['record_type']} | {line['node']} | {line['message']}" in full
    assert dk.call("orderrun-info", "-k", demo.kitchen, "-ori", "nonsense", "-fl").returncode == 1


def test_the_settings_of_the_account_are_got_and_put(live, admin, tmp_path):
    dk = Dk(tmp_path, live.base, user=ADMIN)
    dk.good("kitchen-settings-get", cwd=tmp_path)
    file = tmp_path / "kitchen-settings.json"
    settings = json.loads(file.read_text())
    assert settings["kitchenwizard"] == {"wizards": [], "variablesets": []}
    settings["alerts"]["orderrunError"] = ["ops@example.com"]
    file.write_text(json.dumps(settings))
    assert "succeeded" in dk.good("kitchen-settings-update", file.name, cwd=tmp_path)
    path = "/v2/kitchen/settings/json/master"
    assert admin.good("GET", path)["json"] == settings
    settings["alerts"]["orderrunError"] = ["nobody"]
    file.write_text(json.dumps(settings))
    refused = dk.call("kitchen-settings-update", file.name, cwd=tmp_path)
    assert refused.returncode == 1
    assert "orderrunError" in refused.stdout + refused.stderr
    body = {"filepath": [file.name], "file": {}}
    admin.good("POST", path, body)


def test_a_kitchens_vault_and_secrets(dk, member, kitchen, tmp_path):
    assert "No vault service configured" in failed(dk, "secret-write", "-k", kitchen, "a/b=1", "-y")
    assert 'configured as "inherit"' in dk.good("vault-info", "-k", kitchen)
    assert "Done." in dk.good("vault-config", "-k", kitchen, "-s", "default", "-y")
    assert "DataKitchen default" in dk.good("vault-info", "-k", kitchen)
    config = member.good("GET", "/v2/vault/config", {"kitchens": kitchen})["config"][kitchen]
    assert (config["service"], config["inheritable"]) == ("default", False)
    assert "Secret written." in dk.good("secret-write", "-k", kitchen, "pg/password=hush", "-y")
    (tmp_path / "key.pem").write_text("line one\nline two\n")
    dk.good("secret-write", "-k", kitchen, "pem=@key.pem", "-y")
    shown = dk.good("secret-list", "-k", kitchen)
    assert "vault://pem" in shown
    assert "vault://pg/password" in shown
    assert "hush" not in shown
    assert "vault://pem" not in dk.good("secret-list", "-k", kitchen, "pg")
    assert "True (found in kitchen vault)" in dk.good("secret-exists", "-k", kitchen, "pem")
    assert "False" in dk.good("secret-exists", "-k", kitchen, "pg")
    assert "Secret deleted." in dk.good("secret-delete", "-k", kitchen, "pem", "-y")
    listed = member.good("GET", "/v2/secret", {"kitchens": kitchen})[kitchen]
    assert listed == {"error": False, "list": ["vault://pg/password"]}
    told = failed(dk, "secret-delete", "-k", kitchen, "pem", "-y")
    assert "There is no secret vault://pem" in told
    assert "Done." in dk.good("vault-delete", "-k", kitchen, "-y")
    assert "No configuration exists" in failed(dk, "vault-delete", "-k", kitchen, "-y")
    assert "Done." in dk.good("vault-config", "-k", kitchen, "--inherit", "-y")
    assert "False" in dk.good("secret-exists", "-k", kitchen, "pg/password")


def test_a_child_inherits_a_custom_vault_and_cannot_write_to_it(dk, member, admin, kitchen):
    child = new_name("heir")
    member.good("PUT", f"/v2/kitchen/create/{kitchen}/{child}", {})
    dk.good(
        "vault-config", "-k", kitchen, "-r", "Acme/dev", "-p", "True", "-s", "custom",
        "-t", "s.hush-hush", "-i", "True", "-u", "http://dummy-vault-url:8200", "-y",
    )  # fmt: skip
    for name, told in ((kitchen, ""), (child, f"(Inherited from Parent Kitchen {kitchen})")):
        shown = dk.good("vault-info", "-k", name)
        for expected in (told, "Acme/dev", "custom", "http://dummy-vault-url:8200", "True"):
            assert expected in shown
        assert "hush-hush" not in shown
    assert "is private" in dk.good("secret-list", "-k", child)
    assert "is private" in failed(dk, "secret-write", "-k", kitchen, "a=1", "-y")
    own = {"service": "default", "inheritable": True}
    member.good("POST", "/v2/vault/config", {"config": {kitchen: own}})
    assert "vault is read only" in failed(dk, "secret-write", "-k", child, "a=1", "-y")
    admin.good("DELETE", f"/v2/kitchen/delete/{child}")


def test_the_accounts_vault_and_secrets(live, dk, admin, tmp_path):
    other = Dk(tmp_path / "admin", live.base, user=ADMIN)
    name = f"t{new_name()}"
    assert "do not have IT or ADMIN privileges" in failed(
        dk, "vault-config", "-u", "https://vault.example.com", "-t", "x", "-y"
    )
    assert "DataKitchen default" in dk.good("vault-info")
    assert "Secret written." in other.good("secret-write", f"{name}/a=hush", "-y")
    assert "True (found in global vault)" in dk.good("secret-exists", f"{name}/a")
    assert f"vault://{name}/a" in dk.good("secret-list", name)
    assert "needs the role" in failed(dk, "secret-delete", f"{name}/a", "-y")
    other.good("secret-delete", f"{name}/a", "-y")
    assert "False" in dk.good("secret-exists", f"{name}/a")
    other.good("vault-config", "--url", "https://vault.example.com", "--token", "s.hush", "-y")
    try:
        shown = other.good("vault-info")
        assert "custom" in shown
        assert "https://vault.example.com" in shown
        other.good("vault-config", "--disable", "-y")
        assert "disabled" in dk.good("vault-info")
        assert "(global vault is disabled)" in dk.good("secret-list")
        assert "Global vault is disabled" in failed(other, "secret-write", "a=1", "-y")
    finally:
        admin.good("DELETE", "/v2/vault/config/**__GLOBAL__**")
    assert "DataKitchen default" in dk.good("vault-info")


def failed(dk, *argv):
    """Run a command that must fail; what it printed."""
    done = dk.call(*argv)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_recipe_is_moved_as_the_guide_says(dk, demo, kitchen, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    dk.good("kitchen-get", demo.kitchen, "--all", cwd=old)
    dk.good("kitchen-get", kitchen, cwd=new)
    dk.good("recipe-create", "-k", kitchen, "-tm", "qs1", "moved", cwd=new / kitchen)
    dk.good("recipe-get", "moved", cwd=new / kitchen)
    folder = new / kitchen / "moved"
    shutil.rmtree(folder)
    shutil.copytree(old / demo.kitchen / "demo", folder)
    dk.good("recipe-update", "-d", "-m", "moved", cwd=folder)
    count = sum(path.is_file() for path in folder.rglob("*"))
    assert f"{count} files are unchanged" in dk.good("recipe-status", cwd=folder)
    there = demo.api.good("GET", f"/v2/recipe/tree/{demo.kitchen}/demo")["recipes"]["demo"]
    here = demo.api.good("GET", f"/v2/recipe/tree/{kitchen}/moved")["recipes"]["moved"]
    assert {name.replace("moved", "demo", 1): files for name, files in here.items()} == there
    assert "No recipe issues identified." in dk.good("recipe-validate", "-v", "v1", cwd=folder)
