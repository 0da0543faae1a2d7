"""What evals print and report, shown by every command that shows any of it: as text and no more."""

import re
import subprocess
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from cmarkgfm import github_flavored_markdown_to_html  # type: ignore[import-untyped]
from cmarkgfm.cmark import Options  # type: ignore[import-untyped]

from tests.branch.desk import BRANCH, git, make_bare
from tests.hostile.conftest import Hostile, tidied
from tests.hostile.terminal import shown_on_a_terminal

pytestmark = pytest.mark.docker

ACTIONS = {"GITHUB_ACTIONS": "true"}


def obeyed(text: str) -> list[str]:
    """Commands that GitHub's runner would find; those by which evalset groups and marks apart."""
    lines = re.split(r"[\r\n]", text)
    seen = [
        "".join(each for each in line if unicodedata.category(each) not in {"Cf", "Cc"})
        for line in lines
    ]
    ours = re.compile(r"::(group::(what \S+ printed last|evals)|endgroup::|error::failure  escape)")
    return [
        line for line in seen if re.search(r"^\s*::|##\[", line) and not ours.match(line.strip())
    ]


def moves(text: str) -> set[str]:
    """Characters that a terminal would not show but obey."""
    return {
        each
        for each in text
        if (unicodedata.category(each) == "Cc" and each not in "\n\t")
        or unicodedata.bidirectional(each) in {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI"}
    }


class Elements(HTMLParser):
    """The elements of a page that lead elsewhere or run anything."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        if tag in {"script", "img", "a", "iframe", "object", "svg"}:
            self.found.append(f"{tag} {dict(attrs)}")


def elements(markdown: str) -> list[str]:
    """What a page in GitHub's Markdown has of them, though its HTML is not filtered."""
    parser = Elements()
    parser.feed(github_flavored_markdown_to_html(markdown, options=Options.CMARK_OPT_UNSAFE))
    return parser.found


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, cache: Path, hostile_image: str
) -> Iterator[Hostile]:
    """Where one eval has failed and one has ended well, after they said all that they could."""
    with tidied(Hostile(tmp_path_factory.mktemp("said"), cache, hostile_image)) as found:
        found.registry("escape", "escaped")
        yield found


@pytest.fixture(scope="module")
def reports(place: Hostile) -> "subprocess.CompletedProcess[str]":
    """A run on GitHub Actions that writes every report, and puts its progress on a branch."""
    remote = make_bare(place.folder / "hub.git")
    options = ("--no-exit-on-error", "--junit", "junit.xml", "--snapshot", "--remote", str(remote))
    summary = {"GITHUB_STEP_SUMMARY": str(place.folder / "summary.md")}
    return place.run(*options, **ACTIONS, **summary)


def test_github_finds_no_command_in_what_a_run_prints(
    reports: "subprocess.CompletedProcess[str]",
) -> None:
    """Neither in the last lines of who failed, nor in a score's name."""
    assert reports.returncode == 1
    assert "owned" in reports.stdout
    assert obeyed(reports.stdout + reports.stderr) == []
    assert moves(reports.stdout + reports.stderr) == set()


def test_the_test_knows_what_is_obeyed() -> None:
    """Else it would prove nothing."""
    assert len(obeyed("x\n::error::y\n  ::add-mask::y\r::notice::y\na ##[error]y")) == 4
    assert moves("\x1b[2J\u202e\x9b\n") == {"\x1b", "\u202e", "\x9b"}
    assert len(elements("x <img src=x> [a](javascript:b) ![c](d)")) == 3


@pytest.mark.usefixtures("reports")
@pytest.mark.parametrize("name", ["escape", "escaped"])
def test_github_finds_no_command_in_a_log_that_is_shown(place: Hostile, name: str) -> None:
    """`evalset logs` shows what an eval printed, also a line that is longer than any."""
    line = place.line("m", "s", name, command="logs")
    shown = subprocess.run(
        line, capture_output=True, cwd=place.folder, env=place.environ(**ACTIONS), check=True
    )
    text = shown.stdout.decode()
    assert "<script>alert('owned')</script>" in text
    assert obeyed(text) == []
    assert moves(text) == set()


@pytest.mark.usefixtures("reports")
def test_github_finds_no_command_in_json(place: Hostile) -> None:
    """In which everything is that an eval has reported."""
    line = place.line("m", "s", "--json", command="status")
    shown = subprocess.run(
        line, capture_output=True, cwd=place.folder, env=place.environ(**ACTIONS), check=True
    )
    text = shown.stdout.decode()
    assert "<script>alert('owned')</script>" in text
    assert obeyed(text) == []
    assert moves(text) == set()


@pytest.mark.usefixtures("reports")
def test_a_file_gets_what_an_eval_printed(place: Hostile) -> None:
    """Byte for byte: it is the user's to look into."""
    line = place.line("m", "s", "escaped", command="logs")
    shown = subprocess.run(
        line, capture_output=True, cwd=place.folder, env=place.environ(), check=True
    )
    (record,) = [record for record in place.records() if record.eval == "escaped"]
    assert record.console_log
    assert shown.stdout == (place.progress / record.console_log).read_bytes()
    assert b"\x1b]0;owned\x07" in shown.stdout


@pytest.mark.usefixtures("reports")
@pytest.mark.parametrize(
    "arguments",
    [("logs", "m", "s", "escape"), ("logs", "m", "s", "escaped"), ("status", "m", "s")],
)
def test_no_terminal_is_moved(place: Hostile, arguments: tuple[str, ...]) -> None:
    """By a log or a table that is shown there, but for colours of our own."""
    command, *rest = arguments
    line = place.line(*rest, command=command)
    text = shown_on_a_terminal(line, place.environ(), place.folder)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r\n", "\n")
    assert "owned" in plain
    assert moves(plain) == set()


def test_a_terminal_is_moved_by_the_display_alone(hostile: Hostile) -> None:
    """While a run is shown live: no title, no clipboard, no other than its own movements."""
    hostile.registry("escape", "escaped")
    line = hostile.line("--no-exit-on-error")
    text = shown_on_a_terminal(line, hostile.environ(), hostile.folder)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")
    assert "owned" in plain
    assert moves(plain) == set()
    assert "\x1b[2J" not in text


@pytest.mark.usefixtures("reports")
def test_junit_xml_has_it_as_text(place: Hostile) -> None:
    """No case, no element and no entity is of an eval's making."""
    root = ET.fromstring((place.folder / "junit.xml").read_bytes())  # noqa: S314 - we wrote it
    kinds = {element.tag for element in root.iter()}
    assert kinds == {"testsuites", "testsuite", "testcase", "properties", "property", "failure"}
    names = [case.attrib["name"] for case in root.iter("testcase")]
    assert names == ["escape", "escaped"]
    texts = [*root.itertext(), *(value for one in root.iter() for value in one.attrib.values())]
    assert "<testcase name='owned'/>" in "".join(texts)
    assert moves("".join(texts)) == set()


@pytest.mark.usefixtures("reports")
def test_markdown_has_it_as_text(place: Hostile) -> None:
    """In the summary of the job, and on the page of the progress branch."""
    summary = (place.folder / "summary.md").read_text()
    page = git(place.folder / "hub.git", "show", f"{BRANCH}:README.md")
    assert "owned" in summary
    assert elements(summary) == []
    own = [each for each in elements(page) if "owned" in each]
    assert own == []
    assert moves(summary) | moves(page) == set()
