import json
from pathlib import Path

import pytest

from tests.report.site.conftest import Report, Visit, eval_page
from tests.report.site.example import IMAGE, write_records

pytestmark = pytest.mark.browser

RUN = "window.pwned=1"
# What an eval's code may write anywhere. Each would run, ask for something, or hide text.
HOSTILE = (
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"<img src=x onerror='{RUN}'>",
    f'"><svg onload="{RUN}">',
    f"' onmouseover='{RUN}' autofocus onfocus='{RUN}",
    f"javascript:{RUN}",
    "<iframe src='https://example.org'></iframe><link rel=stylesheet href=//example.org/x.css>",
    "<meta http-equiv=refresh content='0;url=https://example.org'><base href=//example.org>",
    "{{ site.nonce }}{% for x in y %}${window.pwned=1}`",
    "\u2028*/]);window.pwned=1;//\u2029",
    "<!--<script>",
    "]]>&lt;script&gt;&#x3c;b&#x3e;",
    "\x1b[31mred\x1b]0;title\x07\x00\x08\x9b",
    "\u202egnp.exe\u202c\u2066hidden\u2069",
    "__proto__",
    "constructor",
    "../../../etc/passwd",
    "=HYPERLINK('//example.org')",
)
ALL = " ".join(HOSTILE)


def plant(root: Path, text: str) -> None:
    """A run of which everything that can be is this text: names, reasons, reports, samples."""
    name = text.replace("\x00", "").replace("\x1b", "").replace("/", "_")[:150]
    good = ["oaieval", "m", f"{name}good", f"--{text}"]
    bad = ["oaieval", "m", f"{name}bad"]
    (root / "evallogs").mkdir(parents=True)
    console = f"evallogs/{name[:40].encode().hex()}.console.log"
    (root / console).write_text(f"{text}\n" * 3)
    events = [
        {"sample_id": f"{text}{place}", "type": kind, "data": data}
        for place in range(3)
        for kind, data in (
            ("sampling", {"prompt": [{"role": text, "content": text}], "sampled": [text]}),
            ("sampling", {"prompt": text, "sampled": text, "model": text}),
            ("match", {"correct": False, "expected": text, "picked": [text, text]}),
            (text, {"__proto__": {"pwned": 1}, text: text}),
        )
    ]
    log = "evallogs/log.jsonl"
    (root / log).write_text("".join(json.dumps(line) + "\n" for line in events))
    record = {
        "attempt": text,
        "run": text,
        "host": text,
        "reason": text,
        "ended_at": text,
        "started_at": text,
        "image": IMAGE,
        "warnings": [text],
        "console_log": console,
        "final_report": {text: text, "accuracy": 0.5},
        "samples": 3,
    }
    attempts = [
        record | {"command": good, "eval": good[2], "result": "success", "logs": [log, text]},
        record | {"command": bad, "eval": bad[2], "result": "failure", "fault": "eval"},
        record
        | {"command": bad, "eval": bad[2], "result": "failure", "ended_at": "2026-01-01T00:00:00Z"},
    ]
    write_records(root, "m", "s", [good, bad], [good], attempts)


@pytest.fixture
def planted(report: Report, tmp_path: Path) -> Path:
    plant(tmp_path / "p", ALL)
    return report(tmp_path / "p", baseline=tmp_path / "p")


def test_nothing_from_a_log_runs(visit: Visit, planted: Path) -> None:
    """On no page, nor is anything asked for: neither by markup nor by a link."""
    pages = sorted(planted.rglob("*.html"))
    assert len(pages) == 2 + 4 + 1
    for path in pages:
        page = visit.open(path)
        page.wait_for_timeout(100)
        assert page.evaluate("window.pwned") is None
        assert page.evaluate("({}).pwned") is None
        assert page.locator("img, iframe, base, object, embed, [onload], [onerror]").count() == 0
        assert page.locator("[onmouseover], [onfocus], a[href^=javascript]").count() == 0
        assert page.url == path.as_uri()
        assert not set(page.content()) & set("\u202e\u2066\x1b\x9b\x08")


def test_samples_are_shown_as_they_are_written(visit: Visit, planted: Path) -> None:
    """Markup is text; what would turn or hide text, or command a terminal, is marked."""
    path = next(path for path in planted.glob("evals/*.html") if 'id="list"' in path.read_text())
    page = visit.samples(path)
    shown = page.locator("#list").inner_text()
    for text in HOSTILE[:8]:
        assert text in shown
    assert not set(shown) & set("\u202e\u2066\x1b\x9b")
    assert "\ufffdgnp.exe\ufffd" in shown
    assert page.locator("#list b").all_inner_texts().count(ALL) == 0  # the role is cleaned, too
    assert page.locator("#list script, #list img").count() == 0
    page.locator("#list summary").first.click()
    assert '{"__proto__":{"pwned":1}' in page.locator("#list details").first.inner_text()
    page.locator("#list h3 a").first.click()
    page.wait_for_selector(".aim")


def test_a_hostile_sample_can_be_linked_to(visit: Visit, planted: Path) -> None:
    """Its id is data in the address, too."""
    path = next(path for path in planted.glob("evals/*.html") if 'id="list"' in path.read_text())
    page = visit.samples(path)
    page.locator("#list h3 a").nth(1).click()
    page.wait_for_selector(".aim")
    assert page.evaluate("window.pwned") is None
    visit.samples(path, page.evaluate("location.hash"))
    assert page.locator(".aim").count() == 1


