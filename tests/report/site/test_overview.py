import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.report.site.conftest import PHONE, Report, Visit
from tests.report.site.example import EVALS, write_example, write_records

pytestmark = pytest.mark.browser

ROWS = "#table tbody tr"
NAMES = "#table tbody th a"

# Milliseconds from the call of a page until a click on a column's head has sorted its table.


def test_every_page_opens_from_the_disk(visit: Visit, two_models: Path) -> None:
    """Without a complaint in the console, and without asking for anything elsewhere."""
    pages = sorted(two_models.rglob("*.html"))
    assert len(pages) == 24 + 3
    for path in pages:
        visit.open(path)
        assert visit.page.locator("h1").inner_text()


def test_links_lead_to_pages_that_are_there(visit: Visit, two_models: Path) -> None:
    """Each of them, of every kind of page."""
    kinds = [
        two_models / "index.html",
        two_models / "timeline.html",
        *two_models.glob("compare/*.html"),
    ]
    kinds.append(next(two_models.glob("evals/*.html")))
    for path in kinds:
        visit.open(path)
        found = visit.page.eval_on_selector_all(
            "a[href]", "all => all.map(a => new URL(a.getAttribute('href'), location).href)"
        )
        assert found
        for url in found:
            assert Path(re.sub(r"^file://|#.*$", "", url)).is_file(), url


def test_evals_are_listed_as_planned(visit: Visit, one_model: Path) -> None:
    """With score, uncertainty, state, samples, time, tokens and attempts."""
    visit.open(one_model / "index.html")
    assert visit.visible(NAMES) == list(EVALS)
    first = visit.page.locator(ROWS).first.inner_text()
    assert re.search(r"done\s+0\.\d{3} ± 0\.\d{3}\s+120\s+[\d mins.]+\s+8\.4k\s+1", first)


def test_the_head_of_a_column_sorts(visit: Visit, one_model: Path) -> None:
    """Figures from the greatest, the other way round the second time; what has none comes last."""
    page = visit.open(one_model / "index.html")
    scores = "#table tbody td:nth-child(3)"
    for direction in ("descending", "ascending"):
        page.get_by_role("button", name="Score").click()
        head = page.get_by_role("columnheader", name="Score")
        assert head.get_attribute("aria-sort") == direction
        found = [float(text.split()[0]) for text in page.locator(scores).all_inner_texts()[:10]]
        assert found == sorted(found, reverse=direction == "descending")
        assert page.locator(scores).all_inner_texts()[10:] == ["", ""]
    page.get_by_role("button", name="Eval").click()
    assert visit.visible(NAMES) == sorted(EVALS)


def test_a_state_filters(visit: Visit, one_model: Path) -> None:
    """Several of them show more; the number of those shown is told."""
    page = visit.open(one_model / "index.html")
    page.get_by_role("checkbox", name="failed").check()
    assert visit.visible(NAMES) == ["json-output.dev.v0"]
    assert page.get_by_role("status").inner_text() == "1 of 12 evals"
    page.get_by_role("checkbox", name="lost").check()
    assert visit.visible(NAMES) == ["hindsight.dev.v0", "json-output.dev.v0"]


def test_a_search_finds_names_and_reasons(visit: Visit, one_model: Path) -> None:
    """All its words must be there, in any order."""
    page = visit.open(one_model / "index.html")
    page.get_by_label("Search").fill("engine LOST")
    assert visit.visible(NAMES) == ["hindsight.dev.v0"]
    page.get_by_label("Search").fill("nowhere")
    assert visit.visible(NAMES) == []
    assert page.get_by_role("status").inner_text() == "0 of 12 evals"


def test_what_is_shown_can_be_shared(visit: Visit, one_model: Path) -> None:
    """Search, filter and order are in the address."""
    page = visit.open(one_model / "index.html")
    page.get_by_label("Search").fill("dev.v0")
    page.get_by_role("checkbox", name="done").check()
    page.get_by_label("Sort by").select_option(label="score")
    shown = visit.visible(NAMES)
    fragment = page.evaluate("location.hash")
    visit.open(one_model / "index.html", fragment)
    assert visit.visible(NAMES) == shown
    assert 3 < len(shown) < 12
    assert shown != sorted(shown, key=EVALS.index)


def test_an_address_that_makes_no_sense_shows_everything(visit: Visit, one_model: Path) -> None:
    """Somebody has typed it."""
    visit.open(one_model / "index.html", "#sort=99&state=&q=%20")
    assert visit.visible(NAMES) == list(EVALS)


def test_models_stand_side_by_side(visit: Visit, two_models: Path) -> None:
    """Each can be sorted by each of its figures."""
    page = visit.open(two_models / "index.html")
    heads = [re.sub(r"\W+$", "", text) for text in visit.visible("#table thead th")]
    assert heads == ["Eval", "aria-large", "aria-small"]
    page.get_by_label("Sort by").select_option(label="aria-small: time")
    times = page.eval_on_selector_all(
        "#table tbody td:nth-child(3)", "all => all.map(td => Number(td.dataset.k.split('|')[3]))"
    )
    assert len(times) == 12
    assert times == sorted(times)
    page.get_by_role("button", name="Descending").click()
    assert page.locator("#table tbody td:nth-child(3)").first.get_attribute("data-k").split("|")[  # type: ignore[union-attr] # it is there
        3
    ] == str(times[-1])


