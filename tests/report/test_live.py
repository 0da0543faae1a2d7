import io
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from rich.console import Console

from runner.report.bars import LiveConsole
from runner.report.display import HostsAway, HostsBack
from tests.conftest import until
from tests.outcomes import failure, job, success
from tests.report.terminal import Terminal, Window, on_a_terminal, plain

SHOW = """
import sys, time
from runner.report.bars import LiveConsole
from tests.outcomes import job, success
console = LiveConsole(sys.stdout)
console.begin(total=1, done=0, todo=1)
console.started(job("a"))
time.sleep(0.3)
console.ended(success(job("a")), again=False, tail=())
console.end()
"""


@pytest.fixture
def out(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")
    return Terminal()


@pytest.fixture
def console(out: Terminal) -> LiveConsole:
    return LiveConsole(out)


def picture(console: LiveConsole, width: int = 100) -> str:
    """What the live part shows now, as plain text."""
    recording = Console(file=io.StringIO(), width=width, height=30, record=True)
    recording.print(console._picture())
    return recording.export_text()


def said(out: Terminal) -> list[str]:
    """Lines that were written, without escape sequences."""
    return [line.strip() for line in re.split(r"[\r\n]+", plain(out.getvalue())) if line.strip()]


def test_a_running_eval_has_a_line_with_its_samples(console: LiveConsole) -> None:
    """Until the first sample is known, it is starting."""
    console.begin(total=2, done=0, todo=2)
    console.started(job("a.dev.v0"))
    assert re.search(r"a\.dev\.v0 +starting +0\.\d s", picture(console))
    console.progressed(job("a.dev.v0"), 3, 8)
    assert re.search(r"a\.dev\.v0 +3/8 samples +0\.\d s", picture(console))
    console.end()


def test_an_eval_that_ended_moves_from_the_picture_to_the_lines(
    console: LiveConsole, out: Terminal
) -> None:
    """The bar counts it, and continues from what was finished before."""
    console.begin(total=3, done=1, todo=2)
    console.started(job("a"))
    console.ended(success(job("a"), final_report={"accuracy": 0.5}), again=False, tail=())
    assert "2/3" in picture(console)
    assert " a " not in picture(console)
    console.end()
    assert "1 of 3 evals finished before; 2 to run" in said(out)
    assert "✓ finished a  (4.2 s)  accuracy 0.5" in said(out)


def test_a_failure_is_shown_and_counted(console: LiveConsole, out: Terminal) -> None:
    """As it happens, with the end of its output."""
    console.begin(total=2, done=0, todo=2)
    console.started(job("a"))
    console.ended(failure(job("a"), warnings=("odd",)), again=False, tail=("ValueError: x",))
    assert "1 failed" in picture(console)
    console.end()
    lines = said(out)
    assert "✗ failure  a  (4.2 s): exited with status 1" in lines
    assert "| ValueError: x" in lines
    assert "warning: odd" in lines


def test_an_attempt_that_is_made_again_is_not_counted(console: LiveConsole) -> None:
    """It may yet succeed."""
    console.begin(total=2, done=0, todo=2)
    console.ended(failure(job("a")), again=True, tail=())
    assert "failed" not in picture(console)
    assert "0/2" in picture(console)
    console.end()


def test_the_time_left_is_judged_by_this_runs_evals(
    console: LiveConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier run finished took no time of this one."""
    clock = [0.0]
    monkeypatch.setattr(console._bar, "get_time", lambda: clock[0])
    console.begin(total=10, done=5, todo=5)
    assert "left" not in picture(console)
    clock[0] = 30
    console.ended(success(job("a")), again=False, tail=())
    assert "about 2 min 00 s left" in picture(console)
    console.end()


def test_no_time_left_is_shown_in_the_first_seconds(
    console: LiveConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would jump with each eval that ends."""
    clock = [0.0]
    monkeypatch.setattr(console._bar, "get_time", lambda: clock[0])
    console.begin(total=10, done=0, todo=10)
    clock[0] = 9
    console.ended(success(job("a")), again=False, tail=())
    assert "left" not in picture(console)
    clock[0] = 10
    assert "about 1 min 30 s left" in picture(console)
    console.end()


def test_an_eval_that_an_earlier_run_started_ends_without_a_bar(
    console: LiveConsole, out: Terminal
) -> None:
    """Nothing is to run then, and so there is none."""
    console.begin(total=1, done=1, todo=0)
    console.started(job("a"))
    console.ended(success(job("a")), again=False, tail=())
    console.ended(failure(job("b")), again=False, tail=())
    console.end()
    assert "✓ finished a  (4.2 s)" in said(out)


def test_an_eval_cannot_command_the_terminal(console: LiveConsole, out: Terminal) -> None:
    """What comes from a container is shown without its escape sequences and markup."""
    console.begin(total=1, done=0, todo=1)
    console.ended(
        failure(job("a"), reason="[bold]why[/bold]"), again=False, tail=("\x1b]0;title\x07",)
    )
    console.end()
    assert "\x1b]0" not in out.getvalue()
    assert "\x07" not in out.getvalue()
    assert "✗ failure  a  (4.2 s): [bold]why[/bold]" in said(out)


def test_more_evals_than_lines_do_not_push_the_bar_away(console: LiveConsole) -> None:
    """The bar stays in sight, whatever `--jobs` is."""
    console.begin(total=99, done=0, todo=99)
    for number in range(99):
        console.started(job(f"eval{number}"))
    assert "0/99" in picture(console)
    assert picture(console).count("\n") < 30
    console.end()


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch, out: Terminal) -> None:
    """See https://no-color.org: nothing is coloured where it is set."""
    monkeypatch.setenv("NO_COLOR", "1")
    console = LiveConsole(out)
    console.begin(total=1, done=0, todo=1)
    console.warn("careful")
    console.ended(failure(job("a")), again=False, tail=())
    console.end()
    assert "careful" in out.getvalue()
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])m", out.getvalue())


