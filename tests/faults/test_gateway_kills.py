"""Gateways, runners and evals that are killed at random: what that costs by the ledger."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest

from runner.gateway import client
from runner.gateway.client import end_process
from tests.amount import amount
from tests.conftest import until
from tests.faults import gateway_points
from tests.faults.gateway_parts import (
    PROMPTS,
    THREADS,
    Part,
    Wanted,
    body_of,
    layout_in,
    put,
)
from tests.faults.points import Point
from tests.gateway.desk import NO_CERTIFICATES, Desk, job
from tests.provider import ROOT, Provider, body_key

if TYPE_CHECKING:
    from runner.gateway.messages import Config

pytestmark = pytest.mark.timeout(3600)

# What is killed at once.
TARGETS = [
    set(chosen)
    for count in (1, 2, 3)
    for chosen in itertools.combinations(("gateway", "runner", "eval"), count)
]


class Helpers(NamedTuple):
    """What serves all stages of a test: the provider, and what forks runners and evals."""

    stub: Provider
    parts: "subprocess.Popen[bytes]"


class Stage:
    """The processes of all rounds, one gateway and one eval at a time."""

    def __init__(self, folder: Path, helpers: Helpers) -> None:
        self.folder = folder
        self.stub = helpers.stub
        self.layout = layout_in(folder)
        self.config: Config = Desk(self.layout.root, self.stub).config
        self._parts = helpers.parts
        self.runner = 0
        self.eval = 0
        self.start_runner()

    def _fork(self, part: Part) -> int:
        told: IO[bytes] | None = self._parts.stdin
        heard: IO[bytes] | None = self._parts.stdout
        assert told
        assert heard
        told.write(msgspec.json.encode(part) + b"\n")
        told.flush()
        return int(heard.readline())

    def start_runner(self) -> None:
        """Start one, which takes a gateway over that is there."""
        self.runner = self._fork(Part(str(self.folder), self.config, client.MODULE))

    def start_eval(self, wanted: Wanted) -> int:
        """Start an attempt, once it may ask."""
        put(self.folder / "wanted", wanted)
        until(lambda: self._entered() == wanted, 60)
        socket = self.layout.gateway / "attempts" / wanted.attempt
        self.eval = self._fork(
            Part(
                str(self.folder),
                self.config,
                attempt=wanted.attempt,
                eval=wanted.eval,
                socket=str(socket),
            )
        )
        return self.eval

    def _entered(self) -> Wanted | None:
        with suppress(FileNotFoundError):
            return msgspec.json.decode((self.folder / "entered").read_bytes(), type=Wanted)
        return None

    def gateway(self) -> int:
        """The gateway's process; 0 if there is none at the moment."""
        with suppress(OSError, ValueError):
            pid = int((self.layout.gateway / "pid").read_text())
            argv = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
            return pid if client.MODULE.encode() in argv else 0
        return 0

    def end(self) -> None:
        """Let the runner end; what hangs is killed."""
        put(self.folder / "wanted", Wanted("", ""))
        with suppress(AssertionError):
            until(lambda: not Path("/proc", str(self.runner)).exists())
            until(lambda: not self.gateway())  # the runner has told it to end
        kill(self.runner)
        kill(self.eval)
        end_process(self.layout.gateway)


