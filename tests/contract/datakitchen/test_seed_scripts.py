"""The vendor's documented scripts, run as printed but for address, credentials and names."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from tests.contract import clients
from tests.contract.datakitchen.world import MEMBER
from tests.contract.live import PASSWORD, Api

pytestmark = pytest.mark.evidence("docs", "Automation API, API authentication; Run orders via API")

SCRIPTS = Path(__file__).parent / "scripts"
HOST = "https://cloud.datakitchen.io"


def filled(name, base, **words):
    """The script with its placeholders filled; each must be there."""
    text = (SCRIPTS / name).read_text()
    assert HOST in text
    text = text.replace(HOST, base)
    for old, new in words.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def bash(text, tmp_path, **environment):
    script = tmp_path / "script.sh"
    script.write_text(text)
    env = clients.clean_environment(HOME=str(tmp_path), **environment)
    return subprocess.run(
        ["bash", str(script)], capture_output=True, text=True, env=env, timeout=240, check=False
    )


def python(text, tmp_path, **environment):
    script = tmp_path / "script.py"
    script.write_text(text)
    env = clients.clean_environment(HOME=str(tmp_path), **environment)
    interpreter = clients.environment("dkutils") / "bin" / "python"
    return subprocess.run(
        [str(interpreter), str(script)],
        capture_output=True, text=True, env=env, timeout=240, check=False,
    )  # fmt: skip


def order_words(demo):
    return {
        "<USERNAME>": MEMBER,
        "<PASSWORD>": PASSWORD,
        "<KITCHEN_NAME>": demo.kitchen,
        "<RECIPE_NAME>": "demo",
        "<VARIATION_NAME>": "v1",
    }


def test_the_bash_order_script_with_its_faulty_header_line(live, demo, tmp_path):
    done = bash(filled("order.sh", live.base, **order_words(demo)), tmp_path)
    assert "Token received: ey" in done.stdout
    assert done.stdout.rstrip().endswith("Order run created successfully")
    answer = json.loads(re.search(r"\{.*\}", done.stdout)[0])
    assert answer["variable_overrides"] == {"testvar": "override_value"}
    assert demo.ended(answer["order_id"])["status"] == "COMPLETED_SERVING"
    shown = demo.details(order_id=answer["order_id"])["servings"][0]
    assert shown["run_time_variables"]["testvar"] == "override_value"


def test_the_bash_order_script_with_a_wrong_password(live, demo, tmp_path):
    words = {**order_words(demo), "<PASSWORD>": "wrong"}
    done = bash(filled("order.sh", live.base, **words), tmp_path)
    assert "Unable to login" in done.stdout
    assert "Unable to create order run" in done.stdout


def test_the_bash_order_script_with_an_unknown_variation(live, demo, tmp_path):
    words = {**order_words(demo), "<VARIATION_NAME>": "nope"}
    done = bash(filled("order.sh", live.base, **words), tmp_path)
    assert "Token received" in done.stdout
    assert done.stdout.rstrip().endswith("Unable to create order run")
    assert demo.api.good("GET", f"/v2/order/status/{demo.kitchen}")["orders"] == []


def test_the_bash_login_by_url_encoded_data(live, tmp_path):
    words = {"me@example.com": MEMBER, "mypassword": PASSWORD}
    text = filled("login.sh", live.base, **words) + 'printf %s "$TOKEN"\n'
    token = bash(text, tmp_path).stdout
    assert Api(live.base, token).good("GET", "/v2/userinfo")["login"] == MEMBER


def test_the_bash_call_without_a_body(live, demo, tmp_path):
    demo.ended(demo.order())
    target = {"/v2/some/api": f"/v2/order/details/{demo.kitchen}"}
    done = bash(filled("call.sh", live.base, **target), tmp_path, TOKEN=demo.api.token)
    assert done.returncode == 0
    shown = json.loads(done.stdout)
    assert shown["servings"][0]["status"] == "COMPLETED_SERVING"


def test_the_python_order_script_with_its_prints_put_right(live, demo, tmp_path):
    text = filled(
        "order.py.txt", live.base,
        your_kitchen=demo.kitchen, your_recipe="demo", your_variation="v1",
        override1="'44'", override2="'b'", variable1="amount",
    )  # fmt: skip
    text = text.replace("print 'r2'", "print('r2')").replace("print r2.json()", "print(r2.json())")
    done = python(text, tmp_path, username=MEMBER, password=PASSWORD)
    assert done.returncode == 0, done.stderr
    order = re.search(r"'order_id': '([0-9a-f-]+)'", done.stdout)[1]
    assert demo.ended(order)["status"] == "COMPLETED_SERVING"
    variables = demo.details(order_id=order)["servings"][0]["run_time_variables"]
    assert (variables["amount"], variables["value2"]) == ("44", "b")


def test_the_python_login_and_a_call_whose_form_is_labelled_json(live, demo, tmp_path):
    order = demo.order()
    demo.ended(order)
    login = filled(
        "login.py.txt", live.base, **{"me@example.com": MEMBER, "'password'}": f"'{PASSWORD}'}}"}
    )
    call = filled("call.py.txt", live.base, **{
        "/v2/some/api": f"/v2/order/details/{demo.kitchen}",
        "{'some key': 'some value'}": "{'testresults': True}",
    })  # fmt: skip
    done = python(f"{login}\n{call}\nprint(response.text)\n", tmp_path)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["servings"][0]["order_id"] == order
    assert "Tests: Passed" in shown["servings"][0]["testresults"]
