"""The gateway's process: what it adds to a request, and what many answers on record cost."""

import os
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.figure import PYTHON, ROOT, Figure
from runner.gateway.providers import Route
from runner.gateway.requests import asked
from runner.gateway.store import utc
from runner.records.answers import Answer, Request, Reserved, Sent, Usage
from tests.gateway.desk import CHAT, Desk, desk, prompt
from tests.provider import Provider, provider

PROGRAM = Path(__file__).with_name("programs") / "ask.py"

AT_ONCE = 32
DELAY = 0.2

# Goals: milliseconds that are added, requests a second, seconds, MB.
ADDED = {50: 3.0, 99: 20.0}
RATE = 800
START = 0.5
MEMORY = 120


@contextmanager
def stub(*, delay: float = 0, answer: str = "an answer") -> Iterator[Provider]:
    """A provider whose files are in memory, so that its syncs do not slow those of the gateway."""
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
        provider(Path(folder), delay=delay, answer=answer) as found,
    ):
        yield found


class Asked(NamedTuple):
    """Seconds of all requests together, and of each."""

    whole: float
    each: list[float]


def _ask(where: Path | int, path: str, each: int, connections: str, spread: float) -> Asked:
    """Ask from `AT_ONCE` clients, each so often, with prompts that were not asked before."""
    arguments = where, path, AT_ONCE, each, connections, spread, uuid.uuid4().hex
    done = subprocess.run(
        [PYTHON, PROGRAM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    whole, *took = map(float, done.stdout.split())
    return Asked(whole, took)


def latency(rounds: int, each: int = 10) -> list[Figure]:
    """What the gateway adds to a provider's 200 ms, against asking that directly."""
    through, directly = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        stub(delay=DELAY) as provider,
        desk(Path(folder), provider) as found,
    ):
        socket = found.enter().folder / "api.sock"
        for _ in range(rounds):
            through += _ask(socket, CHAT, each, "new", DELAY).each
            directly += _ask(provider.port, "/v1/chat/completions", each, "new", DELAY).each
    return [_added(through, directly, percent, rounds) for percent in ADDED]


def _added(
    through: Sequence[float], directly: Sequence[float], percent: int, rounds: int
) -> Figure:
    ours, theirs = (
        1000 * statistics.quantiles(each, n=100)[percent - 1] for each in (through, directly)
    )
    return Figure(
        name=f"what the gateway adds at {AT_ONCE} requests at once, p{percent}, "
        f"of {ADDED[percent]:g} ms",
        ratio=(ours - theirs) / ADDED[percent],
        goal=1.0,
        unit="ms",
        ours=ours - theirs,
        theirs=ADDED[percent],
        runs=rounds,
        what=f"p{percent} through the gateway less p{percent} of a provider that takes "
        f"{1000 * DELAY:g} ms, {theirs:.1f} ms; new connections; `theirs` is the limit",
    )


def rate(runs: int, each: int = 60) -> list[Figure]:
    """Requests a second of one gateway, on the clock and of its own CPU time."""
    with (
        tempfile.TemporaryDirectory() as folder,
        stub() as provider,
        desk(Path(folder), provider) as found,
    ):
        socket = found.enter().folder / "api.sock"
        pid = found.standing().pid
        _ask(socket, CHAT, 5, "kept", 0)
        took, used = [], []
        for _ in range(runs):
            before = _cpu(pid)
            took.append(_ask(socket, CHAT, each, "kept", 0).whole)
            used.append(_cpu(pid) - before)
    requests = each * AT_ONCE
    what = f"{AT_ONCE} clients, a provider of 0 ms, each answer synced before it is given"
    return [
        Figure(
            name=f"requests {per} through one gateway, of {RATE}",
            ratio=requests / statistics.median(seconds) / RATE,
            goal=1.0,
            unit="requests/s",
            ours=requests / statistics.median(seconds),
            theirs=RATE,
            runs=runs,
            what=f"{what}; {more}`theirs` is the limit",
            at_least=True,
        )
        for per, seconds, more in (
            ("a second", took, "clients and provider share the CPUs; "),
            ("per second of its CPU", used, ""),
        )
    ]


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, with the kernel's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def on_record(runs: int, answers: int) -> list[Figure]:
    """Start with an eval that has very many answers, and the memory that takes."""
    starts, memory = [], []
    with tempfile.TemporaryDirectory() as folder, stub() as provider:
        found = Desk(Path(folder), provider)
        _write(found.file(), answers, found.config.routes)
        for run in range(runs + 1):  # the first one reads all, and saves an index
            try:
                began = time.perf_counter()
                found.start()
                answer = found.enter(f"a{run}").ask(prompt(f"sample {answers // 2}"))
                starts.append(time.perf_counter() - began)
                memory.append(_peak(found.standing().pid))
            finally:
                found.clear()
            if answer.text() != "an answer on record" or provider.requests():
                raise SystemExit(f"that was not replayed: {answer}")
    what = f"one eval with {answers} answers on record, indexed before; `theirs` is the limit"
    return [
        Figure(
            name=f"from the gateway's start to its first replay, of {START:g} s",
            ratio=statistics.median(starts[1:]) / START,
            goal=1.0,
            unit="s",
            ours=statistics.median(starts[1:]),
            theirs=START,
            runs=runs,
            what=what,
        ),
        Figure(
            name=f"the gateway's memory with {answers} answers, of {MEMORY} MB",
            ratio=max(memory) / MEMORY,
            goal=1.0,
            unit="MB",
            ours=max(memory),
            theirs=MEMORY,
            runs=runs,
            what=f"{what}; the most that was resident, also of a gateway that reads all",
        ),
    ]


def _peak(pid: int) -> float:
    """The most that was resident of a process, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(peak) * 1024 / 1e6


def _write(path: Path, answers: int, routes: dict[str, Route]) -> None:
    """Write an answers file as a gateway does, one request for each answer."""
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        for number in range(answers):
            for line in _lines(number, routes):
                file.write(msgspec.json.encode(line) + b"\n")


def _lines(number: int, routes: dict[str, Route]) -> tuple[Request, Sent, Answer]:
    content = prompt(f"sample {number}")
    wanted = asked(routes, "POST", CHAT, msgspec.json.encode(content), {})
    name, sample = f"{number:016x}", f"bench.dev.{number}"
    message = {"role": "assistant", "content": "an answer on record"}
    body = {"id": name, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    request = Request(
        key=wanted.key, route=wanted.route, method="POST", path=wanted.path, body=content
    )
    sent = Sent(
        id=name,
        key=wanted.key,
        attempt="before",
        sample=sample,
        at=utc(),
        model="m",
        reserved=Reserved(tokens=500),
    )
    answer = Answer(
        id=name,
        key=wanted.key,
        attempt="before",
        sample=sample,
        at=utc(),
        seconds=0.3,
        headers={"content-type": "application/json", "x-request-id": f"req_{number}"},
        body=msgspec.json.encode(body).decode(),
        model="m",
        usage=Usage(input=20, output=5),
    )
    return request, sent, answer
