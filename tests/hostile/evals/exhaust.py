"""Take what there is of everything."""

import os
import signal
import time

from .tell import note


def fork(*_rest: str) -> None:
    """Double until the kernel refuses, and do not wait for anybody."""
    first = os.getpid()
    refused = 0
    while refused < 50:  # a copy goes on with its parent's number
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
