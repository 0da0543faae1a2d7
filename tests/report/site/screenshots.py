"""Makes the pictures of a report in docs/: `python -m tests.report.site.screenshots`."""

import hashlib
import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from runner.commands.report import ReportOptions, write_site
from tests.report.site.conftest import eval_page
from tests.report.site.example import write_example

DOCS = Path(__file__).parents[3] / "docs"
# Of what the pictures show, as `shown` has it: pixels depend on the fonts of a machine.
SHOWN = Path(__file__).with_suffix(".sha256")
WIDTH = 1180
HEIGHTS = {"overview": 1500, "eval": 1900, "comparison": 1250}


def pages(folder: Path, browser: Browser) -> Iterator[tuple[str, Page]]:
    """The pages to take pictures of, each under its name and as it is to be seen."""
    write_example(folder / "progress")
    prices = folder / "prices.yaml"
    prices.write_text("models: {aria-*: {input: 10, output: 30}}\n")
    report = folder / "report"
    options = ReportOptions(progress_dir=folder / "progress", prices=prices, ask=False)
    write_site(options, report, out=io.StringIO())
    page = browser.new_page(viewport={"width": WIDTH, "height": 1000})
    page.goto((report / "index.html").as_uri())
    yield "overview", page
    page.goto(eval_page(report, "capital-cities").as_uri())
    page.wait_for_selector("#list > li")
    yield "eval", page
    (comparison,) = report.glob("compare/*.html")
    page.goto(comparison.as_uri())
    page.locator("details.flips > summary").first.click()
    page.wait_for_selector("details.flips li")
    yield "comparison", page
    page.close()


def shown(page: Page) -> bytes:
    """What a page says, but for when it was made; and in which style."""
    sheet = page.evaluate("document.querySelector('link[rel=stylesheet]').href")
    style = Path(sheet.removeprefix("file://")).read_bytes()
    return page.locator("main").inner_text().encode() + style


def main() -> None:
    """Write the pictures over those that are there."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        told = hashlib.sha256()
        for name, page in pages(Path(folder), browser):
            told.update(shown(page))
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHTS[name]}
            page.mouse.move(0, 0)
            page.screenshot(path=DOCS / f"report-{name}.png", clip=clip, full_page=True)  # type: ignore[arg-type] # a dict is one
        browser.close()
    SHOWN.write_text(f"{told.hexdigest()}\n")


if __name__ == "__main__":
    main()
