"""Makes the pictures of a report in docs/: `python -m tests.site.screenshots`."""

import io
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from runner.pipeline.report import ReportOptions, write_site
from tests.site.conftest import eval_page
from tests.site.example import write_example

DOCS = Path(__file__).parents[2] / "docs"
SIZE = {"width": 1180, "height": 1000}


def main() -> None:
    """Write the pictures over those that are there."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        write_example(Path(folder, "progress"))
        prices = Path(folder, "prices.yaml")
        prices.write_text("models: {aria-*: {input: 10, output: 30}}\n")
        report = Path(folder, "report")
        options = ReportOptions(progress_dir=Path(folder, "progress"), prices=prices, ask=False)
        write_site(options, report, out=io.StringIO())
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1180, "height": 1000})
        (comparison,) = report.glob("compare/*.html")
        for name, path, height in (
            ("overview", report / "index.html", 1500),
            ("eval", eval_page(report, "capital-cities"), 1900),
            ("comparison", comparison, 1250),
        ):
            page.goto(path.as_uri())
            if name == "eval":
                page.wait_for_selector("#list > li")
            if name == "comparison":
                page.locator("details.flips > summary").first.click()
                page.wait_for_selector("details.flips li")
            clip = {"x": 0, "y": 0, "width": SIZE["width"], "height": height}
            page.mouse.move(0, 0)
            page.screenshot(path=DOCS / f"report-{name}.png", clip=clip, full_page=True)  # type: ignore[arg-type] # a dict is one
        browser.close()


if __name__ == "__main__":
    main()