class Round:
    """One eval that is brought to its end, however often it is disturbed.

    Attributes:
        under_way: ids of the requests that a killed gateway had not brought to their end.
    """

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage = stage
        self.name = name
        self.attempts: list[str] = []
        self.under_way: set[str] = set()
        self.seen: set[str] = set()
        self.eval = 0
        self._next_attempt()

    def _next_attempt(self) -> None:
        self.attempts.append(f"{self.name}.{len(self.attempts)}")
        self.eval = self.stage.start_eval(Wanted(self.attempts[-1], self.name))

    @property
    def done(self) -> bool:
        """Whether the eval has all its answers."""
        return (self.stage.folder / f"{self.attempts[-1]}.done").exists()

    def lines(self) -> list[dict[str, Any]]:
        """The whole lines of the eval's answers file."""
        path = self.stage.layout.answers_of(job(self.name).command)
        whole, _, _ = (path.read_bytes() if path.exists() else b"").rpartition(b"\n")
        return [msgspec.json.decode(line) for line in whole.splitlines()]

    def log(self, attempt: str) -> list[tuple[int, int]]:
        """What an attempt was answered: numbers of prompts and of bills."""
        path = self.stage.folder / f"{attempt}.log"
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [msgspec.json.decode(line, type=tuple[int, int]) for line in lines]

    def wait_for(self, answers: int) -> None:
        """Wait until the attempt has so many answers, those that it was given anew included."""
        until(lambda: len(self.log(self.attempts[-1])) >= answers or self.done, 60)

    def billed(self) -> int:
        """How many of its requests the provider has billed."""
        keys = {body_key(body_of(self.name, number)) for number in range(PROMPTS)}
        return sum(each.key in keys for each in self.stage.stub.bills())

    def kill(self, targets: set[str]) -> bool:
        """Kill them at once, and start again what a user or a run would.

        Returns:
            Whether the eval had something left to do.
        """
        gateway = self.stage.gateway() if "gateway" in targets else 0
        if gateway:
            kill(gateway, signal.SIGSTOP)
            until(lambda: is_stopped(gateway))
        if "eval" in targets:
            kill(self.eval)
        if "runner" in targets:
            kill(self.stage.runner)
        if gateway:
            self.under_way |= self._open()
            kill(gateway)
        left = not self.done
        self.seen |= {line["id"] for line in self.lines() if line["kind"] == "answer"}
        if "runner" in targets:
            self.stage.start_runner()
        if "eval" in targets and not self.done:
            self._next_attempt()
        return left

    def _open(self) -> set[str]:
        """Requests sent without an end on record, and answers on record that nobody has yet."""
        lines = self.lines()
        ended = {line["id"] for line in lines if line["kind"] in {"answer", "failed"}}
        sent = {line["id"] for line in lines if line["kind"] == "sent"} - ended
        had = {bill for _, bill in self.log(self.attempts[-1])}
        given = {line["id"] for line in lines if line.get("attempt") == self.attempts[-1]} & ended
        answers = {line["id"]: bill_of(line) for line in lines if line["kind"] == "answer"}
        lost = {each for each in given if each in answers and answers[each] not in had}
        return sent | lost

    def check(self) -> None:
        """Nothing is lost, nothing given twice, and no more paid than has to be."""
        for attempt in self.attempts:
            bills = [bill for _, bill in self.log(attempt)]
            assert len(set(bills)) == len(bills), f"{attempt} was given a bill twice"
        assert sorted(n for n, _ in self.log(self.attempts[-1])) == list(range(PROMPTS))
        answers = [line for line in self.lines() if line["kind"] == "answer"]
        ids = [line["id"] for line in answers]
        assert len(set(ids)) == len(ids)
        assert self.seen <= set(ids), "an answer on record is lost"
        billed = self.billed()
        most = PROMPTS + len(self.under_way)
        assert PROMPTS <= billed <= most
        self._next_attempt()
        until(lambda: self.done, 60)
        assert self.billed() == billed, "a new attempt had to pay"
        assert {bill for _, bill in self.log(self.attempts[-1])} <= {bill_of(it) for it in answers}


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a process that may have gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def is_stopped(pid: int) -> bool:
    """Whether a process does nothing any more."""
    try:
        state = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "TZ"


def bill_of(line: dict[str, Any]) -> int:
    """The number of the bill that an answer on record names."""
    body = msgspec.json.decode(line["body"])
    return int(body["choices"][0]["message"]["content"].removeprefix("bill "))


