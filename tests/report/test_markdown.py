from html.parser import HTMLParser

import pytest
from cmarkgfm import github_flavored_markdown_to_html  # type: ignore[import-untyped]
from cmarkgfm.cmark import Options  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from runner.model import State
from runner.records.state import EvalState
from runner.report.markdown import code, section, summary, table
from runner.report.text import one_line

HOSTILE = [
    "a|b",
    "a\\|b",
    "\\",
    "`",
    "``a`",
    "a` <img src=x onerror=alert(1)> `b",
    "<script>alert(1)</script>",
    "</td></tr></table><h1>done</h1>",
    "@everyone #1 GH-1 a@b.example",
    "[click](https://evil.example) ![x](https://evil.example/x.png) <https://evil.example>",
    "https://evil.example www.evil.example",
    "**bold** _it_ ~~gone~~ $x^2$",
    "a\n\n# heading\n| x | y |\r::error::z",
    "&lt;b&gt; &#124; &amp;",
    "\x1b[2Jx\u202eevil",
    "<!-- comment",
    "   ",
    "--- | ---",
]
PLAIN = {"h3", "p", "table", "thead", "tbody", "tr", "th", "td", "code", "br", "strong"}

text = st.text(
    st.sampled_from("`|\\ <>&@[]()*_~\n\r!#a") | st.characters(codec="utf-8"), max_size=90
)


class Page(HTMLParser):
    """What GitHub's own renderer makes of Markdown: the tags, and the text of each cell."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.code: list[str] = []
        self.rows: list[list[str]] = []
        self._in: list[str] = []
        self.feed(github_flavored_markdown_to_html(markdown, Options.CMARK_OPT_UNSAFE))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag, which may have an alignment and nothing else."""
        assert {name for name, _ in attrs} <= {"align"}
        self.tags.add(tag)
        self._in.append(tag)
        match tag:
            case "code":
                self.code.append("")
            case "tr":
                self.rows.append([])
            case "td" | "th":
                self.rows[-1].append("")
            case "br":
                self._in.pop()
                self.rows[-1][-1] += "\n"

    def handle_endtag(self, tag: str) -> None:
        """Leave a tag."""
        assert self._in.pop() == tag

    def handle_data(self, data: str) -> None:
        """Take text to where it stands."""
        if "code" in self._in:
            self.code[-1] += data
        if {"td", "th"} & set(self._in):
            self.rows[-1][-1] += data


def row(name: str, state: State = State.DONE, reason: str = "") -> EvalState:
    return EvalState(eval=name, state=state, reason=reason)


def names(markdown: str) -> list[str]:
    """The evals of a table in its order."""
    return [cells[0] for cells in Page(markdown).rows[1:]]


def test_a_row_has_all_that_is_known_of_an_eval() -> None:
    """Reason, score, samples, time and attempts."""
    done = EvalState(
        eval="a",
        state=State.DONE,
        final_report={"accuracy": 1 / 3},
        samples=3,
        duration=4.2,
        attempts=1,
    )
    failed = EvalState(
        eval="b", state=State.FAILED, reason="exited with status 1", duration=185, attempts=2
    )
    page = Page(table([done, failed, row("c", State.TO_DO)]))
    assert page.rows == [
        ["eval", "state", "score", "samples", "time", "attempts"],
        ["b\nexited with status 1", "failed", "", "0", "3 min 05 s", "2"],
        ["c", "to do", "", "", "", ""],
        ["a", "done", "accuracy 0.333", "3", "4.2 s", "1"],
    ]


def test_rows_of_one_eval_show_their_arguments() -> None:
    """Above the reason, as in the table at a terminal."""
    rows = [
        EvalState(
            eval="a", state=State.FAILED, reason="exited with status 1", arguments="--seed 3"
        ),
        EvalState(eval="a", state=State.DONE, arguments="without arguments"),
        row("b"),
    ]
    assert names(table(rows)) == ["a\n--seed 3\nexited with status 1", "a\nwithout arguments", "b"]


