"""What an agent keeps on its host's disk, so that it can be killed at any moment."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from runner.engine.engine import Engine
from runner.engine.leftovers import Leftover, find_leftovers
from runner.errors import EnvironmentFault
from runner.files import make_folder, named, replace, take_lock
from runner.model import Job, decode_command
from runner.records.folders import remove_tree
from runner.records.layout import Layout

# The host of labels: an agent finds its containers by its spool.
HOST = "agent"

# Seconds in which an agent that ends gives up its spool.
PATIENCE = 15.0


def known_as(id_: str) -> str:
    """What labels have for the spool of `local`, by the id of its progress directory."""
    return f"evalset:{id_}"


def local_agent(layout: Layout, id_: str) -> list[str]:
    """The command line of the agent of this machine; `id_` is as above."""
    spool = str(layout.hosts_spool)
    return [sys.executable, "-m", "runner.hosts", "agent", spool, "", known_as(id_)]


def layout_of(spool: Path) -> Layout:
    """Where an agent keeps what attempts leave, of whichever model and eval set they are."""
    return Layout(root=spool, model="model", eval_set="evals")


def left_in(engine: Engine, layout: Layout, label: str) -> list[Leftover]:
    """Containers of an agent, running or ended.

    Args:
        layout: of its spool.
        label: what they have for the spool, if not its path; then it may have been moved. If the
            folder of a container is still where it was, this spool is a copy, and not its own.
    """
    found = find_leftovers(engine.api, layout, HOST, known_as=label)
    if not label:
        return found
    return [one for one in found if not _is_elsewhere(engine, layout, one)]


def _is_elsewhere(engine: Engine, layout: Layout, one: Leftover) -> bool:
    about: dict[str, Any] = engine.api.inspect_container(one.container)
    (source,) = [
        Path(mount["Source"])
        for mount in about["Mounts"]
        if mount["Destination"] == "/tmp"  # noqa: S108 - inside the container
    ]
    return source != layout.private(one.attempt) and source.exists()


class Spool:
    """The folder of an agent: `.attempts` and `evallogs` as in a progress directory, and this.

    Attributes:
        layout: of what attempts leave.
        gateway: folder of the sockets of attempts.
        socket: the folder of the agent's own socket.
        known_as: what labels of containers have for it, if not its path: it may be moved.
    """

    def __init__(self, root: Path, known_as: str = "") -> None:
        make_folder(root)
        self._root = root
        self.known_as = known_as
        self.layout = layout_of(root)
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
        if not take_lock(self._lock, patience=PATIENCE):
            raise EnvironmentFault(f"another agent works in {self._root}")

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
        path = self._jobs / attempt
        new = path.with_name(f"{attempt}.new")
        with named(path, "write"):  # without an fsync: after a power loss it has ended, too
            new.write_bytes(msgspec.msgpack.encode(job))
            new.replace(path)

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

    def remove(self) -> None:
        """Remove all of it, because there is no attempt and no other agent will come."""
        with suppress(OSError):
            remove_tree(self._root)
            self._root.parent.rmdir()

    def free(self) -> int:
        """Bytes that are free on its disk."""
        about = os.statvfs(self._root)
        return about.f_bavail * about.f_frsize
