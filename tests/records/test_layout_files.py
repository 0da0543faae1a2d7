from pathlib import Path

import pytest

from runner.model import Command
from runner.records.layout import Layout
from runner.records.logs import all_logs
from runner.records.progress import AttemptsFile, ProgressFile
from runner.records.state import RunState
from tests.outcomes import failure, job, success

DATE = "20260101T000000.000000Z"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path, model="org/m", eval_set="s")


def logs_here(layout: Layout) -> list[str]:
    return all_logs(layout, RunState.from_directory(layout))


def put(layout: Layout, *names: str) -> None:
    """Files in the progress directory, each with its own name in it."""
    for name in names:
        path = layout.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def test_the_records_of_a_set_are_found_with_dated_and_torn_ones(layout: Layout) -> None:
    """By kind and then by name, relative to the progress directory."""
    names = [
        f"oaievalset/org/m.s.{kind}"
        for kind in (
            "progress.txt",
            f"progress.txt.{DATE}",
            "progress.txt.torn",
            "attempts.jsonl",
            f"attempts.jsonl.{DATE}",
            "run.json",
        )
    ]
    put(layout, *reversed(names))
    assert layout.state_files() == names


def test_what_is_of_use_here_and_now_only_is_no_record(layout: Layout) -> None:
    """Locks, halves of files, folders, links, and the files of other sets and models."""
    put(
        layout,
        "oaievalset/org/m.s.lock",
        "oaievalset/org/m.s.progress.txt.lock",
        "oaievalset/org/m.s.lock.holder.json",
        "oaievalset/org/m.s.run.json.holder.json",
        "oaievalset/org/.m.s.run.json.1.new",
        "oaievalset/org/m.s.run.json.1.new",
        "oaievalset/org/m.s2.progress.txt",
        "oaievalset/m.s.progress.txt",
        "oaievalset/org/m.s.progress.txt.new/file",
        "oaievalset/org/m.s.attempts.jsonl/file",
    )
    (layout.run).symlink_to("m.s2.progress.txt")
    assert layout.state_files() == []


@pytest.mark.parametrize("model", ["m*", "m?", "m[0]"])
def test_a_name_with_a_patterns_characters_is_itself(tmp_path: Path, model: str) -> None:
    """It stands for no other model's files, and its own are found."""
    layout = Layout(root=tmp_path, model=model, eval_set="s")
    put(layout, f"oaievalset/{model}.s.run.json", "oaievalset/m0.s.run.json")
    assert layout.state_files() == [f"oaievalset/{model}.s.run.json"]


def test_an_attempts_logs_are_oaievals_and_what_was_printed() -> None:
    """An attempt whose container never ran has neither."""
    ended = success(job("a"), logs=("evallogs/1", "evallogs/2"), console_log="evallogs/c")
    assert ended.all_logs == ("evallogs/1", "evallogs/2", "evallogs/c")
    assert failure(job("b"), console_log=None).all_logs == ()


def test_logs_on_record_are_found_in_dated_files_too(layout: Layout) -> None:
    """Each once; one that is gone, or that is no log, is left out."""
    put(layout, "evallogs/old.jsonl", "evallogs/new.jsonl", "elsewhere.jsonl")
    for path, logs in (
        (layout.attempts.with_name(f"{layout.attempts.name}.{DATE}"), ("evallogs/old.jsonl",)),
        (
            layout.attempts,
            ("evallogs/new.jsonl", "evallogs/old.jsonl", "evallogs/gone.jsonl", "elsewhere.jsonl"),
        ),
    ):
        with AttemptsFile(path) as file:
            file.add_records(success(job(), logs=logs, console_log=None))
    put(layout, "oaievalset/org/m.s.progress.txt")
    assert logs_here(layout) == ["evallogs/new.jsonl", "evallogs/old.jsonl"]


def test_upstreams_own_logs_of_finished_evals_are_found(layout: Layout) -> None:
    """By the name that openai/evals gives them; other models' and sets' are not this set's."""
    with ProgressFile(layout.progress) as file:
        file.add_commands(
            Command(("oaieval", "org/m", "a.dev.v0")),
            Command(("oaieval", "org/m")),
            Command(("oaieval", "org/m", "b_org/m_c")),
        )
    put(
        layout,
        "evallogs/250101000000ABCDEFGH_org/m_a.dev.v0.jsonl",
        "evallogs/250101000000ABCDEFGH_org/m_b_org/m_c.jsonl",
        "evallogs/250101000000ABCDEFGH_org/m_b.dev.v0.jsonl",
        "evallogs/250101000000ABCDEFGH_org/m2_a.dev.v0.jsonl",
        "evallogs/250101000000ABCDEFGH_x_org/m_a.dev.v0.jsonl",
        "evallogs/250101000000ABCDEFGH_org/m_a.dev.v0.txt",
    )
    assert sorted(logs_here(layout)) == [
        "evallogs/250101000000ABCDEFGH_org/m_a.dev.v0.jsonl",
        "evallogs/250101000000ABCDEFGH_org/m_b_org/m_c.jsonl",
    ]


def test_only_a_plain_file_among_the_logs_is_a_log(layout: Layout) -> None:
    """Neither a link, nor a folder, nor what a name leads to outside."""
    put(layout, "evallogs/a.jsonl", "evallogs/folder/b.jsonl", "secret")
    (layout.evallogs / "link").symlink_to("a.jsonl")
    assert layout.is_log("evallogs/a.jsonl")
    assert layout.is_log("evallogs/folder/b.jsonl")
    for name in ("evallogs/folder", "evallogs/link", "evallogs/../secret", "secret", "evallogs/x"):
        assert not layout.is_log(name)


def test_a_log_in_a_folder_that_leads_elsewhere_is_no_log(layout: Layout, tmp_path: Path) -> None:
    """A record of another host could name it; each plain file below `evallogs` comes once."""
    put(layout, "evallogs/a.jsonl", "evallogs/org/b.jsonl", "elsewhere/c.jsonl")
    (layout.evallogs / "away").symlink_to(tmp_path / "elsewhere")
    names = ["evallogs/a.jsonl", "evallogs/away/c.jsonl", "evallogs/org/b.jsonl"]
    assert layout.log_paths([*names, *names]) == [
        layout.root / "evallogs/a.jsonl",
        layout.root / "evallogs/org/b.jsonl",
    ]
