"""A run of many evals that do nothing, and what its process takes meanwhile."""

import json
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from tests.conftest import Place

# The runner, which tells at its end what its process still has.
PROGRAM = """
import json, os, sys, threading, time
from runner import cli
try:
    cli.main()
finally:
    # A thread that looks at something every so often ends when it looks the next time.
    end = time.monotonic() + 5
    while threading.active_count() > 1 and time.monotonic() < end:
        time.sleep(0.1)
    left = [thread.name for thread in threading.enumerate()]
    paths = [f"/proc/self/fd/{each}" for each in os.listdir("/proc/self/fd")]
    # The one by which they were listed is gone.
    descriptors = [os.readlink(path) for path in paths if os.path.lexists(path)]
    with open(os.environ["EVALSET_TEST_LEFT"], "w") as file:
        json.dump({"threads": left, "descriptors": descriptors}, file)
"""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What a process takes at a moment.

    Attributes:
        memory: bytes that are resident.
        descriptors: open files and sockets.
        threads: all of them.
    """

    memory: int
    descriptors: int
    threads: int


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What a process still has when its work is done.

    Attributes:
        threads: their names.
        descriptors: what they lead to.
    """

    threads: list[str]
    descriptors: list[str]


class Many(msgspec.Struct, frozen=True, kw_only=True):
    """How a run of many evals went.

    Attributes:
        samples: in the order of time.
        left: when it was done.
        ends: when each attempt ended, in seconds.
    """

    samples: list[Sample]
    left: Left
    ends: list[float]

    @property
    def peak(self) -> int:
        """The most memory in bytes."""
        return max(sample.memory for sample in self.samples)

    def part(self, number: int, of: int) -> Sample:
        """Medians over a part of the run, from 0."""
        size = len(self.samples) // of
        part = self.samples[number * size : (number + 1) * size]
        names = Sample.__struct_fields__
        median = statistics.median_low
        return Sample(**{name: median([getattr(one, name) for one in part]) for name in names})

    def seconds(self, number: int, of: int) -> float:
        """Time per eval in a part of the evals."""
        size = len(self.ends) // of
        part = self.ends[number * size : (number + 1) * size]
        return (part[-1] - part[0]) / (len(part) - 1)


def run_many(place: Place, count: int, *, at_once: int) -> Many:
    """Run so many evals, whose program is `true`."""
    place.registry(*(f"true.{number:04}" for number in range(count)))
    left = place.folder / "left.json"
    with_program = msgspec.structs.replace(place, program=("-c", PROGRAM))
    with (place.folder / "said.txt").open("w") as said:
        process = subprocess.Popen(
            with_program.line("--jobs", str(at_once)),
            stdout=said,
            stderr=subprocess.STDOUT,
            cwd=place.folder,
            env=place.environ(EVALSET_RUN_COMMAND="true", EVALSET_TEST_LEFT=str(left)),
        )
        samples = []
        while process.poll() is None:
            with suppress(OSError, StopIteration, KeyError):  # it has just ended
                samples.append(_sample(process.pid))
            time.sleep(0.2)
    if process.returncode:
        raise AssertionError((place.folder / "said.txt").read_text()[-2000:])
    ends = [datetime.fromisoformat(record.ended_at).timestamp() for record in place.records()]
    return Many(samples=samples, left=Left(**json.loads(left.read_text())), ends=sorted(ends))


def _sample(process: int) -> Sample:
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in status)
    return Sample(
        memory=int(found["VmRSS"].split()[0]) * 1024,
        descriptors=sum(1 for _ in Path(f"/proc/{process}/fd").iterdir()),
        threads=int(found["Threads"]),
    )


if __name__ == "__main__":
    place = Place(Path(sys.argv[1]), Path(sys.argv[1], "cache"), "evalset/test:program")
    many = run_many(place, int(sys.argv[2]), at_once=int(sys.argv[3]))
    parts = [many.part(number, 5) for number in range(5)]
    print(many.peak, *parts, [many.seconds(n, 5) for n in range(5)], many.left, sep="\n")
