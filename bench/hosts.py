"""Runs over hosts with engines of their own on this machine, and over hosts that only pretend."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from bench.figure import ROOT, Figure, in_turn, seconds
from runner.image.build import BASE_NAME
from runner.image.image import find_image
from runner.options import DEFAULT_IMAGE
from tests.conftest import DOCKERFILE, PROGRAM, TEST_IMAGE, Place, engine_api, until
from tests.hosts.lab import Lab, LabHost, lab
from tests.images import build_image

# Seconds that a host may be away in the figure about one that does not come back.
WAIT = 5

ROOM = ("--min-free-disk", "10m")

ON_FARM = """
import json, sys
from pathlib import Path
from tests.hosts.farm import Decisions, run_on_farm
hosts = int(sys.argv[2])
made = run_on_farm(Path(sys.argv[1]), Decisions(seed="1"), hosts=hosts, slots=2, evals=2000)
print(json.dumps([made.memory, made.threads]))
"""


def over_hosts() -> list[Figure]:
    """All figures of hosts."""
    api = engine_api()
    base = find_image(api, DEFAULT_IMAGE).labels[BASE_NAME]
    files = {"program.py": PROGRAM.read_bytes()}
    build_image(api, TEST_IMAGE, DOCKERFILE.format(base=base), files=files)
    with lab(2) as hosts:
        for image in (TEST_IMAGE, base):
            hosts.load(image)
        return [
            two_against_one(hosts, runs=3),
            overhead(hosts, runs=3),
            lost_host(hosts),
            adoption(hosts),
            *simulated(),
        ]


def two_against_one(hosts: Lab, runs: int, count: int = 60) -> Figure:
    """Evals that sleep, over two hosts against one."""

    def take(chosen: str) -> Callable[[], float]:
        def run() -> float:
            with _place([f"sleep.2.{number:02}" for number in range(count)]) as place:
                return seconds(place.line("--hosts", chosen, *ROOM), env=_environ(place, hosts))

        return run

    mine, other = in_turn(take("lab-a=5,lab-b=5"), take("lab-a=5"), runs)
    return Figure(
        name=f"{count} evals of 2 s on two hosts against one",
        ratio=mine / other,
        goal=0.6,
        unit="s",
        ours=mine,
        theirs=other,
        runs=runs,
        what="evalset run --hosts, 5 at once on each; all hosts share this machine's cores",
    )


def overhead(hosts: Lab, runs: int, count: int = 30) -> Figure:
    """What one eval takes longer on a host than here."""

    def take(*options: str, **variables: str) -> Callable[[], float]:
        def run() -> float:
            with _place([f"succeed.{number:02}" for number in range(count)]) as place:
                seconds(place.line(*options, *ROOM), env=_environ(place, hosts) | variables)
                ends = sorted(_time(each.ended_at) for each in place.records())
                return (ends[-1] - ends[0]) / (count - 1)

        return run

    same = hosts.hosts[0].address  # by its socket
    mine, other = in_turn(take("--hosts", "lab-a=1"), take("--jobs", "1", DOCKER_HOST=same), runs)
    return Figure(
        name="what an eval takes longer on a host than here, of 60 ms",
        ratio=(mine - other) / 0.06,
        goal=1.0,
        unit="s",
        ours=mine,
        theirs=other,
        runs=runs,
        what=f"evalset run, {count} evals that do nothing, one at a time on the same engine; from "
        "end to end; the ratio is of the difference to 60 ms",
    )


def lost_host(hosts: Lab) -> Figure:
    """From the end of a host until its evals run on another one."""
    options = ("--hosts", "lab-a=1,lab-b=2", "--engine-wait", f"{WAIT}s", *ROOM)

    def having() -> list[LabHost]:
        return [host for host in hosts.hosts if host.on and host.evals(every=False)]

    with _place(["wait.1"]) as place, place.running(*options, **hosts.environ()) as run:
        (first,) = until(having, seconds=60)
        first.attempts(ready=1)
        (other,) = (host for host in hosts.hosts if host is not first)
        began = time.monotonic()
        hosts.take_power(first)
        until(lambda: [each for each in place.records() if each.host == first.alias], seconds=120)
        other.attempts(ready=1)
        took = time.monotonic() - began
        run.send_signal(signal.SIGKILL)
        run.communicate()
    hosts.give_power(first)
    hosts.clear()
    return Figure(
        name="from a power loss until its evals run elsewhere, beyond --engine-wait, of 60 s",
        ratio=(took - WAIT) / 60,
        goal=1.0,
        unit="s",
        ours=took,
        theirs=WAIT + 60.0,
        runs=1,
        what="evalset run --hosts; the ratio is of what is above --engine-wait",
    )


def adoption(hosts: Lab, count: int = 200) -> Figure:
    """Until a new run has taken over what a killed one left running."""
    each = count // 2
    options = ("--hosts", f"lab-a={each},lab-b={each}", *ROOM)

    def running() -> int:
        return sum(len(host.evals(every=False)) for host in hosts.hosts)

    with _place([f"wait.{number:03}" for number in range(count)]) as place:
        said = place.folder / "said"
        with place.running(*options, **hosts.environ()) as run:
            until(lambda: running() == count, seconds=600)
            run.send_signal(signal.SIGKILL)
            run.communicate()
        began = time.monotonic()
        with said.open("wb") as file:
            line, environ = place.line(*options), _environ(place, hosts)
            with subprocess.Popen(line, stdout=file, stderr=file, env=environ) as again:
                until(lambda: said.read_text().count("started ") == count, seconds=120)
                took = time.monotonic() - began
                left = running()
                again.kill()
        if left != count:
            raise SystemExit(f"{left} containers run, which were {count}")
    hosts.clear()
    return Figure(
        name=f"until a new run has taken over {count} running containers on two hosts, of 20 s",
        ratio=took / 20,
        goal=1.0,
        unit="s",
        ours=took,
        theirs=20.0,
        runs=1,
        what="evalset run --hosts after a SIGKILL; `theirs` is the limit",
    )


def simulated() -> list[Figure]:
    """The runner's memory and threads, with few and with many hosts."""
    memory: dict[int, float] = {}
    threads: dict[int, int] = {}
    for hosts in (10, 1000):
        with tempfile.TemporaryDirectory() as folder:
            line = [sys.executable, "-c", ON_FARM, folder, str(hosts)]
            asked = subprocess.run(line, capture_output=True, check=True, cwd=ROOT)
        memory[hosts], threads[hosts] = json.loads(asked.stdout)
    what = "2000 evals that only pretend; agents in another process, connections and records real"
    return [
        Figure(
            name="the runner's memory with 1000 hosts against 10",
            ratio=memory[1000] / memory[10],
            goal=1.5,
            unit="MB",
            ours=memory[1000] / 10**6,
            theirs=memory[10] / 10**6,
            runs=1,
            what=what,
        ),
        Figure(
            name="the runner's threads with 1000 hosts, of 50",
            ratio=threads[1000] / 50,
            goal=1.0,
            unit="threads",
            ours=threads[1000],
            theirs=50,
            runs=1,
            what=f"{what}; with 10 hosts {threads[10]}",
        ),
    ]


@contextmanager
def _place(evals: Sequence[str]) -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), Path(folder, "cache"), TEST_IMAGE)
        place.registry(*evals)
        yield place


def _environ(place: Place, hosts: Lab) -> dict[str, str]:
    return place.environ(**hosts.environ())


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
