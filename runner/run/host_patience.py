import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from runner.hosts.ssh import Unreachable, Unusable
from runner.report.display import Display
from runner.report.text import duration, evals

# Hosts that are looked at or get something at the same time.
AT_ONCE = 16

# Seconds between two attempts to reach a host.
PAUSE = 3.0

T = TypeVar("T")
U = TypeVar("U")


class Patience:
    """Does something with each host, and waits for one that is away and may have evals.

    Args:
        evals: how many an earlier run has started on each host that are not on record.
        wait: seconds for which hosts may be away, from when the first is found to be.
        display: tells people which hosts are waited for, and which cannot be used.
    """

    def __init__(self, evals: Mapping[str, int], wait: float, display: Display) -> None:
        self._evals = evals
        self._wait = wait
        self._end: float | None = None
        self._display = display
        self._over = threading.Event()

    def each(self, act: Callable[[T], U], hosts: Mapping[str, T]) -> list[U]:
        """What an act gives for each host; one where it fails is warned of and left out.

        Args:
            hosts: what the act gets, by the host's name.
        """
        found = []
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="equip") as pool:
            try:
                futures = [pool.submit(self._try, act, name, it) for name, it in hosts.items()]
                for future in futures:
                    try:
                        found.append(future.result())
                    except Unusable as error:
                        self._display.warn(f"left out: {error}")
            except BaseException:
                self._over.set()
                raise
        return found

    def _try(self, act: Callable[[T], U], name: str, host: T) -> U:
        told = False
        while True:
            try:
                done = act(host)
            except Unreachable:
                count = self._evals.get(name, 0)
                now = time.monotonic()
                self._end = self._end or now + self._wait
                left = self._end - now
                if not count or left <= 0:
                    raise
                if not told:
                    told = True
                    self._display.warn(
                        f"{name} cannot be reached, and may have {evals(count)} of an earlier run; "
                        f"it is tried for {duration(self._wait)} (--engine-wait)"
                    )
                if self._over.wait(min(PAUSE, left)):
                    raise
            else:
                if told:
                    self._display.note(f"{name} is back")
                return done
