import hashlib
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.report.site.screenshots import DOCS, HEIGHTS, SHOWN, pages, shown

pytestmark = pytest.mark.browser


def test_the_pictures_show_the_pages_as_they_are(browser: Browser, tmp_path: Path) -> None:
    """Else `python -m tests.report.site.screenshots` takes them anew."""
    told = hashlib.sha256()
    for name, page in pages(tmp_path, browser):
        told.update(shown(page))
        assert (DOCS / f"report-{name}.png").is_file()
        assert HEIGHTS[name] <= page.evaluate("document.documentElement.scrollHeight")
    assert told.hexdigest() == SHOWN.read_text().strip()
