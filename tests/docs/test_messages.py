import ast
import re
from functools import cache

import pytest

from runner.branch.remote import _HELPER
from tests.docs.messages import (
    in_pages,
    in_runner,
    in_scripts,
    in_workflows,
    sentences,
    shown,
)
from tests.docs.page import PAGES, rows

PAGE = "docs/messages.md"
PROSE = "docs/troubleshooting.md"

# Sentences in the code that are no messages. A new one has its place here, or on the page.
NOT_MESSAGES = {
    # parts of a message that only join or name what stands in it
    "(... in the eval set)",
    "a value, not true or false",
    "one value, not a list",
    "so ... cannot be made",
    "so ... more not started",
    "folders of running evals",
    "more than could be measured",
    "look at the disk of",
    "evallogs/ (a name with the SHA-256 ...)",
    "a Hugging Face token",
    "an OpenAI admin key",
    "an OpenAI project key",
    "an OpenAI service key",
    # code for the eval image, and what Python itself says there
    "... if ... in globals() else ...()",
    "__import__('os').environ.get(...) or ...()",
    "import sys, evals.cli.oaieval; print(*sys.modules)",
    "module ... has no attribute ...",
    (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import runpy; "
        "runpy.run_module('runner.hosts', run_name='__main__', alter_sys=True)"
    ),
    'mkdir "$1" && tar -xzf - -C "$1" && (mv -T "$1" "$2" || rm -rf "$1") && test -d "$2"',
    # headers of the local server of reports
    "text/css; charset=utf-8",
    "text/html; charset=utf-8",
    "text/javascript; charset=utf-8",
    # results
    "--ask-hosts asks what runs there now",
    "ended but not recorded",
    "gone, to be run again",
    "nothing of evalset is left on ...",
    "running when it was last heard of",
    "none here; images are looked up at ...",
    "nothing is new since",
    "on this host alone",
    "which is not there yet",
    "... of ... with data, ... in ...",
    "... with data in ..., ... need none",
    "no data ... needs none",
    "removed the data of ..., ...",
    "Page ... of ...",
    "Samples ... to ... of ...",
    "Searching, ... of ...",
    "watching the run",
    "under way or perhaps paid",
    # what Git, pip and the engine say, to be known by
    "No space left on device",
    "conflict is caused by:",
    "bind source path does not exist",
    "could not select device driver",
    "fatal: Could not read from remote repository",
    "fatal: the remote end hung up",
    # why an eval of upstream's cannot run, and what helps: docs/coverage.md has them all
    "it needs the image ..., which is not here",
    "build it with `evalset image build --extra ...`",
    "fetch it with `evalset data fetch`, or leave --network none out",
    "leave --network none out",
    "run it with upstream's own `oaieval`, or skip it",
    "give several models, as in gpt-4,gpt-4o",
    "set OPENAI_API_KEY, or skip it",
    "use an --image of your own with these files, or skip it",
    "skip it; it fails in upstream's own `oaieval` too",
    "add it with --requirements, use an --image that has it, or skip it",
    # nobody sees them
    "a command is a list of texts",
    "others were faster",
    "the engine closed the connection without an answer",
    "an anchor around itself",
    "another gateway works here",
    "no answer in ... s",
    "nobody needs it any more",
    "nobody waits for it",
    "this attempt has ended",
    shown(_HELPER),
}


@cache
def in_code() -> set[str]:
    """All that is said, wherever."""
    return in_runner() | in_scripts() | in_workflows() | in_pages()


def on_the_page() -> dict[str, str]:
    """Each message of the page, and what it says to do."""
    tables = re.findall(r"^\| message \|.*\n(?:\|.*\n)+", PAGES[PAGE], re.MULTILINE)
    found = [row for table in tables for row in rows(table)]
    shown = {unquoted(message): cure for message, cure in found}
    assert len(shown) == len(found), "a message is given twice"
    return shown


def unquoted(cell: str) -> str:
    """What a code span shows; two backticks are around one that has some in it."""
    return cell.removeprefix("`` ").removesuffix(" ``") if cell[:2] == "``" else cell.strip("`")


def test_every_message_is_on_the_page() -> None:
    """Whoever searches for a few words of it finds what to do."""
    missing = in_code() - NOT_MESSAGES - on_the_page().keys()
    assert not missing, f"{PAGE} needs a row for each (see NOT_MESSAGES for what is none)"


def test_no_message_on_the_page_is_gone() -> None:
    """What the page has is said somewhere, word by word; so is what is no message."""
    gone = (on_the_page().keys() | NOT_MESSAGES) - in_code()
    assert not gone, f"nothing says these: take them out of {PAGE}, or of NOT_MESSAGES"


def test_troubleshooting_quotes_what_is_said() -> None:
    """What stands in bold and in quotes there is a part of a message."""
    quotes = [
        quote
        for bold in re.findall(r"\*\*(.+?)\*\*", PAGES[PROSE], re.DOTALL)
        for quote in re.findall(r'"([^"]+)"', " ".join(bold.split()))
    ]
    messages = in_code()
    stale = [quote for quote in quotes if not any(quote in message for message in messages)]
    assert not stale, f"nothing says these, so that {PROSE} must not quote them"
    assert len(quotes) > 20


def test_every_message_has_a_cure() -> None:
    """It says more than the message itself."""
    for message, cure in on_the_page().items():
        assert len(cure.split()) >= 2, message
        assert cure.strip("`. ") not in message, message


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ('raise UsageError("too short")', {"too short"}),
        ('raise UsageError(f"{a} and {b!r}{c}; fix it")', {"... and ...; fix it"}),
        ('raise UsageError("one part" if a else "other part")', {"one part", "other part"}),
        ('raise UsageError("one part" + (a or "other part"))', {"one part", "other part"}),
        ('raise UsageError(join(a, " and "))', set()),
        ('warn(f"{a} left")', {"... left"}),
        ('why = f"; {a} is a reason{b}, too"', {"... is a reason..., too"}),
        ('return a or ", and this is another"', {"and this is another"}),
        ('cures = {"x": "fix {name} and run again"}', {"fix ... and run again"}),
        ("f\"{a}{b if c else 'a part in a field'}\"", {"a part in a field"}),
        ('if "a sign to know it" in said: pass', set()),
        ('x = option(help="a text for the help")', set()),
        ('def f():\n    """A docstring that is long enough."""', set()),
        ('x = "a label here"', set()),
    ],
)
def test_what_counts_as_a_message(code: str, seen: set[str]) -> None:
    """All that an error or a warning is made with, and each other sentence; parts, too."""
    assert sentences(ast.parse(code), {"UsageError", "warn"}) == seen
