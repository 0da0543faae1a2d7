"""Puts the pages where mkdocs.yml looks for them, with links that lead somewhere on a website.

`make site` calls it. In the repository, pages link to files next to them. On the website all pages
are in one folder, README is the start page, and links to other files lead to the repository.
"""

import argparse
import re
import shutil
from pathlib import Path

from tests.docs.page import FENCE, ROOT

FOLDER = ROOT / ".cache/website"
TOP = {ROOT / "README.md": "index.md", ROOT / "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def pages() -> dict[Path, str]:
    """The files of the website, each with its name there."""
    found = sorted((ROOT / "docs").iterdir())
    return {path: path.name for path in found} | TOP


def translated(text: str, page: Path, source: str) -> str:
    """A page with its links as the website needs them.

    Args:
        text: the page's Markdown.
        page: its file.
        source: address of the repository's files, or a path to them, without a slash at the end.
    """
    known = pages()

    def link(found: re.Match[str]) -> str:
        name, mark, anchor = found[2].partition("#")
        if not name or ":" in name:
            return found[0]
        path = (page.parent / name).resolve()
        target = known.get(path) or f"{source}/{path.relative_to(ROOT)}"
        return f"{found[1]}{target}{mark}{anchor}{found[3]}"

    parts = []
    end = 0
    for block in FENCE.finditer(text):
        parts += [LINK.sub(link, text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, LINK.sub(link, text[end:])])


def write(folder: Path, source: str) -> None:
    """Write the files of the website into a folder, in place of what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path, name in pages().items():
        if path.suffix == ".md":
            (folder / name).write_text(translated(path.read_text(), path, source))
        else:
            shutil.copy(path, folder / name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    # From site/, where the website is built, this is the checkout.
    parser.add_argument("source", nargs="?", default="..", help="address of the repository's files")
    write(FOLDER, parser.parse_args().source)
