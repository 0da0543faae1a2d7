"""Take what there is of everything."""

import itertools
import os
import signal
import time

from .tell import note


def fork(*_rest: str) -> None:
    """Double until the kernel refuses, and do not wait for anybody."""
    first = os.getpid()
    refused = 0
    while refused < 50:  # a copy continues from its parent's number
        try:
            os.fork()
        except OSError:
            refused += 1
            time.sleep(0.02)
    if os.getpid() != first:
        os._exit(0)
    note(refused=refused)


def memory(*_rest: str) -> None:
    """Take memory without end."""
    taken = []
    while True:
        taken.append(bytearray(os.urandom(1 << 20)))


def deaf(*_rest: str) -> None:
    """Ignore every signal, in a process that has left its parent and in this one."""
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue
    if os.fork() == 0:
        os.setsid()
    print("waiting", flush=True)
    while True:
        time.sleep(60)


def fill(how: str, *_rest: str) -> None:
    """Write to `/tmp` without end: many files, one file, or files that have no name any more."""
    held = []
    for number in itertools.count():
        name = "/tmp/one" if how == "one" else f"/tmp/{number}"
        file = open(name, "ab", buffering=0)  # noqa: SIM115 - held for as long as this runs
        held.append(file)
        if how == "nameless":
            os.unlink(name)
        file.write(bytes(1 << 18))
        time.sleep(0.02)
