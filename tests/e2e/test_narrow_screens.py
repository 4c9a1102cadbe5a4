import pytest
from playwright.sync_api import expect

from .conftest import sign_in

PHONE = {"viewport": {"width": 390, "height": 844}}


@pytest.fixture
def phone(site, open_page):
    """A page of a phone's width, signed in."""
    page = open_page(**PHONE, has_touch=True, is_mobile=True)
    sign_in(page, site.base)
    return page


def assert_all_in_view(page, within):
    """Nothing of the page, and none of these cells, needs scrolling sideways."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    cut = page.evaluate(
        """(within) => [...document.querySelectorAll(within)].filter((one) => {
          const box = one.getBoundingClientRect();
          return box.width && (box.left < 0 || box.right > innerWidth + 0.5);
        }).map((one) => one.outerHTML)""",
        within,
    )
    assert cut == []


def test_a_list_and_a_run_stand_as_cards(site, phone):
    site.gate("narrow").write_text("")
    run = site.order("narrow", metric=100)
    phone.goto(f"{site.base}/runs/{run}")
    expect(phone.locator("#run-head")).to_contain_text("Failed")
    assert_all_in_view(phone, "table :is(th, td) *:not(.visually-hidden)")
    phone.get_by_role("link", name="Log of watch").click()
    phone.wait_for_url("**#log")
    heading = phone.get_by_role("heading", name="Log")
    expect(heading).to_be_in_viewport(ratio=1)
    top = phone.evaluate(
        "(() => { const box = document.querySelector('#log-title').getBoundingClientRect();"
        " return document.elementFromPoint(box.left + 5, box.top + 5)?.id; })()"
    )
    assert top == "log-title"  # and nothing lies over it
    phone.goto(f"{site.base}/runs")
    expect(phone.locator("#runs tbody tr").first).to_be_visible()
    assert_all_in_view(phone, "table :is(th, td) *")


def test_lines_of_parallel_steps_can_be_told_apart(site, phone):
    site.gate("apart").write_text("")
    run = site.order("apart")
    phone.goto(f"{site.base}/runs/{run}")
    line = phone.locator(".ll", has_text="the gate is shut").first
    expect(line.get_by_text("watch", exact=True)).to_be_visible()


@pytest.mark.parametrize("width", [320, 390, 700])
@pytest.mark.parametrize("paused", [False, True])
def test_the_question_under_the_last_button_of_a_run_stays_on_screen(
    site, open_page, width, paused
):
    run = site.order(f"ask{width}{paused}")
    page = open_page(viewport={"width": width, "height": 844})
    sign_in(page, site.base)
    page.goto(f"{site.base}/runs/{run}")
    if paused:
        page.get_by_role("button", name="Pause").click()
    page.locator("#run-head .ask > summary").last.click()
    expect(page.get_by_role("button", name="Stop this run")).to_be_in_viewport(ratio=1)
    assert_all_in_view(page, "#run-head .ask-box, #run-head .ask-box *")
    page.get_by_role("button", name="Stop this run").click()
    expect(page.locator("#run-head")).to_contain_text("Stopped")


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_a_token_with_a_long_name_can_be_revoked_without_scrolling(site, open_page, width):
    page = open_page(viewport={"width": width, "height": 844})
    sign_in(page, site.base)
    name = f"{width}".ljust(100, "x")
    page.goto(f"{site.base}/account/tokens")
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Create").click()
    page.goto(f"{site.base}/account/tokens")
    card = page.locator(".tokens-table tr", has_text=name)
    before = card.bounding_box()["height"]
    card.get_by_text("Revoke", exact=True).click()
    assert_all_in_view(page, ".tokens-table :is(th, td), .ask-box, .ask-box *")
    if width > 760:
        assert card.bounding_box()["height"] == before
    card.get_by_role("button", name="Revoke it").click()
    expect(page.get_by_text("The token is revoked.")).to_be_visible()
    expect(page.get_by_text(name)).to_be_hidden()
    page.locator(".fold summary").click()
    expect(page.get_by_text(name)).to_be_visible()


def test_what_is_wider_than_its_place_fades_out(site, phone):
    site.gate("wide").write_text("")
    run = site.order("wide")
    phone.goto(f"{site.base}/runs/{run}")
    expect(phone.locator("#run-head")).to_contain_text("Succeeded")
    graph = phone.locator(".graph-scroll")
    is_wide = graph.evaluate("box => box.scrollWidth > box.clientWidth + 2")
    assert ("more-after" in graph.get_attribute("class")) is is_wide
    graph.evaluate("box => { box.scrollLeft = 9999; }")
    expect(graph).not_to_have_class("graph-scroll more-after")
