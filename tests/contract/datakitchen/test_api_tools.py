"""The vendor's datakitchen-api-tools 0.4.1, unmodified: it only speaks https."""

import json
import ssl
import subprocess

import httpx2
import pytest
from tests.contract import clients
from tests.contract.datakitchen import recipes
from tests.contract.datakitchen.world import MEMBER, Demo
from tests.contract.live import PASSWORD, Api, serve
from tests.tls import make_certificates

pytestmark = pytest.mark.evidence("client", "datakitchen-api-tools 0.4.1, DKConnection.py")

HEAD = """
import json, logging, sys
logging.disable(logging.CRITICAL)
from datakitchen_api_tools import DKConnection
from datakitchen_api_tools import DKExceptions as errors
facts = json.load(sys.stdin)
connection = DKConnection(facts["host"], facts["user"], facts["password"])
def show(value):
    print("RESULT " + json.dumps(value))
"""


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """A server that speaks https, its authority's file, and a demo recipe."""
    folder = tmp_path_factory.mktemp("tls")
    ca, cert, key = make_certificates(folder)
    options = ("--tls-cert", str(cert), "--tls-key", str(key))
    with serve(folder / "data", *options) as server:
        server.add_user(MEMBER, admin=True)
        trusted = ssl.create_default_context(cafile=str(ca))
        got = httpx2.post(
            f"{server.base}/v2/login", verify=trusted, trust_env=False,
            data={"username": MEMBER, "password": PASSWORD},
        )  # fmt: skip
        api = Api(server.base, got.text, verify=trusted)
        api.good("PUT", "/v2/kitchen/create/master/tools", {})
        api.good("POST", "/v2/recipe/create/tools/demo", {})
        body = {"message": "m", "files": recipes.changes()}
        api.good("POST", "/v2/recipe/update/tools/demo", body)
        yield server, ca, Demo(api, "tools")


@pytest.fixture
def tools(secure, tmp_path):
    server, ca, _demo = secure

    def run(lines, *, password=PASSWORD):
        facts = {
            "host": server.base.removeprefix("https://"), "user": MEMBER, "password": password
        }  # fmt: skip
        done = subprocess.run(
            [str(clients.environment("datakitchen-api-tools") / "bin" / "python"), "-c",
             HEAD + lines],
            input=json.dumps(facts), capture_output=True, text=True, timeout=240, check=False,
            env=clients.clean_environment(HOME=str(tmp_path), REQUESTS_CA_BUNDLE=str(ca)),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        shown = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        return [json.loads(line.removeprefix("RESULT ")) for line in shown]

    return run


def test_an_order_is_safely_created(tools, secure):
    demo = secure[2]
    order, tests = tools(
        """
done = connection.safeCreateOrder("tools", "demo", "v1", overrides={"amount": "200"},
                                  wait_time=0.3, timeout=240, test_level="Warning")
show(done.order_run["orders"][0]["hid"])
show(done.testsFromOrderRun())
"""
    )
    assert demo.status_of(order) == "COMPLETED_ORDER"
    assert {(name, step, level) for name, step, level, _ in tests} == {
        ("enough", "gate", "Passed"), ("plenty", "gate", "Passed")
    }  # fmt: skip


def test_a_failed_order_and_a_failed_test_raise(tools):
    seen = tools(
        """
for wish, level in (("1", ""), ("12", "Warning")):
    try:
        connection.safeCreateOrder("tools", "demo", "v1", overrides={"amount": wish},
                                   wait_time=0.3, timeout=240, test_level=level)
        show("fine")
    except Exception as error:
        show(type(error).__name__)
"""
    )
    assert seen == ["DKOrderRunErrorException", "DKOrderRunFailedTestException"]


def test_order_and_run_information(tools, secure):
    demo = secure[2]
    order = demo.order()
    run = demo.ended(order)["hid"]
    status, tests, unknown = tools(
        f"""
show(connection.getOrder("tools", {order!r}).getOrderStatus())
show(len(connection.TestsFromOrderRun("tools", {run!r})))
try:
    connection.getOrder("tools", "887d01ba-365e-11e9-8394-0242ac110002")
except errors.DKOrderNotFoundException:
    show("not found")
"""
    )
    assert (status, tests, unknown) == ("COMPLETED_ORDER", 2, "not found")


def test_a_wrong_password_raises(secure, tmp_path):
    server, ca, _demo = secure
    facts = {"host": server.base.removeprefix("https://"), "user": MEMBER, "password": "wrong"}
    done = subprocess.run(
        [str(clients.environment("datakitchen-api-tools") / "bin" / "python"), "-c", HEAD],
        input=json.dumps(facts), capture_output=True, text=True, timeout=240, check=False,
        env=clients.clean_environment(HOME=str(tmp_path), REQUESTS_CA_BUNDLE=str(ca)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "raise Exception" in done.stderr
