import json
import re
from pathlib import Path

import pytest

from tests.report.site.conftest import Report, Visit, eval_page
from tests.report.site.example import write_example, write_records

pytestmark = pytest.mark.browser

CARDS = "#list > li"
TITLES = "#list h3"


def one_log(root: Path, lines: list[object]) -> None:
    """A progress directory with one finished eval that left these lines."""
    command = ["oaieval", "m", "e.dev.v0"]
    log = "evallogs/1_m_e.dev.v0.jsonl"
    (root / "evallogs").mkdir(parents=True)
    (root / log).write_text("".join(json.dumps(line) + "\n" for line in lines))
    record = {
        "attempt": "1",
        "run": "r",
        "host": "h",
        "command": command,
        "eval": "e.dev.v0",
        "result": "success",
        "ended_at": "2026-01-01T00:00:00Z",
        "logs": [log],
        "samples": len(lines),
    }
    write_records(root, "m", "s", [command], [command], [record])


def event(sample: str | int, kind: str, **data: object) -> dict[str, object]:
    return {"sample_id": sample, "type": kind, "data": data}


def test_samples_come_in_the_order_of_their_numbers(visit: Visit, one_model: Path) -> None:
    """Twenty on a page, each with prompt, answer and what was expected."""
    visit.samples(eval_page(one_model, "capital-cities"))
    assert visit.visible(TITLES) == [f"capital-cities.dev.{place}" for place in range(20)]
    words = visit.visible(CARDS)[0].split("\n")
    assert "What is the capital of France? (question 0)" in words
    assert words[words.index("Expected") + 1] == "Paris"
    assert words[words.index("Prompt") + 1] == "system"
    assert "Answer" in words


def test_pages_follow_each_other(visit: Visit, one_model: Path) -> None:
    """To the last one, and back; the address says which is shown."""
    page = visit.samples(eval_page(one_model, "capital-cities"))
    assert page.get_by_role("button", name="Previous").is_disabled()
    page.get_by_role("button", name="Next").click()
    page.wait_for_selector("text=Page 2 of 6")
    assert visit.visible(TITLES)[0] == "capital-cities.dev.20"
    visit.samples(eval_page(one_model, "capital-cities"), "#page=6")
    assert visit.visible(TITLES)[-1] == "capital-cities.dev.119"
    assert page.get_by_role("button", name="Next").is_disabled()


def test_wrong_ones_can_be_seen_alone(visit: Visit, one_model: Path) -> None:
    """As many as the eval's score says."""
    page = visit.samples(eval_page(one_model, "capital-cities"))
    page.get_by_label("Per page").select_option("50")
    page.get_by_role("radio", name="wrong").check()
    page.wait_for_selector("text=of 120 in all")
    cards = page.locator(CARDS)
    assert 0 < cards.count() == page.locator(f"{CARDS}.wrong").count() < 50
    assert page.evaluate("location.hash") == "#show=0"
    count = cards.count()
    assert page.get_by_role("status").inner_text() == (
        f"Samples 1 to {count} of {count}, of 120 in all"
    )


def test_a_link_leads_to_one_sample(visit: Visit, one_model: Path) -> None:
    """On its page, in sight, and focused; the link is the sample's own."""
    path = eval_page(one_model, "capital-cities")
    page = visit.samples(path, "#sample=capital-cities.dev.77")
    page.wait_for_selector(".aim")
    assert page.evaluate("document.activeElement.querySelector('h3').textContent") == (
        "capital-cities.dev.77"
    )
    top = page.locator(".aim").bounding_box()
    assert top is not None
    assert 0 <= top["y"] < 900
    page.get_by_role("link", name="capital-cities.dev.79").click()
    page.wait_for_selector(".aim h3:has-text('capital-cities.dev.79')")
    assert page.evaluate("location.hash") == "#sample=capital-cities.dev.79"


def test_a_link_to_a_sample_that_is_gone_shows_the_first_page(
    visit: Visit, one_model: Path
) -> None:
    """It was another run's."""
    visit.samples(eval_page(one_model, "capital-cities"), "#sample=none")
    assert visit.visible(TITLES)[0] == "capital-cities.dev.0"


