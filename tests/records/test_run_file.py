import json
from pathlib import Path

import msgspec
import pytest

from runner.errors import EnvironmentFault
from runner.plan.pins import MAX_GENERATION, RunFile
from runner.records.layout import Layout
from runner.records.run_file import (
    next_generation,
    read_run_file,
    write_run_file,
)
from runner.records.state import RunState

RUN = RunFile(
    run="r1",
    model="org/m",
    eval_set="s",
    image="evalset/evals:test",
    image_id="sha256:00",
    commands=(("oaieval", "org/m", "a"),),
    shard="1/2",
    limits={"memory": 1024, "cpus": None, "pids_limit": 10, "timeout": 60.0},
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path, model="org/m", eval_set="s")


def problem(layout: Layout) -> str:
    """What a reader of all files says of this one."""
    return "".join(RunState.from_directory(layout).damaged)


def test_what_a_run_is_pinned_to_comes_back(layout: Layout) -> None:
    """What is written is what is read, and people can read it, too."""
    write_run_file(layout, RUN)
    assert read_run_file(layout.run) == RUN
    assert json.loads(layout.run.read_bytes())["version"] == 1
    assert layout.run.read_text().count("\n") > 10


def test_a_later_run_replaces_the_file(layout: Layout) -> None:
    """It tells of the newest run, and nothing else is left next to it."""
    write_run_file(layout, RUN)
    later = msgspec.structs.replace(RUN, run="r2")
    write_run_file(layout, later)
    assert read_run_file(layout.run) == later
    assert list(layout.run.parent.iterdir()) == [layout.run]


def test_each_generation_is_greater_than_all_that_are_here(layout: Layout) -> None:
    """Also after a reset, which gives files a date; a damaged one counts for nothing."""
    assert next_generation(layout, read_run_file(layout.run)) == 1
    write_run_file(layout, msgspec.structs.replace(RUN, generation=7))
    layout.run.rename(layout.run.with_name(f"{layout.run.name}.20261121T031555.060129Z"))
    assert next_generation(layout, read_run_file(layout.run)) == 8
    write_run_file(layout, RUN)
    layout.run.with_name(f"{layout.run.name}.damaged").write_text("{")
    assert next_generation(layout, read_run_file(layout.run)) == 8
    write_run_file(layout, msgspec.structs.replace(RUN, generation=MAX_GENERATION))
    assert next_generation(layout, read_run_file(layout.run)) == MAX_GENERATION


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"run": "\xff"}', b"[" * 99999])
def test_a_file_that_is_not_understood_counts_as_none(layout: Layout, content: bytes) -> None:
    """It only pins, and the next run writes it anew."""
    layout.run.parent.mkdir(parents=True)
    layout.run.write_bytes(content)
    assert read_run_file(layout.run) is None


def test_without_a_file_there_is_none(layout: Layout) -> None:
    """Nothing was run yet."""
    assert read_run_file(layout.run) is None


def test_a_folder_in_its_place_is_named(layout: Layout) -> None:
    """The message says what to do."""
    layout.run.mkdir(parents=True)
    with pytest.raises(EnvironmentFault, match="it is a folder; move it away"):
        read_run_file(layout.run)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "cannot be read"),
        (b"{", "cannot be read"),
        (b'{"run": \0\0\0\0', "cannot be read"),
        (msgspec.json.encode(RUN).decode().encode("utf-16"), "cannot be read"),
        (b'{"version": 9, "run": ["r"]}', "was written by a newer evalset"),
        (
            msgspec.json.encode(msgspec.structs.replace(RUN, version=9)),
            "was written by a newer evalset",
        ),
    ],
)
def test_a_file_that_is_not_all_understood_is_named_and_kept(
    layout: Layout, content: bytes, why: str
) -> None:
    """With a date, next to the new one: what it says may be needed by somebody."""
    layout.run.parent.mkdir(parents=True)
    layout.run.write_bytes(content)
    said = problem(layout)
    assert said.startswith(f"{layout.run} {why}")
    assert "the next run renames it, with a date" in said
    assert layout.run.read_bytes() == content
    write_run_file(layout, RUN)
    assert read_run_file(layout.run) == RUN
    assert problem(layout) == ""
    (kept,) = layout.run.parent.glob("m.s.run.json.*Z")
    assert kept.read_bytes() == content


def test_a_file_that_is_understood_is_not_kept(layout: Layout) -> None:
    """A mark before it changes nothing."""
    assert problem(layout) == ""
    write_run_file(layout, RUN)
    layout.run.write_bytes(b"\xef\xbb\xbf" + layout.run.read_bytes())
    assert read_run_file(layout.run) == RUN
    write_run_file(layout, RUN)
    assert list(layout.run.parent.iterdir()) == [layout.run]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"version": 2}', "was written by a newer evalset"),
        (
            b"{",
            "cannot be read, so finished evals are not compared with this run",
        ),
    ],
)
def test_a_file_that_is_not_understood_is_told_with_what_becomes_of_it(
    layout: Layout, content: bytes, why: str
) -> None:
    """On one line; one that is not there is no problem."""
    assert problem(layout) == ""
    layout.run.parent.mkdir(parents=True)
    layout.run.write_bytes(content)
    assert problem(layout) == (
        f"{layout.run} {why}; the next run renames it, with a date, and writes its own"
    )
