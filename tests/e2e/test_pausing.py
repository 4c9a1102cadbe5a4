from playwright.sync_api import expect


def test_a_run_is_paused_and_goes_on_from_its_page(site, ada):
    run = site.order("paused")
    ada.goto(f"{site.base}/runs/{run}")
    expect(ada.get_by_role("link", name="watch Running")).to_be_visible()
    ada.get_by_role("button", name="Pause").click()
    head = ada.locator("#run-head")
    expect(head).to_contain_text("paused")
    site.gate("paused").write_text("")
    expect(ada.get_by_role("link", name="watch Succeeded")).to_be_visible()
    expect(head).to_contain_text("Running")
    ada.get_by_role("button", name="Go on").click()
    expect(head).to_contain_text("Succeeded")
