import io
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize

from runner.commands.report import Pair, ReportOptions, write_site
from tests.report.site.example import write_example

PHONE = ViewportSize(width=390, height=844)
WIDE = ViewportSize(width=1280, height=900)

# Writes a report of a progress directory, and gives its folder.
Report = Callable[..., Path]


class Visit:
    """Pages in a browser, with all that they complained about and asked for."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.blocked: list[str] = []
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("requestfailed", lambda request: self.blocked.append(str(request.failure)))

    def open(self, path: Path, fragment: str = "") -> Page:
        """Open a page from the disk."""
        self.page.goto("about:blank")
        self.page.goto(path.as_uri() + fragment)
        return self.page

    def samples(self, path: Path, fragment: str = "") -> Page:
        """Open an eval's page, and wait for its samples."""
        page = self.open(path, fragment)
        page.wait_for_selector("#list > li")
        return page

    def visible(self, selector: str) -> list[str]:
        """The text of what matches and is shown."""
        found = self.page.locator(selector).all()
        return [one.inner_text().strip() for one in found if one.is_visible()]


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport=WIDE, reduced_motion="reduce")
    yield context
    context.close()


@pytest.fixture
def visit(context: BrowserContext) -> Iterator[Visit]:
    """A browser in which nothing may be complained about, nor asked for elsewhere."""
    visit = Visit(context)
    yield visit
    assert visit.complaints == []
    assert {urlsplit(url).scheme for url in visit.requests} <= {"file", "about", "data"}


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """Writes a report in process."""

    def write(
        root: Path,
        *pairs: Pair,
        baseline: Path | None = None,
        prices: Path | None = None,
    ) -> Path:
        folder = tmp_path / "report"
        options = ReportOptions(
            progress_dir=root,
            names=tuple(chain(*pairs)),
            baseline=baseline,
            prices=prices,
            ask=False,
        )
        write_site(options, folder, out=io.StringIO())
        return folder

    return write


@pytest.fixture(scope="session")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two models, twelve evals each; two have failed."""
    folder = tmp_path_factory.mktemp("two")
    write_example(folder / "progress")
    prices = folder / "prices.yaml"
    prices.write_text("models: {aria-*: {input: 10, output: 30}}\n")
    options = ReportOptions(progress_dir=folder / "progress", prices=prices, ask=False)
    write_site(options, folder / "report", out=io.StringIO())
    return folder / "report"


@pytest.fixture(scope="session")
def one_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of one model."""
    folder = tmp_path_factory.mktemp("one")
    write_example(folder / "progress", [("aria-large", 0.8)])
    options = ReportOptions(progress_dir=folder / "progress", ask=False)
    write_site(options, folder / "report", out=io.StringIO())
    return folder / "report"


def eval_page(report: Path, name: str) -> Path:
    """The page of an eval, found by its title."""
    return next(
        path for path in sorted(report.glob("evals/*.html")) if f"<title>{name}" in path.read_text()
    )
