import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.conftest import until
from tests.hosts.engine import SecondEngine


class RestartingEngine(SecondEngine):
    """An engine that is started again whenever it ends, as a service is; its host keeps running."""

    # An engine that was killed leaves its number, which another process may have by now.
    START = """
hostname "$1" && shift 2
for each; do test "$before" = --pidfile && number=$each; before=$each; done
while :; do rm -f "$number"; dockerd "$@"; sleep 0.5; done
"""

    def end(self, number: signal.Signals) -> None:
        """Send the engine a signal, and wait for the one that comes after it."""
        (before,) = until(self._engines)
        os.kill(before, number)
        until(lambda: [each for each in self._engines() if each != before], 60)
        until(self._answers, 60)

    def lose_power(self) -> None:
        """End everything on the host at once, and start it again."""
        self.power_off()
        self.power_on()

    def _engines(self) -> list[int]:
        """The numbers of the engine's process: one, or none while it is away."""
        found = []
        for first in self._children():
            children = _told(f"/proc/{first}/task/{first}/children").split()
            found += [int(each) for each in children if _told(f"/proc/{each}/comm") == "dockerd\n"]
        return found


def _told(path: str) -> str:
    """What a file of a process says; nothing where the process has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(path).read_text()
    return ""
