from pathlib import Path

import pytest

from runner.errors import EnvironmentFault, UsageError
from runner.report.site.builder import MARK, TOP, ReportFolder


def fill(path: Path, text: str) -> None:
    with ReportFolder(path) as folder:
        folder.write("index.html", text.encode())
        folder.write("evals/0/1.js", b"")
        folder.write(MARK, b"{}")


def test_a_report_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    """Whole: nothing of the old one is left, nor anything next to it."""
    path = tmp_path / "deep/report"
    fill(path, "old")
    (path / "timeline.html").write_text("old")
    fill(path, "new")
    assert (path / "index.html").read_text() == "new"
    assert not (path / "timeline.html").exists()
    assert [one.name for one in path.parent.iterdir()] == ["report"]


def test_a_report_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    """As it was, with nothing next to it."""
    path = tmp_path / "report"
    fill(path, "old")
    with pytest.raises(EnvironmentFault, match="cannot write"), ReportFolder(path) as folder:
        folder.write("x" * 300, b"a name that no file can have")
    assert (path / "index.html").read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["report"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    """Somebody has made it for this."""
    (tmp_path / "report").mkdir()
    fill(tmp_path / "report", "new")
    assert (tmp_path / "report/index.html").read_text() == "new"


def test_a_folder_that_is_no_report_is_refused(tmp_path: Path) -> None:
    """It may hold anything, and would be lost."""
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is not empty and not a report of evalset"):
        ReportFolder(tmp_path)


def test_what_somebody_has_put_into_a_report_is_not_lost(tmp_path: Path) -> None:
    """A repository, for example."""
    fill(tmp_path / "report", "old")
    (tmp_path / "report/.git").mkdir()
    with pytest.raises(UsageError, match=r"holds `\.git`, which is not part of a report"):
        ReportFolder(tmp_path / "report")
    (tmp_path / "report/CNAME").touch()
    with pytest.raises(UsageError, match=r"holds `\.git` and 1 more"):
        ReportFolder(tmp_path / "report")


def test_a_file_is_refused(tmp_path: Path) -> None:
    """A folder is meant."""
    (tmp_path / "report").touch()
    with pytest.raises(UsageError, match="is a file; name a folder with -o"):
        ReportFolder(tmp_path / "report")


def test_the_mark_is_part_of_a_report() -> None:
    """Else no report could be renewed."""
    assert MARK in TOP
