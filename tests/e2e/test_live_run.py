import re

import httpx2
from playwright.sync_api import expect
from tests.contract.live import serve, until

from .conftest import EMAIL, Site, sign_in
from .recipe import EVIL
from .wire import Cable


def test_a_run_is_watched_live_from_its_order_to_its_end(site, ada):
    ada.goto(f"{site.base}/runs")
    run = site.order("live")
    row = ada.get_by_role("row", name="live")
    expect(row).to_contain_text("Running")
    row.get_by_role("link", name="live").click()
    expect(ada.locator("#run-head")).to_contain_text("Running")
    expect(ada.get_by_role("link", name="watch Running")).to_be_visible()
    expect(ada.locator("#live-mark")).to_be_visible()
    ada.evaluate("window.stayed = true")
    log = ada.locator("#log-lines")
    expect(log).to_contain_text("the gate is shut")
    expect(log).to_contain_text(EVIL)
    assert ada.locator("#log-lines img, #log-lines script").count() == 0
    expect(log).not_to_contain_text("the gate is open")
    site.gate("live").write_text("")
    expect(log).to_contain_text("the gate is open")
    expect(ada.locator("#run-head")).to_contain_text("Succeeded")
    expect(ada.get_by_role("link", name="finish Succeeded")).to_be_visible()
    expect(ada.locator("#checks")).to_contain_text("answer_is_large")
    expect(ada.locator("#checks")).to_contain_text("42")
    expect(ada.locator("#variables")).to_contain_text("step watch")
    expect(ada.locator("#live-mark")).to_be_hidden()
    assert log.inner_text().count("the gate is shut") == 1
    assert log.inner_text().count("the gate is open") == 1
    expect(ada).to_have_title(re.compile("^Succeeded: live"))
    assert ada.evaluate("window.stayed")  # nothing was loaded anew
    ada.reload()
    expect(log).to_contain_text("the gate is open")
    assert "owned" not in ada.title()
    assert run in ada.url


def test_the_log_is_filtered_and_downloaded(site, ada):
    site.gate("filtered").write_text("")
    run = site.order("filtered")
    ada.goto(f"{site.base}/runs/{run}")
    expect(ada.locator("#run-head")).to_contain_text("Succeeded")
    log = ada.locator("#log-lines")
    expect(log).to_contain_text("the gate is shut")
    ada.get_by_label("Level").select_option("error")
    ada.wait_for_url("**level=error**")
    expect(log).to_contain_text("No line of this level.")
    ada.get_by_label("Level").select_option("info")
    ada.wait_for_url("**level=info**")
    ada.locator("select[name=step]").select_option("start")
    ada.wait_for_url("**step=start**")
    expect(log).not_to_contain_text("the gate is shut")
    ada.goto(f"{site.base}/runs/{run}")
    with ada.expect_download() as waiting:
        ada.get_by_role("link", name="Whole log").click()
    text = waiting.value.path().read_text()
    assert "the gate is open" in text
    cookies = {cookie["name"]: cookie["value"] for cookie in ada.context.cookies()}
    with httpx2.Client(trust_env=False, cookies=cookies, timeout=120) as client:
        part = client.get(f"{site.base}/runs/{run}/log", headers={"Range": "bytes=4-9"})
    assert part.status_code == 206
    assert part.text == text[4:10]


def test_a_run_is_stopped_and_resumed_from_its_page(site, ada):
    run = site.order("stopped")
    ada.goto(f"{site.base}/runs/{run}")
    expect(ada.locator("#log-lines")).to_contain_text("the gate is shut")
    ada.get_by_text("Stop", exact=True).click()
    ada.get_by_role("button", name="Stop this run").click()
    expect(ada.get_by_text("The run is being stopped.")).to_be_visible()
    expect(ada.locator("#run-head")).to_contain_text("Canceled")
    site.gate("stopped").write_text("")
    ada.get_by_text("Resume", exact=True).click()
    ada.get_by_role("button", name="Start the new run").click()
    expect(ada.get_by_text("goes on where the other one ended")).to_be_visible()
    assert run not in ada.url
    expect(ada.locator("#run-head")).to_contain_text("Succeeded")
    expect(ada.locator("#steps").get_by_text("kept")).to_be_visible()
    ada.locator("#run-head").get_by_role("link", name=run[-8:]).click()
    expect(ada.get_by_text("Resumed by")).to_be_visible()


def test_a_failed_gate_names_the_check(site, ada):
    site.gate("failing").write_text("")
    run = site.order("failing", metric=100)
    ada.goto(f"{site.base}/runs/{run}")
    head = ada.locator("#run-head")
    expect(head).to_contain_text("Failed")
    expect(head).to_contain_text("answer_is_large")
    expect(ada.get_by_role("link", name="finish Not reached")).to_be_visible()
    expect(ada.locator("#checks tbody")).to_contain_text("Failed")
    assert ada.locator("#checks img").count() == 0


def test_a_lost_connection_misses_nothing(site, page):
    run = site.order("dropped")
    cable = Cable(int(site.base.rpartition(":")[2]))
    base = f"http://127.0.0.1:{cable.port}"
    sign_in(page, base)
    page.goto(f"{base}/runs/{run}")
    log = page.locator("#log-lines")
    expect(log).to_contain_text("the gate is shut")
    expect(page.locator("#live-mark")).to_be_visible()
    cable.cut()
    expect(page.locator("#live-mark")).to_be_hidden()
    note = page.get_by_text("Connection lost, trying again.")
    expect(note).to_be_visible()
    counted = page.locator("#run-head [data-since]")
    frozen = counted.inner_text()
    page.wait_for_timeout(1500)
    assert counted.inner_text() == frozen
    site.gate("dropped").write_text("")
    until(lambda: "the gate is open" in whole_log(site, page, run), what="the last line")
    assert "the gate is open" not in log.inner_text()
    cable.mend()
    expect(log).to_contain_text("the gate is open")
    expect(page.locator("#run-head")).to_contain_text("Succeeded")
    expect(note).to_be_hidden()
    for line in ("the gate is shut", "the gate is open"):
        assert log.inner_text().count(line) == 1
    cable.close()


def whole_log(site, page, run):
    cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
    with httpx2.Client(trust_env=False, cookies=cookies, timeout=120) as client:
        return client.get(f"{site.base}/runs/{run}/log").text


def test_a_page_outlives_a_restart_of_the_server(tmp_path, page, free_port):
    port = str(free_port())
    with serve(tmp_path / "data", "--port", port) as live:
        live.add_user(EMAIL, admin=True)
        site = Site(live)
        run = site.order("restart")
        sign_in(page, site.base)
        page.goto(f"{site.base}/runs/{run}")
        log = page.locator("#log-lines")
        expect(log).to_contain_text("the gate is shut")
    expect(page.locator("#live-mark")).to_be_hidden()
    with serve(tmp_path / "data", "--port", port) as live:
        Site(live).gate("restart").write_text("")
        expect(log).to_contain_text("the gate is open")
        expect(page.locator("#run-head")).to_contain_text("Succeeded")
        assert log.inner_text().count("the gate is shut") == 1
