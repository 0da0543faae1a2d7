"""Runs over hosts with engines of their own on this machine, and over hosts that only pretend."""

import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import docker

from bench.figure import Figure, in_turn, seconds
from runner.image.build import BASE_NAME
from runner.image.image import find_image
from runner.options import DEFAULT_IMAGE
from tests.conftest import DOCKERFILE, PROGRAM, TEST_IMAGE, Place, engine_api, until
from tests.hosts.farm import Taken, alone_on_farm
from tests.hosts.lab import Lab, LabHost, lab
from tests.images import build_image

# Seconds that a host may be away in the figure about one that does not come back.
WAIT = 5

ROOM = ("--min-free-disk", "10m")

# Evals at once on each host, in the figure about two against one.
AT_ONCE = 5


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
            two_against_one(hosts, runs=2),
            overhead(hosts, runs=3),
            lost_host(hosts),
            adoption(hosts),
            *simulated(),
        ]


def two_against_one(hosts: Lab, runs: int, count: int = 60) -> Figure:
    """Evals that sleep, over two hosts against one, beside the same containers without evalset."""
    before: list[float] = []

    def run(*chosen: LabHost) -> float:
        with _place([f"sleep.2.{number:02}" for number in range(count)]) as place:
            named = ",".join(f"{host.alias}={AT_ONCE}" for host in chosen)
            began = time.time()
            took = seconds(place.line("--hosts", named, *ROOM), env=_environ(place, hosts))
            starts = [each.started_at for each in place.records() if each.started_at]
            before.append(_time(min(starts)) - began)
            return took

    both, one = hosts.hosts, hosts.hosts[:1]
    took = [(run(*both), run(*one), _plain(both, count), _plain(one, count)) for _ in range(runs)]
    two, alone, plain_two, plain_alone = map(statistics.median, zip(*took, strict=True))
    return Figure(
        name=f"{count} evals of 2 s on two hosts against one, beside the same containers alone",
        ratio=(two / alone) / (plain_two / plain_alone),
        goal=1.1,
        unit="of the time on one",
        ours=two / alone,
        theirs=plain_two / plain_alone,
        runs=runs,
        what=f"evalset run --hosts, {AT_ONCE} at once on each: {two:.1f} s and {alone:.1f} s, "
        f"{statistics.median(before):.1f} s of it before the first eval starts; the same engines "
        f"asked for the same containers, {AT_ONCE} at once on each: {plain_two:.1f} s and "
        f"{plain_alone:.1f} s, which is the limit, as all hosts share this machine's cores",
    )


def _plain(chosen: Sequence[LabHost], count: int) -> float:
    """Seconds that engines take for containers of the same program, which each takes in turn."""
    left = iter(range(count))
    lock = threading.Lock()

    def work(host: LabHost) -> None:
        with closing(docker.APIClient(base_url=host.address, timeout=60)) as api:
            while True:
                with lock:
                    number = next(left, None)
                if number is None:
                    return
                line = ["/bin/program", "m", f"sleep.2.{number:02}"]
                limits = api.create_host_config(
                    init=True,
                    read_only=True,
                    network_mode="none",
                    tmpfs={"/tmp": ""},
                    mem_limit="64m",
                    cap_drop=["ALL"],
                    security_opt=["no-new-privileges"],
                )
                made = api.create_container(TEST_IMAGE, line, host_config=limits)
                api.start(made)
                if api.wait(made)["StatusCode"]:
                    raise SystemExit(f"a container has failed: {api.logs(made).decode()}")
                api.remove_container(made, v=True)

    began = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE * len(chosen)) as pool:
        for done in [pool.submit(work, host) for host in chosen for _ in range(AT_ONCE)]:
            done.result()
    return time.perf_counter() - began


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

    # They outlast the figure; hundreds that look for a file all the time would be felt.
    with _place([f"sleep.9999.{number:03}" for number in range(count)]) as place:
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
    few, many = (_on_farm(hosts) for hosts in (10, 1000))
    what = "2000 evals that only pretend; agents in another process, connections and records real"
    return [
        Figure(
            name="the runner's memory with 1000 hosts, of 2 GB",
            ratio=many.memory / 2e9,
            goal=1.0,
            unit="MB",
            ours=many.memory / 1e6,
            theirs=2000.0,
            runs=1,
            what=f"{what}; `theirs` is the limit",
        ),
        Figure(
            name="the runner's memory with 1000 hosts against 10",
            ratio=many.memory / few.memory,
            goal=1.5,
            unit="MB",
            ours=many.memory / 1e6,
            theirs=few.memory / 1e6,
            runs=1,
            what=what,
        ),
        Figure(
            name="the runner's threads with 1000 hosts, of 50",
            ratio=many.threads / 50,
            goal=1.0,
            unit="threads",
            ours=many.threads,
            theirs=50,
            runs=1,
            what=f"{what}; with 10 hosts {few.threads}",
        ),
    ]


def _on_farm(hosts: int) -> Taken:
    with tempfile.TemporaryDirectory() as folder:
        return alone_on_farm(Path(folder), hosts=hosts, evals=2000)


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
