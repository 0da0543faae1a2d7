import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import cmarkgfm  # type: ignore[import-untyped]
import pytest
import yaml
from playwright.sync_api import Browser

from tests.actions.files import FOLDER, read, steps
from tests.docs.page import ROOT
from tests.docs.website import pages, translated, write
from tests.packaging.conftest import BIN

CONFIGURATION = ROOT / "mkdocs.yml"
NAMES = sorted(name for name in pages().values() if name.endswith(".md"))
ADDRESS = "https://example.org/evalset/blob/main"
# What a page is made of; paragraphs in lists are counted differently.
PARTS = ("h1", "h2", "h3", "img", "li", "ol", "pre", "table", "td", "ul")


class Quiet(SimpleHTTPRequestHandler):
    """A web server that prints nothing."""

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def website(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The website, built as `make site` builds it."""
    top = tmp_path_factory.mktemp("website")
    text = CONFIGURATION.read_text()
    (top / "mkdocs.yml").write_text(text)
    folder = re.search(r"^docs_dir: (\S+)", text, re.MULTILINE)
    assert folder is not None
    write(top / folder[1], ADDRESS)
    ended = subprocess.run(
        [BIN / "zensical", "build", "--strict"],
        cwd=top,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "No issues found" in ended.stdout + ended.stderr
    return top / "site"


@pytest.fixture
def address(website: Path) -> Iterator[str]:
    """Where the website is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(website)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def article(website: Path, name: str) -> str:
    """The HTML of a page without what is around it."""
    text = (website / name).with_suffix(".html").read_text()
    found = re.search(r"<article[^>]*>(.*)</article>", text, re.DOTALL)
    assert found is not None
    return found[1]


def parts(html: str) -> dict[str, int]:
    """How many of each part are in it."""
    return {part: len(re.findall(rf"<{part}\b", html)) for part in PARTS}


def in_navigation(entries: object) -> list[str]:
    """The pages below an entry of the navigation."""
    match entries:
        case dict():
            return [page for below in entries.values() for page in in_navigation(below)]
        case list():
            return [page for below in entries for page in in_navigation(below)]
        case _:
            return [str(entries)]


def test_every_page_is_in_the_navigation_once() -> None:
    """No page can be found by search alone."""
    text = CONFIGURATION.read_text().replace("!ENV", "")
    assert sorted(in_navigation(yaml.safe_load(text)["nav"])) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_what_github_shows(website: Path, name: str) -> None:
    """The two read Markdown differently, and both understand our pages."""
    (path,) = [path for path, called in pages().items() if called == name]
    expected = parts(cmarkgfm.github_flavored_markdown_to_html(path.read_text()))
    assert parts(article(website, name)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_no_page_leads_to_a_file_that_the_website_lacks(website: Path, name: str) -> None:
    """What the strict build does not check: links that are not to pages, and pictures."""
    for target in re.findall(r'(?:href|src)="([^"#]+)', article(website, name)):
        assert "://" in target or (website / target).is_file(), target


def test_links_lead_to_pages_or_to_the_repository() -> None:
    """Each kind of link, and code stays as it is."""
    page = ROOT / "docs/design.md"
    text = "[a](why.md#b) [c](../README.md) [d](../runner) [e](https://e) [f](#f)\n"
    code = "```text\n[g](../runner)\n```\n"
    assert translated(text + code, page, "S") == (
        f"[a](why.md#b) [c](index.md) [d](S/runner) [e](https://e) [f](#f)\n{code}"
    )


@pytest.mark.browser
def test_a_reader_finds_a_word_by_search(browser: Browser, address: str) -> None:
    """And the browser asks no other server for anything."""
    asked: list[str] = []
    complaints: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    page.get_by_role("button", name="Search").first.click()
    page.keyboard.type("repin")
    page.locator("a[href*='configuration.html']", has_text="repin").first.click()
    page.wait_for_url("**/configuration.html*")
    assert complaints == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    page.close()


def test_it_is_published_by_hand_only() -> None:
    """The job that publishes runs none of our code, and the one that builds publishes nothing."""
    workflow = read(FOLDER / "workflows/docs.yml")
    assert workflow["on"] == {"workflow_dispatch": ""}
    assert workflow["permissions"] == {}
    assert {name: job["permissions"] for name, job in workflow["jobs"].items()} == {
        "build": {"contents": "read", "pages": "read"},
        "deploy": {"pages": "write", "id-token": "write"},
    }
    assert [step["run"] for _, step in steps(workflow) if "run" in step] == ["make site"]