def test_what_asks_for_attention_comes_first() -> None:
    """Failures, then what is lost, runs, and is to do; within each the order is kept."""
    states = [State.DONE, State.TO_DO, State.RUNNING, State.LOST, State.FAILED]
    found = names(table([row(f"{state} {n}", state) for n in (1, 2) for state in states]))
    assert found == [f"{state} {n}" for state in reversed(states) for n in (1, 2)]


def test_a_limit_leaves_out_what_went_well_first() -> None:
    """A line says how many, and what they are unless all are finished."""
    some = [row("d1"), row("f", State.FAILED), row("d2"), row("d3"), row("t", State.TO_DO)]
    limited = table(some, limit=3)
    assert names(limited) == ["f", "t", "d1"]
    assert limited.endswith("\n\n... and 2 more finished evals\n")
    assert table(some, limit=4).endswith("\n\n... and 1 more finished eval\n")
    assert table(some, limit=1).endswith("\n\n... and 4 more evals: 1 to do, 3 finished\n")
    assert "more" not in table(some, limit=5)
    assert table(some, limit=9) == table(some)


def test_no_rows_make_no_table() -> None:
    """A head alone would look like a fault."""
    assert table([]) == ""
    assert summary([]) == "0 of 0 evals finished"
    assert section("m", "s", []) == "### `m` `s`\n\n0 of 0 evals finished\n"


def test_the_summary_says_how_far_a_run_is() -> None:
    """What is wrong or running is in it; what is to do follows from the rest."""
    some = [row(str(n)) for n in range(12)] + [row(str(n), State.TO_DO) for n in range(28)]
    assert summary(some) == "12 of 40 evals finished, 28 to do"
    some += [
        row("x", State.FAILED),
        row("y", State.LOST),
        row("z", State.RUNNING),
        row("f", State.FAILED),
    ]
    assert summary(some) == "12 of 44 evals finished, 2 failed, 1 lost, 1 running, 28 to do"


def test_a_section_has_heading_summary_and_table() -> None:
    """Each a block of its own."""
    markdown = section("org/model", "test-basic", [row("a"), row("b")], level=2, limit=1)
    assert markdown.startswith("## `org/model` `test-basic`\n\n2 of 2 evals finished\n\n| eval |")
    assert markdown.endswith(" |\n\n... and 1 more finished eval\n")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_and_reasons_are_text_and_nothing_else(hostile: str) -> None:
    """Whatever they hold, GitHub's renderer finds no markup of theirs, no link and no cell."""
    failed = EvalState(
        eval=hostile, state=State.FAILED, reason=hostile, final_report={hostile: 1}, attempts=1
    )
    page = Page(section(hostile, hostile, [failed, row("next")]))
    shown = one_line(hostile).strip()
    assert page.tags <= PLAIN
    assert [len(cells) for cells in page.rows] == [6, 6, 6]
    assert page.rows[1][0] == f"{shown}\n{shown}"
    assert page.rows[2][0] == "next"
    assert page.code == ([shown] * 5 if shown else []) + ["next"]


@given(name=text, arguments=text, reason=text)
def test_no_name_argument_or_reason_leaves_its_cell(name: str, arguments: str, reason: str) -> None:
    """What is shown is what was given."""
    failed = EvalState(eval=name, state=State.FAILED, arguments=arguments, reason=reason)
    page = Page(table([failed, row("next")]))
    shown = [one_line(each).strip() for each in (name, arguments, reason)]
    assert page.tags <= PLAIN
    assert [len(cells) for cells in page.rows] == [6, 6, 6]
    assert [each.replace("\x00", "\ufffd") for each in shown if each] == page.code[:-1]


def test_a_very_long_reason_is_cut() -> None:
    """A page has an end, and so has a job's summary."""
    assert code("x" * 1000) == f"`{'x' * 199}…`"