def test_a_search_looks_into_all_parts(visit: Visit, report: Report, tmp_path: Path) -> None:
    """Of which each is a file of its own, loaded when it is needed."""
    write_example(tmp_path / "p", [("m", 0.8)], evals=["e.dev.v0"], samples=1234, failing=())
    folder = report(tmp_path / "p")
    assert len(list(folder.glob("evals/*/[0-9]*.js"))) == 3
    page = visit.samples(eval_page(folder, "e.dev"))
    assert len([url for url in visit.requests if url.endswith("/0.js")]) == 1
    assert not [url for url in visit.requests if url.endswith("/1.js")]
    page.get_by_label("Search").fill("question 1100)")
    page.wait_for_selector("#list > li:only-child")
    assert visit.visible(TITLES) == ["e.dev.1100"]


def test_scores_of_a_grader_count_as_right_and_wrong(
    visit: Visit, report: Report, tmp_path: Path
) -> None:
    """Where all are one or zero; the grader's own call is next to the answer."""
    lines: list[object] = []
    for place, score in enumerate((1.0, 0.0)):
        sample = f"e.dev.{place}"
        lines.append(event(sample, "sampling", prompt="Tell a joke", sampled=["Knock"], model="a"))
        lines.append(event(sample, "sampling", prompt="Is it one?", sampled=["Y"], model="b"))
        lines.append(event(sample, "metrics", choice="Y", score=score))
    one_log(tmp_path / "p", lines)
    page = visit.samples(eval_page(report(tmp_path / "p"), "e.dev"))
    assert [text.split("\n")[1:3] for text in visit.visible(CARDS)] == [
        ["✓ right", "score 1"],
        ["✕ wrong", "score 0"],
    ]
    page.locator(f"{CARDS} summary").first.click()
    more = page.locator(f"{CARDS} details").first.inner_text()
    assert "Is it one?" in more
    assert "Answer of b" in more
    assert '{"choice":"Y","score":1.0}' in more


def test_scores_between_are_neither_right_nor_wrong(
    visit: Visit, report: Report, tmp_path: Path
) -> None:
    """They are shown as they are."""
    one_log(tmp_path / "p", [event(place, "metrics", score=place / 4) for place in range(5)])
    page = visit.samples(eval_page(report(tmp_path / "p"), "e.dev"))
    assert page.locator(f"{CARDS}.right, {CARDS}.wrong").count() == 0
    assert [text.split("\n")[1] for text in visit.visible(CARDS)][:2] == ["score 0", "score 0.25"]


def test_a_long_text_is_cut(visit: Visit, report: Report, tmp_path: Path) -> None:
    """With a word on how much there is."""
    one_log(tmp_path / "p", [event("e.dev.0", "sampling", prompt="x" * 50_000, sampled="y")])
    visit.samples(eval_page(report(tmp_path / "p"), "e.dev"))
    assert "… and 30,000 more characters" in visit.visible(CARDS)[0]


def test_what_cannot_be_read_is_told(visit: Visit, report: Report, tmp_path: Path) -> None:
    """How many lines, and how many logs are not here."""
    root = tmp_path / "p"
    one_log(root, [event("e.dev.0", "match", correct=True), "no event", {"sample_id": {}}])
    attempts = root / "oaievalset/m.s.attempts.jsonl"
    attempts.write_text(
        attempts.read_text().replace('"logs": [', '"logs": ["evallogs/gone.jsonl",')
    )
    visit.samples(eval_page(report(root), "e.dev"))
    assert visit.visible("#samples ~ .warning") == [
        "1 of its logs are not here, or cannot be read.",
        "2 lines of its logs cannot be read.",
    ]


def test_a_hundred_thousand_events_are_usable(visit: Visit, report: Report, tmp_path: Path) -> None:
    """The page loads the part that it shows, wherever that is."""
    root = tmp_path / "p"
    count = 50_000
    one_log(
        root,
        [
            event(f"e.dev.{place}", kind, **data)
            for place in range(count)
            for kind, data in (
                ("sampling", {"prompt": f"question {place}", "sampled": ["yes"]}),
                ("match", {"correct": place % 1000 != 7, "expected": "yes"}),
            )
        ],
    )
    path = eval_page(report(root), "e.dev")
    page = visit.samples(path)
    assert page.get_by_role("status").inner_text() == "Samples 1 to 20 of 50,000"
    page.get_by_role("radio", name="wrong").check()
    page.wait_for_selector("text=Page 1 of 3")
    assert visit.visible(TITLES)[:2] == ["e.dev.7", "e.dev.1007"]
    visit.samples(path, "#sample=e.dev.49999")
    page.wait_for_selector(".aim h3:has-text('e.dev.49999')")
    assert len({url for url in visit.requests if re.search(r"/\d+\.js$", url)}) < 30
