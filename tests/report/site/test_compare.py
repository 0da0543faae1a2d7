import re
from pathlib import Path

import pytest

from tests.report.site.conftest import Report, Visit
from tests.report.site.example import write_example

pytestmark = pytest.mark.browser

FLIPS = "details.flips[open] li"


def compared(folder: Path) -> Path:
    (path,) = folder.glob("compare/*.html")
    return path


def test_two_models_are_compared(visit: Visit, two_models: Path) -> None:
    """Which evals went up or down, by how much, and with which test."""
    page = visit.open(two_models / "index.html")
    page.get_by_role("link", name="aria-small against aria-large").click()
    assert page.locator("h1").inner_text() == "aria-small against aria-large"
    assert "exact McNemar test" in page.locator("main").inner_text()
    assert "scipy" in page.locator("main").inner_text()
    rows = [row.split("\t") for row in page.locator("#table tbody tr").all_inner_texts()]
    assert len(rows) == 12
    whole = [row for row in rows if row[3].strip()]
    assert len(whole) == 10
    for _, before, after, change, *_ in whole:
        assert float(change.replace("\N{MINUS SIGN}", "-")) == pytest.approx(
            float(after) - float(before), abs=0.0011
        )


def test_the_p_value_is_that_of_the_flips(visit: Visit, two_models: Path) -> None:
    """The binomial test of as many as the table shows."""
    from scipy.stats import binomtest  # noqa: PLC0415 - slow to import

    page = visit.open(compared(two_models))
    seen = 0
    for row in page.locator("#table tbody tr").all():
        cells = row.locator("td").all_inner_texts()
        if not cells[3]:
            continue
        gained, lost = (int(cells[place]) for place in (4, 5))  # a 0 is shown, too
        p = binomtest(gained, gained + lost).pvalue
        assert cells[6] == ("< 0.001" if p < 0.001 else f"{p:.3f}")
        seen += 1
    assert seen == 10


def test_flips_are_listed(visit: Visit, two_models: Path) -> None:
    """As many as there are, with both answers, and links to the sample in both runs."""
    page = visit.open(compared(two_models))
    row = page.locator("#table tbody tr").first
    cells = row.locator("td").all_inner_texts()
    row.get_by_role("link").first.click()
    page.wait_for_selector(FLIPS)
    assert page.locator(FLIPS).count() == int(cells[4] or 0) + int(cells[5] or 0)
    first = page.locator(FLIPS).first
    name, words = first.locator("h3").inner_text(), first.inner_text().split("\n")
    right = words[words.index("Expected") + 1]
    assert words[words.index("Before") + 1] == right
    assert words[words.index("After") + 1] != right
    first.get_by_role("link", name="after").click()
    page.wait_for_selector(".sample.aim.wrong")
    assert page.locator(".aim h3").inner_text() == name


def test_the_same_is_compared_with_what_was_before(
    visit: Visit, report: Report, tmp_path: Path
) -> None:
    """With --baseline: the same model and eval set, from another progress directory."""
    for name, skill in (("old", 0.5), ("new", 0.9)):
        write_example(tmp_path / name, [("m", skill)], evals=["e.dev.v0"], failing=())
    folder = report(tmp_path / "new", baseline=tmp_path / "old")
    page = visit.open(compared(folder))
    assert page.locator("h1").inner_text() == "m (after) against m (before)"
    assert page.locator(".change.up").count() == 1
    assert "more than chance explains (p < 0.001)" in page.locator(".lead").inner_text()


def test_the_same_twice_is_unchanged(visit: Visit, report: Report, tmp_path: Path) -> None:
    """No sample flips, and nothing is significant."""
    write_example(tmp_path / "p", [("m", 0.7)], evals=["e.dev.v0"], failing=())
    page = visit.open(compared(report(tmp_path / "p", baseline=tmp_path / "p")))
    assert page.locator(".clear").count() == 0
    lead = page.locator(".lead").inner_text()
    assert re.fullmatch(
        r"0 up, 0 down, 1 unchanged\. Of 120 samples that both have, none flipped\.", lead
    )


def test_what_went_down_can_be_seen_alone(visit: Visit, two_models: Path) -> None:
    """As on the overview."""
    page = visit.open(compared(two_models))
    page.get_by_role("checkbox", name="down").check()
    shown = [row for row in page.locator("#table tbody tr").all() if row.is_visible()]
    assert 0 < len(shown) < 12
    assert all(row.locator(".change.down").count() == 1 for row in shown)