@pytest.fixture
def helpers(stub: Provider) -> Iterator[Helpers]:
    """Those of one test."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.gateway_parts"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **NO_CERTIFICATES, "PYTHONPATH": str(ROOT)},
    ) as parts:
        yield Helpers(stub, parts)
        parts.terminate()


@contextmanager
def stage(folder: Path, helpers: Helpers) -> Iterator[Stage]:
    """The processes, which are gone at the end of the `with` block."""
    put(folder / "wanted", Wanted("none", "none"))
    found = Stage(folder, helpers)
    try:
        yield found
    finally:
        found.end()


def test_what_was_paid_for_survives_whoever_is_killed(
    decide: random.Random, tmp_path: Path, helpers: Helpers
) -> None:
    """Twice is paid at most what was under way when a gateway was killed, else nothing."""
    wanted = amount(50, 400)
    kills = met = 0
    with stage(tmp_path, helpers) as found:
        for number in itertools.count():
            delay = decide.choice([0.05, 0.1, 0.2])
            found.stub.behave(delay=delay)
            one = Round(found, f"e{number}")
            for _ in range(decide.randint(1, 4)):
                targets = decide.choice(TARGETS)
                one.wait_for(decide.randrange(PROMPTS - THREADS))
                time.sleep(decide.uniform(0, delay / 2))
                if one.done:
                    break
                print(one.name, *sorted(targets))
                met += one.kill(targets)
                kills += 1
            until(lambda: one.done, 60)  # noqa: B023 - at once
            found.stub.behave()
            one.check()
            print(one.name, one.billed(), "billed,", len(one.under_way), "under way")
            if kills >= wanted:
                break
    assert met > 0.9 * kills, f"{met} of {kills} kills met an eval that had something left to do"


def test_what_was_paid_for_survives_a_gateway_that_is_killed_at_a_call(
    decide: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helpers: Helpers
) -> None:
    """Before or after it writes, syncs or sends: as above, of what had no end on record."""
    monkeypatch.setattr(client, "MODULE", gateway_points.__name__)
    counts, met = tmp_path / "counts", tmp_path / "met"
    disturbed(tmp_path / "unharmed", Point(counts=str(counts), met=str(met)), helpers)
    until(counts.exists, 60)
    found = msgspec.json.decode(counts.read_bytes(), type=dict[str, int])
    assert found.keys() == gateway_points.CALLS.keys(), "the calls have other names now"
    points = [
        Point(kind=kind, number=number, way=way, counts=str(counts), met=str(met))
        for kind, count in found.items()
        for number in range(1, count + 1)
        for way in ("before", "after")
    ]
    were_met = 0
    chosen = decide.sample(points, amount(8, 200))
    for number, point in enumerate(chosen):
        print(point.kind, point.number, point.way)
        were_met += disturbed(tmp_path / f"{number}", point, helpers)
        met.unlink(missing_ok=True)
    assert were_met > 0.7 * len(chosen), f"{were_met} of {len(chosen)} points were met"


def disturbed(folder: Path, point: Point, helpers: Helpers) -> bool:
    """Bring an eval to its end with a gateway that is killed at this point; whether that was met.

    If it was, check what that cost.
    """
    folder.mkdir()
    put(folder / gateway_points.FILE, point)
    with stage(folder, helpers) as found:
        found.stub.behave(delay=0.02)
        one = Round(found, f"e-{folder.name}")
        until(lambda: one.done, 60)
        found.stub.behave()
        if not Path(point.met).exists():
            return False  # and the next attempt would meet it
        lines = one.lines()
        had = {bill for _, bill in one.log(one.attempts[-1])}
        answers = [line for line in lines if line["kind"] == "answer"]
        reached = {line["id"] for line in answers if bill_of(line) in had}
        # Nothing is billed that is not on record as sent, and each thread lost one answer at most.
        one.under_way = {line["id"] for line in lines if line["kind"] == "sent"} - reached
        assert len(one.under_way) <= THREADS
        one.check()
        return True
