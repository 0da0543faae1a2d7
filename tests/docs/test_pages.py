import re

import msgspec
import pytest

from tests.docs.page import PAGES, ROOT, anchors, blocks, prose

LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """A relative link names a file of the project, and a heading that the file has."""
    for target in LINK.findall(prose(PAGES[page])):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), target
        assert path.resolve().is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(path.read_text()), target


def test_every_json_shown_is_json() -> None:
    """Examples of files can be read by a program."""
    for page, text in PAGES.items():
        for block in blocks(text, "json"):
            assert msgspec.json.decode(block) is not None, page


def test_no_line_of_prose_is_longer_than_a_screen() -> None:
    """Pages can be read where they are edited; tables, links and code may be wider."""
    for page, text in PAGES.items():
        for line in prose(text).splitlines():
            assert len(line) <= 110 or line.startswith("|") or "](" in line, f"{page}: {line}"