def test_on_a_real_terminal_the_picture_is_taken_away() -> None:
    """What is left when the run ends is lines alone, and the cursor is back."""
    text = on_a_terminal(SHOW, TERM="xterm-256color")
    assert "starting" in text
    assert "finished a" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "starting" not in text[text.rindex("\x1b[2K") :]


WINDOW = """
import sys, time
from runner.report.bars import LiveConsole
from tests.outcomes import job

console = LiveConsole(sys.stdout)
for number in range(30):
    console.note(f"line {number}")
console.begin(total=9, done=0, todo=9)
for number in range(COUNT):
    console.started(job(f"a-rather-long-name-of-eval-{number}.dev.v0.with-more-of-a-name-in-it"))
time.sleep(60)
"""


@contextmanager
def window(count: int, *, width: int, height: int) -> Iterator[Window]:
    """A window with this many running evals below 30 lines."""
    found = Window(WINDOW.replace("COUNT", str(count)), width=width, height=height)
    try:
        until(lambda: any("0/9" in line for line in found.text()))
        yield found
    finally:
        found.close()


@pytest.mark.tools
def test_a_window_that_is_made_narrower_keeps_one_picture() -> None:
    """Rows that the terminal has broken are taken away, and no line above them is."""
    with window(3, width=110, height=24) as found:
        for width in (80, 50, 120, 60):
            found.resize(width, 24)
            time.sleep(0.5)
        text = found.text()
    assert [line for line in text if line.startswith("line ")] == [f"line {n}" for n in range(30)]
    assert sum("a-rather" in line for line in text) == 3
    assert sum("0/9" in line for line in text) == 1
    assert len(text) == 34


@pytest.mark.tools
def test_a_low_window_says_how_many_evals_it_does_not_show() -> None:
    """Of eight running ones it has room for three."""
    with window(8, width=90, height=10) as found:
        text = found.text()
    assert sum("a-rather" in line for line in text) == 3
    assert text[-2].strip() == "... and 5 more running"


CROWDED = """
import sys, threading, time
from runner.report.bars import LiveConsole
from tests.outcomes import job, success
console = LiveConsole(sys.stdout)
console.begin(total=200, done=0, todo=200)
sys.setswitchinterval(1e-5)

def refresh():
    while console._live.is_started:
        console._live.refresh()
        time.sleep(0.0001)  # else evals may get no turn for long

thread = threading.Thread(target=refresh, daemon=True)
thread.start()
for first in range(0, 200, 4):
    jobs = [job(f"eval-{first + each}") for each in range(4)]
    for each in jobs:
        console.started(each)
    for each in jobs:
        console.ended(success(each), again=False, tail=())
console.end()
print("over")
time.sleep(60)
"""


@pytest.mark.tools
def test_no_line_is_drawn_over() -> None:
    """The picture is drawn by a thread of its own, and may become smaller while a line is said."""
    found = Window(CROWDED, width=90, height=24)
    try:
        until(lambda: "over" in found.text())
        text = found.text()
    finally:
        found.close()
    ended = [line.split()[2] for line in text if "finished" in line]
    assert ended == [f"eval-{number}" for number in range(200)]


def test_hosts_have_a_column_where_there_are_several(console: LiveConsole) -> None:
    """A line below says which are away, and when their evals run elsewhere."""
    console.begin(total=2, done=0, todo=2, hosts=("lab1", "lab2"))
    console.started(job("a.dev.v0"), "lab1")
    console.started(job("b.dev.v0"), "lab2")
    console.progressed(job("b.dev.v0"), 3, 8)
    assert re.search(r"b\.dev\.v0 +lab2 +3/8 samples", picture(console))
    absent = HostsAway(
        hosts=("lab2",),
        why="x",
        evals=1,
        wait=60,
        until=time.monotonic() + 50,
        all_away=False,
    )
    console.away(absent)
    assert re.search(r"a\.dev\.v0 +lab1 +starting", picture(console))
    assert re.search(r"b\.dev\.v0 +lab2 +host away", picture(console))
    assert re.search(r"lab2 is away; 1 eval runs elsewhere in \d\d s\n", picture(console))
    console.away(msgspec.structs.replace(absent, stopping=True))
    assert re.search(r"lab2 is away; 1 eval counts as lost in \d\d s\n", picture(console))
    console.away(msgspec.structs.replace(absent, hosts=("lab1",), until=0.0))
    assert re.search(r"lab2 and lab1 are away\n", picture(console))
    console.back(HostsBack(hosts=("lab1", "lab2")))
    assert "away" not in picture(console)
    console.end()


def test_of_a_narrow_picture_names_give_way(console: LiveConsole) -> None:
    """Not hosts and times, and each row stays one."""
    console.begin(total=3, done=0, todo=3, hosts=("lab1", "me@lab2"))
    console.started(job("a-rather-long-name-of-eval.dev.v0.with-more"), "me@lab2")
    console.ended(success(job("b"), host="lab1"), again=False, tail=())
    console._running[job("a-rather-long-name-of-eval.dev.v0.with-more").key].began -= 3700
    console._bar.tasks[0].start_time = time.monotonic() - 700
    name, bar = picture(console, width=60).splitlines()
    assert re.search(r"  a-rather-long\S*…  me@lab2  starting  1 h 01 min", name)
    assert re.search(r"1/3 +\S+ about \d+ min", bar)
    console.end()
