import os
import subprocess

import httpx2
from playwright.sync_api import expect
from tests.contract.live import serve

from .conftest import EMAIL, sign_in

PASSWORD = "four quite unrelated words"


def test_from_the_set_up_link_to_the_first_sign_out(fresh_site, page):
    page.goto(fresh_site.base)
    expect(page.get_by_text("Nobody has an account here yet")).to_be_visible()
    page.goto(fresh_site.set_up_link)
    page.get_by_label("Email").fill(EMAIL)
    page.get_by_label("Name").fill("Ada Lovelace")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill(PASSWORD)
    page.get_by_role("button", name="Create the administrator").click()
    expect(page.get_by_text("You are its administrator")).to_be_visible()
    expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(fresh_site.set_up_link)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    sign_in(page, fresh_site.base, password=PASSWORD)
    expect(page.get_by_text("Ada Lovelace")).to_be_visible()


def test_the_first_steps_on_the_empty_page_lead_to_a_run(tmp_path, page):
    with serve(tmp_path / "data") as live:
        live.add_user(EMAIL, admin=True)
        sign_in(page, live.base)
        page.goto(f"{live.base}/runs")
        lines = page.locator("#first-http").inner_text()
        page.get_by_role("link", name="token", exact=True).click()
        page.get_by_label("Name").fill("first")
        page.get_by_role("button", name="Create").click()
        lines = lines.replace("ID:SECRET", page.locator("#secret").inner_text())
        page.goto(f"{live.base}/runs")
        env = {"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(["sh", "-ec", lines], env=env, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        row = page.get_by_role("row", name="orders")
        expect(row).to_contain_text("Succeeded")


def test_a_token_made_here_opens_the_api_until_it_is_revoked(site, ada):
    ada.get_by_role("link", name="Tokens").click()
    ada.get_by_label("Name").fill("nightly <b>orders</b>")
    ada.get_by_role("button", name="Create").click()
    key_id, _, secret = ada.locator("#secret").inner_text().partition(":")
    listed = f"{site.base}/v2/kitchen/list"
    with httpx2.Client(trust_env=False, timeout=120) as client:
        assert client.get(listed, auth=(key_id, secret)).status_code == 200
        ada.goto(f"{site.base}/account/tokens")
        expect(ada.locator("#secret")).to_have_count(0)
        row = ada.get_by_role("row", name="nightly <b>orders</b>")
        expect(row).to_contain_text("Active")
        row.get_by_text("Revoke", exact=True).click()
        row.get_by_role("button", name="Revoke it").click()
        expect(ada.get_by_text("The token is revoked.")).to_be_visible()
        assert client.get(listed, auth=(key_id, secret)).status_code == 401


def test_a_form_on_another_site_does_nothing(site, ada, open_page, tmp_path):
    evil = (
        f'<form method="post" action="{site.base}/sign-out"><input name="csrf" value="x">'
        '<button id="go">win a prize</button></form>'
    )
    # The same browser, so that the session's cookie is at hand, but another origin.
    other = ada.context.new_page()
    other.route("http://127.0.0.1:1/evil", lambda route: route.fulfill(
        status=200, content_type="text/html", body=evil))  # fmt: skip
    other.goto("http://127.0.0.1:1/evil")
    with other.expect_navigation() as gone:
        other.click("#go")
    assert gone.value.status == 403
    expect(other.get_by_role("heading", name="Not allowed")).to_be_visible()
    ada.reload()
    expect(ada.get_by_role("heading", name="Runs", exact=True)).to_be_visible()


def test_the_pages_can_be_walked_by_keyboard(site, ada):
    ada.goto(f"{site.base}/runs")
    ada.keyboard.press("Tab")
    skip = ada.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    ada.keyboard.press("Enter")
    expect(ada.locator("main")).to_be_focused()
    for name in ("Main", "State"):
        expect(ada.get_by_role("navigation", name=name)).to_be_visible()


def test_everything_but_live_news_works_without_javascript(site, open_page):
    page = open_page(java_script_enabled=False)
    sign_in(page, site.base)
    page.get_by_role("link", name="Failed", exact=True).first.click()
    page.get_by_label("Recipe").fill("of-this-name-none")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("heading", name="No run matches")).to_be_visible()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_class("theme-dark")
    page.get_by_role("link", name="Account").click()
    expect(page.get_by_text("this one")).to_be_visible()
    page.get_by_role("button", name="Sign out").first.click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_unknown_addresses_have_a_page_in_the_same_style(site, ada):
    ada.goto(f"{site.base}/nowhere")
    expect(ada.get_by_role("heading", name="Not found")).to_be_visible()
    expect(ada.get_by_role("link", name="To the list of runs", exact=True)).to_be_visible()
    ada.goto(f"{site.base}/runs/0193fa00-5a7b-7c1d-9e2f-000000000fa0")
    expect(ada.get_by_text("0193fa00-5a7b-7c1d-9e2f-000000000fa0 does not exist")).to_be_visible()
