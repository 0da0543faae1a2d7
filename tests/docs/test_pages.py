import re

import msgspec
import pytest

from tests.docs.messages import in_pages, in_runner, in_scripts, in_workflows
from tests.docs.page import PAGES, ROOT, anchors, blocks, prose

# What is said with another word: each means one thing, as docs/glossary.md has it.
OTHER_WORDS = {
    r"(?<!by )\bhand(s|ed)? (\w+ ){0,3}in\b": "pass in",
    r"\b(take|takes|taken|took) (them |it )?in (what|by)\b|take them in\b|\badopt": "take over",
    r"\bno right to\b|\brights\b": "permission, privilege",
    r"leave (these|those) (evals )?out|cannot run, and (is|are) left out|leave it out with": "skip",
    r"\b\d+ done\b": "finished",
    r"(record|recorded|ends it|ends the run|starts|them|kills it) at once": "immediately",
    r"off the record|\bstands? twice\b|\banew\b|\bas ever\b|\bof ours\b": "plain English",
    r"\bbeside\b|\bin silence\b|\bneed no more\b": "plain English",
}
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


def test_one_thing_has_one_word() -> None:
    """In all pages, of which one is the help of all commands, and in all messages."""
    texts = [" ".join(prose(text).split()) for text in PAGES.values()]
    texts += in_runner() | in_scripts() | in_workflows() | in_pages()
    found = {
        each[0]: word
        for words, word in OTHER_WORDS.items()
        for text in texts
        for each in re.finditer(words, text)
    }
    assert not found, "these have another word, as shown"


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
