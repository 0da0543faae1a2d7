"""`evalset report`: what it writes, and what it refuses; none of these needs an engine."""

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.answered import Answered
from tests.commands.conftest import Here, contents, only_line
from tests.report.site.example import write_example

PRICES = "currency: EUR\nmodels: {aria-*: {input: 10, output: 30}}\n"


@pytest.fixture
def ran(here: Here) -> Here:
    """Two models have run twelve evals each, with 20 samples each."""
    (here.folder / "progress/oaievalset/dummy.mine.progress.txt").unlink()
    write_example(here.folder / "progress", samples=20)
    here.put("prices.yaml", PRICES)
    return here


def written(here: Here, *arguments: str) -> str:
    ended = here.evalset("report", *arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_pages_are_the_default(ran: Here) -> None:
    """Of all that the progress directory has, in a folder of this name."""
    path = ran.folder / "report/index.html"
    assert written(ran) == f"24 evals: {path}\n"
    assert path.is_file()
    assert written(ran, "aria-small", "research", "-o", "small").startswith("12 evals: ")
    assert not list((ran.folder / "small").glob("compare/*"))


def test_nothing_else_is_changed(ran: Here) -> None:
    """Neither the progress directory nor what is next to the report."""
    before = contents(ran.folder)
    written(ran)
    after = contents(ran.folder)
    report = str(ran.folder / "report")
    assert {path: text for path, text in after.items() if not path.startswith(report)} == before


def test_json_has_all_that_the_pages_have(ran: Here) -> None:
    """Totals, runs, evals and comparisons, in one object."""
    found = json.loads(written(ran, "--format", "json", "--prices", "prices.yaml"))
    assert found["version"] == 1
    assert found["totals"]["states"] == {"done": 22, "lost": 1, "failed": 1}
    assert found["totals"]["cost"] == pytest.approx(440 * (61 * 10 + 9 * 30) / 1e6)
    assert found["currency"] == "EUR"
    assert [run["model"] for run in found["runs"]] == ["aria-large", "aria-small"]
    first = found["evals"][0]
    assert (first["model"], first["eval"]) == ("aria-large", "capital-cities.dev.v0")
    assert first["right"] + first["wrong"] == first["samples"] == 20
    assert first["score"] == pytest.approx(first["right"] / 20)
    assert (first["prompt_tokens"], first["completion_tokens"]) == (1220, 180)
    assert first["left_out"] == 0
    (compared,) = found["comparisons"]
    line = compared["evals"][0]
    assert line["test"] == "exact McNemar test"
    assert 0 <= line["p"] <= line["p_adjusted"] <= 1
    assert line["change"] == pytest.approx((len(line["now_right"]) - len(line["now_wrong"])) / 20)


def test_json_and_csv_have_what_answers_say(ran: Here) -> None:
    """In dollars or by the prices; null where there are none."""
    command = ["oaieval", "aria-small", "capital-cities.dev.v0", "--max_samples", "20"]
    one = Answered(ran.folder / "progress", command, model="aria-small", eval_set="research")
    one.paid(3, usd=0.5, seconds=2, tokens=(100, 100))
    one.replayed()
    one.sent()
    names = ("requests", "replayed", "perhaps_paid", "paid", "latency", "latency_95")
    found = json.loads(written(ran, "aria-small", "research", "--format", "json"))
    first, second = ([record[name] for name in names] for record in found["evals"][:2])
    assert first == [found["totals"][name] for name in names] == [4, 1, 1, 1.5, 2.0, 2.0]
    assert second == [None] * 6
    prices = ("--prices", "prices.yaml")
    rows = csv.DictReader(io.StringIO(written(ran, "--format", "csv", *prices)))
    (paid,) = [float(row["paid"]) for row in rows if row["requests"] == "4"]
    assert paid == pytest.approx(300 * (10 + 30) / 1e6)


def test_csv_has_a_line_for_each_eval(ran: Here) -> None:
    """Text that a spreadsheet would take for a formula is marked as text."""
    path = ran.folder / "progress/oaievalset/aria-large.research.attempts.jsonl"
    path.write_text(path.read_text().replace("exited with status 1", " =1+1\\nnext"))
    found = list(csv.DictReader(io.StringIO(written(ran, "--format", "csv"))))
    assert len(found) == 24
    assert [row["reason"] for row in found if row["state"] == "failed"] == ["' =1+1\nnext"]
    assert json.loads(found[0]["final_report"])["accuracy"] == float(found[0]["score"])


def test_markdown_is_that_of_the_summary_of_a_job(ran: Here) -> None:
    """A section for each run."""
    text = written(ran, "--format", "md", "-o", "report.md")
    assert text == ""
    lines = (ran.folder / "report.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "### `aria-large` `research`",
        "### `aria-small` `research`",
    ]
    assert "10 of 12 evals finished, 1 failed, 1 lost" in lines


def test_junit_has_a_suite_for_each_run(ran: Here) -> None:
    """With the end of what a failed eval printed."""
    root = ET.fromstring(written(ran, "--format", "junit"))  # noqa: S314 - it is ours
    assert [suite.get("name") for suite in root] == ["aria-large.research", "aria-small.research"]
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("24", "1", "1")
    assert "FileNotFoundError" in str(next(root.iter("failure")).text)


def test_a_baseline_is_told_apart(ran: Here) -> None:
    """By what stands behind the model."""
    write_example(ran.folder / "old", samples=20)
    arguments = ("aria-small", "research", "--baseline", "old", "--format", "json")
    found = json.loads(written(ran, *arguments))
    assert [run["note"] for run in found["runs"]] == ["before", "after"]
    (compared,) = found["comparisons"]
    assert (compared["before"], compared["after"]) == ("aria-small (before)", "aria-small (after)")
    assert (compared["now_right"], compared["now_wrong"], compared["p"]) == (0, 0, 1.0)


def test_a_branch_is_read_with_its_logs(ran: Here, repository: Path) -> None:
    """Where no progress directory is, as on another host."""
    assert repository == ran.folder
    ended = ran.evalset("snapshot", "take", "aria-small", "research")
    assert ended.returncode == 0, ended.stderr
    here = json.loads(written(ran, "aria-small", "research", "--format", "json"))
    (ran.folder / "progress").rename(ran.folder / "elsewhere")
    branch = ("--branch", "evalset/aria-small.research")
    assert json.loads(written(ran, *branch, "--format", "json")) == here
    assert written(ran, *branch).startswith("12 evals: ")
    assert len(list((ran.folder / "report").glob("evals/*/0.js"))) == 12


def test_without_scipy_nothing_is_tested(ran: Here) -> None:
    """One line says so, where there is something to test."""
    line = "import sys; sys.modules['scipy'] = None; "
    line += "from runner.cli import main; main(sys.argv[1:])"
    ended = ran.python("-c", line, "report")
    assert ended.returncode == 0
    assert ended.stderr == (
        "warning: scipy is not installed, so that differences are not tested for significance; "
        "`pip install 'evalset[report]'` adds it\n"
    )
    (page,) = (ran.folder / "report").glob("compare/*.html")
    assert "Not tested for significance" in page.read_text()
    ended = ran.python("-c", line, "report", "aria-small", "research")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_damaged_lines_are_named(ran: Here) -> None:
    """On stderr, and on the overview; what can be read is shown."""
    path = ran.folder / "progress/oaievalset/aria-small.research.attempts.jsonl"
    path.write_text("{}\n" + path.read_text())
    ended = ran.evalset("report")
    assert ended.returncode == 0
    assert ended.stderr == f"warning: {path}: line 1 cannot be read and is left as it is\n"
    assert f"{path}: line 1 cannot be read" in (ran.folder / "report/index.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["aria-small"], "`aria-small` has no eval set; give MODEL EVAL_SET"),
        (["aria-small", "none"], "has no progress of aria-small none"),
        (["../x", "none"], "the model's name `../x` has `..` in it"),
        (["--progress-dir", "nowhere"], "has no progress; run `evalset run` first"),
        (["--baseline", "nowhere"], "has no progress; run `evalset run` first"),
        (["--prices", "nowhere.yaml"], "--prices nowhere.yaml: there is no such file"),
        (["--prices", "binary"], "--prices binary: it is not text; write it as UTF-8"),
        (["--prices", "evil.yaml"], "evil.yaml: unknown key `evil`"),
        (
            ["--format", "md", "--prices", "prices.yaml"],
            "--format md shows nothing of --prices; leave one of them out",
        ),
        (
            ["--format", "junit", "--baseline", "old"],
            "--format junit shows nothing of --baseline; leave one of them out",
        ),
        (["--format", "xls"], "Invalid value for '--format'"),
        (["-o", "full"], "is not empty and not a report of evalset"),
        (["-o", "binary"], "is a file; name a folder with -o"),
        (["--format", "json", "-o", "full"], "-o full is a folder; name a file for this format"),
        (["--branch", "none"], "there is no branch none here; "),
    ],
)
def test_what_cannot_be_done_is_refused(ran: Here, arguments: list[str], said: str) -> None:
    """On one line that says what to do, and nothing is written."""
    ran.put("binary", b"\xff\xfe")
    ran.put("evil.yaml", "evil: 1")
    ran.put("full/thesis.tex", "years of work")
    before = {path for path in contents(ran.folder) if ".snapshots.git" not in path}
    line = only_line(ran.evalset("report", *arguments), 2)
    assert said in line
    after = {path for path in contents(ran.folder) if ".snapshots.git" not in path}
    assert after == before


