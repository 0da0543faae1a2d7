from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.report.site.conftest import PHONE, WIDE, Visit, eval_page

pytestmark = pytest.mark.browser

Scheme = Literal["light", "dark"]


def faults(page: Page) -> list[str]:
    """What axe finds, with the elements that it is about."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['impact']} {one['id']}: {[node['html'][:200] for node in one['nodes']][:3]}"
        for one in found
    ]


def shown(visit: Visit, report: Path) -> list[str]:
    """The faults of every kind of page, with what can be opened opened."""
    found = []
    kinds = [report / "index.html", report / "timeline.html"]
    kinds += [eval_page(report, "json-output"), eval_page(report, "arithmetic")]
    for path in [*kinds, *report.glob("compare/*.html")]:
        page = visit.open(path)
        if page.locator("#list").count():
            page.wait_for_selector("#list > li")
        for summary in page.locator("details:not([open]) > summary").all()[:3]:
            summary.click()
        page.wait_for_timeout(100)
        found += [f"{path.name} {fault}" for fault in faults(page)]
    return found


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(
    browser: Browser, two_models: Path, scheme: Scheme, size: dict[str, int]
) -> None:
    """In the light and in the dark, wide and narrow: contrast, names, order, roles."""
    context = browser.new_context(
        viewport={"width": size["width"], "height": size["height"]},
        color_scheme=scheme,
        reduced_motion="reduce",
        bypass_csp=True,  # for axe itself, which is put into the page
    )
    assert shown(Visit(context), two_models) == []
    context.close()


def test_axe_would_find_a_fault(browser: Browser, one_model: Path) -> None:
    """It does look: a page without a name and with grey text on grey is not accepted."""
    context = browser.new_context(bypass_csp=True)
    page = Visit(context).open(one_model / "index.html")
    page.evaluate("document.title = ''; document.querySelector('.lead').style.color = '#bbb'")
    assert {fault.split()[1] for fault in faults(page)} >= {"document-title:", "color-contrast:"}
    context.close()


def test_the_keyboard_is_enough(visit: Visit, one_model: Path) -> None:
    """To jump to the content, to sort, to filter, to open an eval, and to turn its pages."""
    page = visit.open(one_model / "index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        what = page.evaluate("document.activeElement.textContent || document.activeElement.type")
        reached.append(what.strip())
        if what == "Score":
            page.keyboard.press("Enter")
            assert page.get_by_role("columnheader", name="Score").get_attribute("aria-sort")
        if what == "checkbox" and reached.count("checkbox") == 1:
            page.keyboard.press("Space")
            assert page.get_by_role("status").inner_text() == "10 of 12 evals"
        if what.endswith(".dev.v0"):
            break
    assert {"search", "checkbox", "Score"} <= set(reached)
    page.keyboard.press("Enter")
    page.wait_for_selector("#list > li")
    page.get_by_role("button", name="Next").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Page 2 of 6")
