"""A real server, a real Chromium, and pages that must stay free of errors."""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright
from tests.contract.live import PASSWORD, serve, until

from . import recipe

CHROMIUM = os.environ.get("GALLEY_CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
EMAIL = "ada@example.org"
expect.set_options(timeout=120_000)
SET_UP = re.compile(r"https?://\S+/setup\?token=\S+")


def pytest_collection_modifyitems(items):
    """Leave the browser's tests out, loudly, where there is no Chromium."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group("browser"))
            item.add_marker(pytest.mark.timeout(900))
            if not Path(CHROMIUM).exists():
                item.add_marker(pytest.mark.skip(reason=f"{CHROMIUM} is not installed"))


class Site:
    """A server that was set up by its link, with a recipe that waits for a gate."""

    def __init__(self, live):
        self.live = live
        self.base = live.base

    @property
    def set_up_link(self):
        def look():
            return next((m[0] for line in self.live.lines if (m := SET_UP.search(line))), None)

        return until(look, what="the set-up link")

    def api(self):
        return self.live.log_in(EMAIL)

    def gate(self, name):
        folder = self.live.data / "files"
        folder.mkdir(exist_ok=True)
        return folder / name

    def order(self, name, *, metric=0):
        """Order a run that waits for its gate; the run's UUID."""
        api = self.api()
        files = recipe.files(str(self.gate(name)), metric=metric)
        api.good("POST", f"/v2/recipe/create/master/{name}", {"template": "qs1"})
        shown = api.good("POST", f"/v2/recipe/get/master/{name}")["recipes"][name]
        present = {
            f"{folder}/{entry['filename']}".removeprefix(f"{name}/")
            for folder, entries in shown.items()
            for entry in entries
        }
        new = {
            path: {"contents": text, **({} if path in present else {"isNew": True})}
            for path, text in files.items()
        }
        gone = {path: {} for path in present - set(files)}
        body = {"message": "gate", "skipCompile": True, "files": {**new, **gone}}
        api.good("POST", f"/v2/recipe/update/master/{name}", body)
        body = {"schedule": "now", "parameters": {}}
        order = api.good("PUT", f"/v2/order/create/master/{name}/main", body)["order_id"]

        def look():
            found = api.good("GET", f"/v2/order/servings/master/{order}")["servings"]
            return found[0]["hid"] if found else None

        return until(look, what="the run")


@pytest.fixture(scope="session")
def fresh_site(tmp_path_factory):
    """A server that nobody has set up."""
    with serve(tmp_path_factory.mktemp("fresh") / "data") as live:
        yield Site(live)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A server with an administrator."""
    with serve(tmp_path_factory.mktemp("site") / "data") as live:
        live.add_user(EMAIL, admin=True)
        yield Site(live)


@pytest.fixture(scope="module")  # its event loop would be in the way of other tests
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Opens pages in contexts of their own. At the end none may have complained or strayed."""
    contexts, faults = [], []

    def watch(page):
        page.on("console", lambda m: faults.append(f"{m.type}: {m.text}") if _bad(m) else None)
        page.on("pageerror", lambda error: faults.append(f"pageerror: {error}"))
        page.on("dialog", lambda dialog: (faults.append(f"dialog: {dialog}"), dialog.dismiss()))
        page.on("request", lambda request: faults.extend(_stray(request.url)))

    def open_one(**options):
        context = chromium.new_context(**options)
        context.set_default_timeout(120_000)
        contexts.append(context)
        page = context.new_page()
        watch(page)
        page.faults = faults
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert faults == []


def _bad(message):
    """An error or a warning; refusals that a test asks for are no complaint."""
    if message.type not in {"error", "warning"}:
        return False
    return not re.search(r"status of 4\d\d|net::ERR_|Failed to fetch", message.text)


def _stray(url):
    return [] if re.match(r"(https?://127\.0\.0\.1[:/]|data:|blob:|about:)", url) else [url]


@pytest.fixture
def page(open_page):
    return open_page()


@pytest.fixture
def ada(site, open_page):
    """A page signed in as the administrator."""
    page = open_page()
    sign_in(page, site.base)
    return page


def sign_in(page, base, email=EMAIL, password=PASSWORD):
    page.goto(f"{base}/sign-in")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/runs")
