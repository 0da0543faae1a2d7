"""Logs that would cost the runner its memory, its time or its life, all in one run."""

import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from runner.model import Attempt, Result
from tests.hostile.conftest import Hostile, tidied

pytestmark = pytest.mark.docker

LOGGED = ("line", "samples", "nested", "numbers", "large", "keys", "strange")

# Of the runner, in KiB: about twice what a run of nothing special needs.
MOST_MEMORY = 220 * 1024


class Logged(msgspec.Struct, frozen=True):
    """How the run went: its records, by eval, and the most memory that the runner had, in KiB."""

    records: Mapping[str, Attempt]
    memory: int
    attempts: Path


@pytest.fixture(scope="module")
def logged(
    tmp_path_factory: pytest.TempPathFactory, cache: Path, hostile_image: str
) -> Iterator[Logged]:
    """After the run of all that log something, and of one that does well behind them."""
    with tidied(Hostile(tmp_path_factory.mktemp("logged"), cache, hostile_image)) as place:
        place.registry(*LOGGED, "victim")
        with subprocess.Popen(
            place.line("--no-exit-on-error", "--jobs", "2"),
            cwd=place.folder,
            env=place.environ(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as run:
            memory = 0
            # What wait4 says would have the memory of the tests' own process in it.
            while run.poll() is None:
                told = Path(f"/proc/{run.pid}/status").read_text()
                if found := re.search(r"VmHWM:\s+(\d+)", told):
                    memory = int(found[1])
                time.sleep(0.05)
        assert memory
        assert run.returncode == 0
        records = {record.eval: record for record in place.records()}
        yield Logged(records, memory, place.layout.attempts)


def test_memory_is_bounded_whatever_is_logged(logged: Logged) -> None:
    """With lines of 200 MB, reports of 50 MB, and nesting without end."""
    assert logged.memory < MOST_MEMORY
    assert logged.attempts.stat().st_size < 2**20


def test_no_log_costs_an_outcome(logged: Logged) -> None:
    """All have ended well, and are on record with their logs."""
    assert set(logged.records) == {*LOGGED, "victim"}
    assert {record.result for record in logged.records.values()} == {Result.SUCCESS}
    assert all(record.logs for record in logged.records.values())


def test_a_line_without_end_hides_no_other(logged: Logged) -> None:
    """What is too long is passed over, and the next line counts."""
    assert logged.records["line"].samples == 1
    assert logged.records["nested"].samples == 1


def test_a_million_samples_are_counted(logged: Logged) -> None:
    """And the report behind them is found."""
    record = logged.records["samples"]
    assert record.samples == 1_000_000
    assert record.final_report == {"accuracy": 0.75}


def test_numbers_that_json_does_not_have_are_null(logged: Logged) -> None:
    """Others stay what they are, of any size."""
    assert logged.records["numbers"].final_report == {"accuracy": None, "big": 10**30}


@pytest.mark.parametrize(
    ("name", "why"), [("large", "bytes"), ("keys", "bytes"), ("nested", "too deep")]
)
def test_a_report_that_is_no_use_in_a_record_is_named(logged: Logged, name: str, why: str) -> None:
    """It stays in the log, and the record says so."""
    record = logged.records[name]
    assert record.final_report is None
    (warning,) = record.warnings
    assert warning.startswith("its final_report ")
    assert why in warning
    assert warning.endswith("it is in the log alone")


def test_what_is_no_report_does_not_count_as_one(logged: Logged) -> None:
    """A list, a text and a number; the object after them does."""
    assert logged.records["strange"].final_report == {
        "accuracy": {"x": [None, True, {}]},
        "n": [1],
        "": None,
    }