def test_no_name_of_a_file_is_from_a_log(planted: Path) -> None:
    """Names are ours: digits, and words of ours."""
    for path in planted.rglob("*"):
        assert path.relative_to(planted).as_posix().isascii()
        assert path.suffix in {"", ".html", ".js", ".css", ".json"}
        for part in path.relative_to(planted).parts[1:-1]:
            assert len(part) == 16
            int(part, 16)


def test_a_record_names_no_file_elsewhere(report: Report, tmp_path: Path) -> None:
    """A log that a record from another host calls its own is read from the logs alone."""
    root = tmp_path / "p"
    plant(root, "e")
    (tmp_path / "secret.jsonl").write_text(
        '{"sample_id": "s", "type": "match", "data": {"correct": true, "expected": "SECRET"}}\n'
    )
    (root / "evallogs/link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (root / "evallogs/folder").symlink_to(tmp_path)
    attempts = root / "oaievalset/m.s.attempts.jsonl"
    for name in (
        "../secret.jsonl",
        "evallogs/../../secret.jsonl",
        "evallogs/link.jsonl",
        "evallogs/folder/secret.jsonl",
        str(tmp_path / "secret.jsonl"),
    ):
        text = attempts.read_text()
        attempts.write_text(text.replace('"evallogs/log.jsonl"', json.dumps(name)))
        folder = report(root)
        everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        assert b"SECRET" not in everything
        attempts.write_text(text)


def test_names_with_quotes_are_names(visit: Visit, report: Report, tmp_path: Path) -> None:
    """On the overview, in a title, and in a label."""
    name = 'it\'s "quoted" & <b>bold</b> `x`'
    command = ["oaieval", "m", name]
    write_records(tmp_path / "p", "m", "s", [command], [command], [])
    folder = report(tmp_path / "p")
    page = visit.open(folder / "index.html")
    assert page.locator("#table tbody th a").inner_text() == name
    page.locator("#table tbody th a").click()
    assert page.title().startswith(name)


def test_a_page_allows_no_script_but_ours(visit: Visit, one_model: Path) -> None:
    """The policy holds even if something were to get into a page."""
    page = visit.open(eval_page(one_model, "arithmetic"))
    page.evaluate(
        "const s = document.createElement('script');"
        "try { s.textContent = 'window.pwned = 1'; } catch { window.refused = 1; }"
        "document.body.append(s);"
        "try { document.body.innerHTML += '<img src=x onerror=window.pwned=1>' }"
        "catch { window.refused = 1 }"
        "const i = new Image(); i.src = 'https://example.org/x.png';"
        "fetch('https://example.org').catch(() => { window.unreached = 1 })"
    )
    page.wait_for_timeout(200)
    assert page.evaluate("[window.pwned ?? 0, window.refused]") == [0, 1]
    assert len(visit.complaints) >= 3
    # The browser tells of what it was asked for, and that it did not ask.
    tried = [url for url in visit.requests if "example.org" in url]
    assert visit.blocked == ["csp"] * len(tried)
    visit.requests.clear()
    visit.complaints.clear()


def test_markup_that_got_into_a_page_would_do_nothing(visit: Visit, one_model: Path) -> None:
    """As if escaping had failed: neither script nor handler runs, and nothing is asked for."""
    path = eval_page(one_model, "arithmetic")
    planted = path.with_name("0123456789abcdef.html")
    markup = "<script>window.pwned=1</script><img src=https://example.org/x onerror=window.pwned=1>"
    markup += "<script src=https://example.org/x.js></script><a id=x onclick=window.pwned=1>x</a>"
    planted.write_text(path.read_text().replace("<h1>", f"{markup}<h1>"))
    page = visit.samples(planted)
    page.locator("#x").click()
    page.wait_for_timeout(100)
    planted.unlink()
    assert page.evaluate("window.pwned") is None
    tried = [url for url in visit.requests if "example.org" in url]
    assert visit.blocked == ["csp"] * len(tried)
    visit.requests.clear()
    visit.complaints.clear()


def test_what_is_nested_to_the_limit_breaks_nothing(
    visit: Visit, report: Report, tmp_path: Path
) -> None:
    """Deep in every place of a sample; what can be shown of it is."""
    plant(tmp_path / "p", "e")
    log = tmp_path / "p/evallogs/log.jsonl"
    lines = []
    for depth in (50, 900, 950, 970, 980, 990, 5000):
        deep = "[" * depth + "]" * depth
        for kind in ("match", "sampling", "odd"):
            data = f'{{"prompt": {deep}, "sampled": {deep}, "expected": {deep}, "picked": {deep}}}'
            lines.append(f'{{"sample_id": "e.{depth}", "type": "{kind}", "data": {data}}}\n')
    log.write_text("".join(lines))
    attempts = tmp_path / "p/oaievalset/m.s.attempts.jsonl"
    attempts.write_text(attempts.read_text().replace('"e": "e"', f'"e": {"[" * 900 + "]" * 900}'))
    folder = report(tmp_path / "p")
    path = next(path for path in folder.glob("evals/*.html") if 'id="list"' in path.read_text())
    page = visit.samples(path)
    assert "e.50" in page.locator("#list").inner_text()
    assert "[[[[" in page.locator("#list").inner_text()