def test_what_failed_first_is_open(visit: Visit, two_models: Path) -> None:
    """With its reason and the last lines of its output; later ones are folded away."""
    page = visit.open(two_models / "index.html")
    assert page.locator("details.failure").count() == 2
    first = page.locator("details.failure[open]")
    assert first.count() == 1
    assert "hindsight.dev.v0" in first.inner_text()
    assert "the engine lost the container" in first.inner_text()
    assert "FileNotFoundError: [Errno 2]" in first.inner_text()


def test_output_opens_at_its_end(visit: Visit, two_models: Path) -> None:
    """There is the error, and above it what may be more than fits."""
    page = visit.open(two_models / "index.html")
    box = page.locator("details.failure[open] pre")
    outer, inner = box.evaluate(
        """box => {
            box.style.maxHeight = '3rem';
            return [box, box.firstElementChild].map(it => it.getBoundingClientRect().toJSON());
        }"""
    )
    assert inner["top"] < outer["top"]
    assert inner["bottom"] < outer["bottom"]


def test_totals_and_costs_are_shown(visit: Visit, two_models: Path) -> None:
    """10 and 30 a million for 61 and 9 tokens a sample, of 22 evals with 120 samples."""
    visit.open(two_models / "index.html")
    tiles = dict(text.split("\n")[:2] for text in visit.visible(".tile"))
    assert tiles["Finished"] == "22 of 24"
    assert tiles["Samples"] == "2,640"
    assert tiles["Tokens"] == "185k"
    assert tiles["Cost"] == f"{2640 * (61 * 10 + 9 * 30) / 1e6:.2f} USD"


def test_the_timeline_marks_failures(visit: Visit, two_models: Path) -> None:
    """A bar for each attempt, by host, and how long they would have taken one at a time."""
    page = visit.open(two_models / "timeline.html")
    assert page.locator(".chart rect").count() == 24
    assert page.locator(".chart rect.failed").count() == 1
    assert [text.split()[0] for text in visit.visible(".chart p")] == ["runner-a", "runner-b"]
    assert "one at a time they would have taken" in page.locator(".lead").inner_text()
    assert len(visit.visible(ROWS)) == 24


def test_it_reads_well_in_the_dark(visit: Visit, one_model: Path) -> None:
    """Light text on a dark page, where the system asks for it."""

    def brightness(of: str) -> float:
        colour = visit.page.evaluate(f"getComputedStyle(document.body).{of}")
        return sum(map(float, re.findall(r"\d+", colour)[:3]))

    visit.page.emulate_media(color_scheme="light")
    visit.open(one_model / "index.html")
    assert brightness("backgroundColor") > 700
    assert brightness("color") < 200
    visit.page.emulate_media(color_scheme="dark")
    assert brightness("backgroundColor") < 100
    assert brightness("color") > 600


def test_a_phone_needs_no_sideways_scrolling(browser: Browser, two_models: Path) -> None:
    """On any kind of page."""
    context = browser.new_context(viewport=PHONE)
    visit = Visit(context)
    pages = [two_models / "index.html", two_models / "timeline.html"]
    for path in [*pages, next(two_models.glob("evals/*.html")), *two_models.glob("compare/*.html")]:
        page = visit.open(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
    context.close()
    assert visit.complaints == []


def test_a_thousand_evals_are_light_and_sorted(
    visit: Visit, report: Report, tmp_path: Path
) -> None:
    """Of two models, some failed: less than 1.5 MB. How fast that is, `make bench` says."""
    names = [f"an-eval-with-a-usual-name-{place}.dev.v0" for place in range(1000)]
    models = (("aria-large", 0.8), ("aria-small", 0.7))
    write_example(tmp_path / "p", models, evals=names, samples=2, failing=names[10:40:15])
    path = report(tmp_path / "p") / "index.html"
    assets = (path.parent / "assets").iterdir()
    assert sum(each.stat().st_size for each in [path, *assets]) < 1_500_000
    page = visit.open(path)
    page.locator("th button", has_text=re.compile("^\\s*Eval")).first.click()
    assert page.locator("th[aria-sort=ascending]").inner_text().strip() == "Eval"
    assert page.locator(ROWS).count() == 1000


def test_a_run_that_has_not_begun_has_a_page(visit: Visit, report: Report, tmp_path: Path) -> None:
    """All its evals are to do."""
    write_records(tmp_path / "p", "m", "s", [["oaieval", "m", "a"], ["oaieval", "m", "b"]], [], [])
    visit.open(report(tmp_path / "p") / "index.html")
    assert "0 of 2 evals finished, 2 to do." in visit.visible(".lead")[0]
    assert visit.visible(NAMES) == ["a", "b"]
