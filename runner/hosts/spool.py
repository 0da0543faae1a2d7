"""What an agent keeps on its host's disk, so that it can be killed at any moment."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from runner.errors import EnvironmentFault
from runner.files import make_folder, named, replace
from runner.model import Job, decode_command
from runner.records.folders import remove_tree
from runner.records.layout import Layout

# Seconds in which an agent that ends gives up its spool.
PATIENCE = 15.0


class Spool:
    """The folder of an agent: `.attempts` and `evallogs` as in a progress directory, and this.

    Attributes:
        layout: of what attempts leave.
        gateway: folder of the sockets of attempts.
        socket: the folder of the agent's own socket.
    """

    def __init__(self, root: Path) -> None:
        make_folder(root)
        self._root = root
        self.layout = Layout(root=root, model="model", eval_set="evals")
        self.gateway = root / ".gateway"
        self.socket = root
        self._jobs = root / "jobs"
        make_folder(self._jobs)
        self._lock = (root / "lock").open("ab")

    def hold(self) -> None:
        """Be the only agent here.

        Raises:
            EnvironmentFault: another one does not end.
        """
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise EnvironmentFault(f"another agent works in {self._root}") from None
                time.sleep(0.05)
            else:
                return

    @property
    def who(self) -> tuple[int, str]:
        """The newest runner: its epoch, and the id of its run."""
        with suppress(OSError, ValueError):
            epoch, run = (self._root / "runner").read_text().split()
            return int(epoch), run
        return 0, ""

    def keep_who(self, who: tuple[int, str]) -> None:
        """Serve no older runner from now on."""
        replace(self._root / "runner", " ".join(map(str, who)).encode())

    def keep(self, attempt: str, job: Job) -> None:
        """Put down what an attempt is to do, before it has a container."""
        replace(self._jobs / attempt, msgspec.msgpack.encode(job))

    def job(self, attempt: str) -> Job | None:
        """What an attempt is to do; None if that is not known."""
        with suppress(OSError, msgspec.DecodeError):
            content = (self._jobs / attempt).read_bytes()
            return msgspec.msgpack.decode(content, type=Job, dec_hook=decode_command)
        return None

    def forget(self, attempt: str, console: Path) -> None:
        """Remove what is kept of an attempt that is settled."""
        with suppress(OSError):
            console.unlink(missing_ok=True)
            (self._jobs / attempt).unlink(missing_ok=True)

    def tidy(self, attempts: set[str]) -> None:
        """Remove what is left of attempts that have no container."""
        for folder in (self._root / ".attempts", self.gateway, self._jobs):
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.name not in attempts:
                    with named(path, "delete"):
                        remove_tree(path) if path.is_dir() else path.unlink()
        console = self.layout.evallogs
        for path in console.rglob("*.console.log") if console.is_dir() else ():
            if path.name.partition("_")[0] not in attempts:
                path.unlink()

    def free(self) -> int:
        """Bytes that are free on its disk."""
        about = os.statvfs(self._root)
        return about.f_bavail * about.f_frsize