def test_a_folder_that_takes_nothing_is_an_environment_fault(ran: Here) -> None:
    """It is named."""
    folder = ran.folder / "closed"
    folder.mkdir()
    folder.chmod(0o555)
    line = only_line(ran.evalset("report", "-o", "closed/report", bound=True), 3)
    assert line.startswith(f"cannot create the folder {folder}")
    assert line.endswith("make it writable for this user, or choose another -o")


def test_a_log_that_may_not_be_read_is_told(ran: Here) -> None:
    """The report is made without it."""
    log = next((ran.folder / "progress/evallogs").glob("*_aria-small_arithmetic*.jsonl"))
    log.chmod(0)
    ended = ran.evalset("report", "aria-small", "research", bound=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    pages = [path.read_text() for path in (ran.folder / "report/evals").glob("*.html")]
    assert sum("1 of its logs are not here, or cannot be read." in text for text in pages) == 1


def test_a_key_that_an_eval_prints_is_masked(ran: Here) -> None:
    """Where the end of its output is shown: on the pages, and in JUnit XML."""
    key = "sk-aB3dE5gH7jK9mN1pQ3sT5vX7"
    log = next((ran.folder / "progress/evallogs").glob("*_aria-large_json-output*.console.log"))
    log.write_text(f"KeyError: {key}\n")
    shown = ran.evalset("report", "--format", "junit", OPENAI_API_KEY=key).stdout
    assert ran.evalset("report", OPENAI_API_KEY=key).returncode == 0
    pages = [path.read_text() for path in (ran.folder / "report").rglob("*.html")]
    assert sum("KeyError: ***" in text for text in pages) == 2
    assert "KeyError: ***" in shown
    assert not any(key in text for text in [shown, *pages])


def test_view_refuses_in_the_same_way(ran: Here) -> None:
    """Before it serves anything."""
    assert "has no eval set" in ran.refused("view", "aria-small")
    assert "there is no such file" in ran.refused("view", "--prices", "nowhere.yaml")
    assert "Invalid value for '--port'" in ran.refused("view", "--port", "99999")
