import os
import signal
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.answered import Answered
from tests.conftest import Place

pytestmark = pytest.mark.docker

FULL = "Error: the output cannot be written: No space left on device\n"


def cases(path: Path) -> dict[str, list[str]]:
    """For each eval in JUnit XML, the elements that say that it is no success."""
    (suite,) = ET.parse(path).getroot()  # noqa: S314 - our own
    return {
        case.attrib["name"]: [each.tag for each in case if each.tag != "properties"]
        for case in suite
    }


def test_a_run_writes_its_results(place: Place) -> None:
    """As JUnit XML where the option says, as Markdown where GitHub Actions says."""
    place.registry("succeed.a", "fail.3", "succeed.b")
    page = place.folder / "summary.md"
    ended = place.run(
        *("--jobs", "1", "--junit", "junit.xml"),
        GITHUB_STEP_SUMMARY=str(page),
        GITHUB_ACTIONS="true",
    )
    assert ended.returncode == 1
    path = place.folder / "junit.xml"
    assert cases(path) == {"succeed.a": [], "fail.3": ["failure"], "succeed.b": ["skipped"]}
    assert "this is why" in path.read_text()
    assert page.read_text().startswith(
        "### `m` `s`\n\n1 of 3 evals finished, 1 failed, 1 to do\n\n| eval |"
    )
    lines = ended.stdout.splitlines()
    table = lines[lines.index("::group::evals") : -1]
    assert table[-1] == "::endgroup::"
    assert any("exited with status 3" in line for line in table)


def test_the_results_of_a_part_of_the_set_say_so(place: Place) -> None:
    """Else all finished could be taken for the whole."""
    place.registry("succeed.a", "succeed.b")
    page = place.folder / "summary.md"
    assert place.run("--select", "*a", GITHUB_STEP_SUMMARY=str(page)).returncode == 0
    part = "1 of 1 eval finished; the last plan has 1 of the eval set's 2 evals"
    assert page.read_text().startswith(f"### `m` `s`\n\n{part}\n\n| eval |")
    page.unlink()
    assert place.run(GITHUB_STEP_SUMMARY=str(page)).returncode == 0
    assert page.read_text().startswith("### `m` `s`\n\n2 of 2 evals finished\n\n| eval |")


def test_a_run_with_nothing_to_do_writes_its_results_too(place: Place) -> None:
    """Whoever reads them needs not know."""
    place.registry("succeed.a")
    place.run()
    assert place.run("--junit", "junit.xml").returncode == 0
    assert cases(place.folder / "junit.xml") == {"succeed.a": []}


def test_an_interrupted_run_writes_its_results(place: Place) -> None:
    """What was stopped is an error, and what was not started is skipped."""
    place.registry("wait.a", "succeed.b")
    line = ("--jobs", "1", "--grace", "0.1s", "--junit", "junit.xml")
    with place.running(*line) as run:
        place.until_running(1)
        run.send_signal(signal.SIGTERM)
        assert run.wait(20) == 143
    assert cases(place.folder / "junit.xml") == {"wait.a": ["error"], "succeed.b": ["skipped"]}


def test_a_run_that_cannot_go_on_writes_its_results(place: Place) -> None:
    """The error is what is said, and the exit code its own."""
    place.registry("succeed.a")
    ended = place.run("--run-command", "/bin/no-such-thing", "--junit", "junit.xml")
    assert ended.returncode == 3
    assert ended.stderr.startswith(f"Error: image {place.image} has no command")
    assert cases(place.folder / "junit.xml") == {"succeed.a": ["skipped"]}


def test_a_run_that_is_refused_writes_nothing(place: Place) -> None:
    """What is there may be of the run that continues."""
    place.registry("wait.a")
    with place.running() as run:
        place.until_running(1)
        assert place.run("--junit", "junit.xml").returncode == 3
        place.let_go()
        assert run.wait(20) == 0
    assert not (place.folder / "junit.xml").exists()


def test_results_that_cannot_be_written_change_no_exit_code_but_0(place: Place) -> None:
    """A failed eval stays the first thing to know."""
    place.registry("wait.a")
    for status, code in ((3, 1), (0, 3)):
        junit = place.folder / "junit.xml"
        with place.running("--junit", "junit.xml") as run:
            place.until_running(1)
            junit.mkdir()
            place.let_go(status)
            assert run.wait(20) == code
            assert run.stdout
            assert f"Error: cannot write {junit}: it is a folder; move it away" in run.stdout.read()
        junit.rmdir()


@pytest.mark.parametrize("name", ["succeed.b", "fail.1"])
def test_a_run_whose_reader_has_gone_goes_on_to_its_end(place: Place, name: str) -> None:
    """Records and results are whole, and the exit code tells of the closed pipe alone."""
    place.registry("succeed.a", name)
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        place.line("--jobs", "1", "--junit", "junit.xml"),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        cwd=place.folder,
        env=place.environ(),
        timeout=60,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")
    assert sorted(record.eval for record in place.records()) == sorted(["succeed.a", name])
    assert cases(place.folder / "junit.xml").keys() == {"succeed.a", name}


@pytest.mark.parametrize(
    ("where", "status", "said"),
    [(">/dev/full", 141, FULL), (">/dev/full 2>&1", 141, ""), (">&- 2>&-", 0, "")],
)
def test_a_run_that_can_say_nothing_goes_on_to_its_end(
    place: Place, where: str, status: int, said: str
) -> None:
    """Though its output is on a disk that is full, or was closed before it began."""
    place.registry("succeed.a", "succeed.b")
    ended = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {where}', "sh", *place.line("--jobs", "1")],
        capture_output=True,
        text=True,
        check=False,
        cwd=place.folder,
        env=place.environ(),
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (status, said)
    assert sorted(place.finished()) == ["succeed.a", "succeed.b"]
    assert place.leftovers() == []


def test_a_run_says_at_its_end_what_was_paid_and_saved(place: Place) -> None:
    """By the answers on record, those of runs before too; damage in them ends nothing."""
    command = ["oaieval", "m", "succeed.a"]
    one = Answered(place.progress, command, model="m", eval_set="s")
    one.paid(3, usd=0.5)
    one.replayed(2)
    one.path.write_bytes(b"[dam\n" + one.path.read_bytes())
    place.registry("succeed.a", "succeed.b")
    ended = place.run("--select", "*a")
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[-1] == (
        "answers: 3 paid for (210 tokens, $1.50), 2 replayed (saved 140 tokens, $1.00)"
    )
    assert f"warning: {one.path}: line 1 cannot be read" in ended.stderr
    one.path.unlink()
    assert "answers" not in place.run().stdout
