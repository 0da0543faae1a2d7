import re
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.answered import Answered
from tests.report.site.conftest import PHONE, Report, Visit, eval_page
from tests.report.site.example import EVALS, START, write_example
from tests.report.site.test_accessibility import faults

pytestmark = pytest.mark.browser

MODELS = (("aria-large", 0.8), ("aria-small", 0.72))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Runs of two models; two evals of the first have answers on record."""
    root = tmp_path / "progress"
    write_example(root, MODELS, evals=EVALS[:4], samples=5)
    for place, name in enumerate(EVALS[:2]):
        one = Answered(
            root,
            ["oaieval", "aria-large", name, "--max_samples", "5"],
            model="aria-large",
            eval_set="research",
            start=START + timedelta(seconds=9 * place),
        )
        one.paid(4 + place, usd=0.25, seconds=0.5 + place)
    one.replayed(2)
    one.sent()
    return root


def test_the_overview_says_what_was_asked(root: Path, report: Report, visit: Visit) -> None:
    """How much, what it cost, and how long answers took, for all evals and for each."""
    folder = report(root, ("aria-large", "research"))
    page = visit.open(folder / "index.html")
    tiles = visit.visible(".tile")
    assert "Requests\n10\n2 replayed, 1 perhaps paid" in tiles
    assert "Paid\n2.25 USD\nsaved 0.5000 USD" in tiles
    assert "Latency\n1.50 s\n19 of 20 within 1.50 s" in tiles
    heads = [re.sub(r"\W+$", "", text) for text in visit.visible("#table thead th")]
    assert heads[-2:] == ["Latency", "Paid"]
    rows = [
        row.locator("td").all_inner_texts()[-2:] for row in page.locator("#table tbody tr").all()
    ]
    assert rows == [["0.50 s", "1.00 USD"], ["1.50 s", "1.25 USD"], ["", ""], ["", ""]]
    for name, first in (("latency", "1.50 s"), ("paid", "1.25 USD")):
        page.get_by_label("Sort by").select_option(label=name)
        page.get_by_role("button", name="Descending").click()
        assert first in page.locator("#table tbody tr").first.inner_text()
        page.get_by_role("button", name="Descending").click()


def test_models_side_by_side_say_it_below_the_score(
    root: Path, report: Report, visit: Visit
) -> None:
    """Only where answers are on record."""
    visit.open(report(root) / "index.html")
    first, *_, last = visit.visible("#table tbody tr")
    assert first.count("an answer") == 1
    assert "0.50 s an answer · 1.00 USD" in first
    assert "an answer" not in last


def test_the_timeline_shows_requests(root: Path, report: Report, visit: Visit) -> None:
    """Below the attempts, on the same axis; each column says how many they were."""
    page = visit.open(report(root, ("aria-large", "research")) / "timeline.html")
    (said,) = [text for text in visit.visible(".chart p") if "Answers" in text]
    assert re.fullmatch(r"Answers of models 9, at most \d in [\d.]+ s", said)
    columns = page.locator(".chart rect.running")
    counts = [int(text.partition(": ")[2]) for text in columns.locator("title").all_text_contents()]
    assert sum(counts) == 9
    assert page.locator(".axis").count() == 1


def test_the_page_of_an_eval_shows_its_own(root: Path, report: Report, visit: Visit) -> None:
    """One without answers has no such part."""
    folder = report(root, ("aria-large", "research"))
    page = visit.open(eval_page(folder, EVALS[1]))
    section = page.locator("section:has(#requests)")
    text = section.inner_text()
    for part in ("Requests\n6\n2 replayed, 1 perhaps paid", "Paid\n1.25 USD", "Tokens\n350"):
        assert part in text
    assert section.locator("rect.running").count() > 1
    visit.open(eval_page(folder, EVALS[3]))
    assert visit.page.locator("#requests").count() == 0


def test_damaged_answers_are_named(root: Path, report: Report, visit: Visit) -> None:
    """On the overview and on the page of the eval."""
    (path,) = root.glob(f"answers/*/{EVALS[0]}.*")
    path.write_bytes(b"<b>\n" + path.read_bytes())
    folder = report(root, ("aria-large", "research"))
    for page in (folder / "index.html", eval_page(folder, EVALS[0])):
        visit.open(page)
        (said,) = visit.visible(".warning")
        assert said.endswith("line 1 cannot be read and is left as it is")


def test_without_answers_nothing_is_said_of_requests(tmp_path: Path, report: Report) -> None:
    """As before there was a gateway."""
    write_example(tmp_path / "old", MODELS[:1], evals=EVALS[:2], samples=5)
    folder = report(tmp_path / "old")
    for page in folder.rglob("*.html"):
        text = page.read_text()
        assert "Latency" not in text
        assert "Answers of models" not in text


def test_axe_finds_no_fault_in_what_is_said_of_requests(
    root: Path, report: Report, browser: Browser
) -> None:
    """Where there is little room, too."""
    folder = report(root, ("aria-large", "research"))
    context = browser.new_context(viewport=PHONE, reduced_motion="reduce", bypass_csp=True)
    visit = Visit(context)
    for path in (folder / "index.html", folder / "timeline.html", eval_page(folder, EVALS[1])):
        assert faults(visit.open(path)) == []
    context.close()
