import contextlib
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
import threading

import pytest

from tests.conftest import Place

pytestmark = pytest.mark.docker


def test_status_shows_what_runs(place: Place) -> None:
    """During a run, its evals are `running`; later they are `done`."""
    place.registry("succeed.a", "wait.b", "succeed.c")
    with place.running("--jobs", "1") as run:
        place.until_running(1)
        asked = json.loads(place.ask("status", "m", "s", "--json").stdout)
        place.let_go()
        assert run.wait(20) == 0
    assert {row["eval"]: row["state"] for row in asked["evals"]} == {
        "succeed.a": "done",
        "wait.b": "running",
        "succeed.c": "to do",
    }


def test_logs_follow_a_running_eval(place: Place) -> None:
    """`evalset logs -f` prints what there is, then what comes, and ends with the eval."""
    place.registry("wait.b")
    with place.running() as run:
        place.until_running(1)
        line = place.line("m", "s", "wait.b", "-f", command="logs")
        with subprocess.Popen(
            line, stdout=subprocess.PIPE, cwd=place.folder, env=place.environ()
        ) as logs:
            assert logs.stdout
            assert logs.stdout.readline() == b"waiting\n"
            place.let_go()
            assert logs.stdout.read() == b"told to go\n"
            assert logs.wait(20) == 0
        assert run.wait(20) == 0
    assert place.ask("logs", "m", "s", "wait.b").stdout == "waiting\ntold to go\n"


def test_a_terminal_shows_samples_while_an_eval_runs(place: Place) -> None:
    """Its line counts along with the eval's own progress bar."""
    place.registry("bar.v0")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    shown = b""
    with subprocess.Popen(
        place.line(), stdout=theirs, cwd=place.folder, env=place.environ(TERM="xterm")
    ) as run:
        os.close(theirs)
        while b"7/7 samples" not in shown:
            assert select.select([ours], [], [], 20)[0], shown
            shown += os.read(ours, 65536)
        place.let_go()
        reader = threading.Thread(target=_drain, args=(ours, []))
        reader.start()
        assert run.wait(20) == 0
        reader.join()
    os.close(ours)


def test_an_error_before_the_first_eval_stands_on_a_line_of_its_own(place: Place) -> None:
    """The bar is taken away first."""
    place.registry("ask.3")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    environ = place.environ(
        TERM="xterm", OPENAI_API_KEY="sk-of-nobody", OPENAI_BASE_URL="http://127.0.0.1:9/v1"
    )
    shown: list[bytes] = []
    with subprocess.Popen(
        place.line(), stdout=theirs, stderr=theirs, cwd=place.folder, env=environ
    ) as run:
        os.close(theirs)
        reader = threading.Thread(target=_drain, args=(ours, shown))
        reader.start()
        assert run.wait(20) == 3
        reader.join()
    os.close(ours)
    text = b"".join(shown).decode()
    before, error = text.split("Error: ")
    assert "cannot be reached" in error
    assert "0/1" in before
    assert before.endswith("\x1b[2K")  # the bar's line is erased
    assert before.rindex("\x1b[?25h") > before.rindex("\x1b[?25l")  # the cursor is back


def _drain(terminal: int, into: list[bytes]) -> None:
    """Read what is shown until the last writer has gone, so that none waits."""
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 65536):
            into.append(part)
