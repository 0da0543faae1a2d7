"""Containers that run an eval until it has loaded its data, and what became of them.

Each writes into a folder of the cache. It has no model, so that the eval usually fails at the end.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from runner.data import paths
from runner.data.cache import remove
from runner.data.lock import ELSEWHERE, DataLock
from runner.engine import docker_py
from runner.engine.container import Container, ContainerSpec
from runner.engine.container import remove as remove_container
from runner.engine.engine import as_environment_fault
from runner.engine.image_probe import NO_SUCH_COMMAND
from runner.engine.run_facts import RunFacts
from runner.errors import EnvironmentFault, RunnerError
from runner.files import read_bytes, room, used
from runner.host import KEYLESS_MODEL
from runner.model import Job, key_of
from runner.records.logs import last_lines

# By this label containers that fetch are found again; its value is the cache's folder.
LABEL = "evalset.data"

# Bytes: larger than any data, because the disk is the only limit.
_ANY_SIZE = 2**60

# Seconds between two looks at how much has come.
_LOOK = 1.0

# What an eval printed, in its private folder.
CONSOLE = "console.log"

# A disk with fewer bytes free than this is full.
_FULL = 2**16

_NO_ROOM = ("No space left on device", "Errno 28", "Disk quota exceeded")


class OneEvalFails(RunnerError):
    """The data of one eval cannot be fetched; those of others perhaps can."""


class FetchContainers:
    """Makes the containers of one fetch.

    Args:
        api: a client.
        facts: what the containers of a run of these evals would share.
        root: of the cache.
        pinned: what the data of an eval have to be, by eval.
        has: told an eval and the bytes of its data that are here by now.
    """

    def __init__(
        self,
        api: docker_py.Api,
        facts: RunFacts,
        root: Path,
        pinned: Mapping[str, DataLock],
        has: Callable[[str, int], None],
    ) -> None:
        self._api = api
        self._facts = facts
        self._root = root
        self._pinned = pinned
        self._has = has
        self._running: set[str] = set()
        self._stopped = threading.Event()

    def run(self, job: Job, folder: Path) -> None:
        """Run an eval until it has loaded its data, with a private folder that the data stay in.

        Raises:
            OneEvalFails: it cannot load them; other evals may be able to.
            EnvironmentFault: no eval can.
        """
        settings = job.settings
        if settings.network == "none":
            raise OneEvalFails(
                f"{job.eval} gets no network (--network none, or a rule in containers/)",
                "fetch with --network NAME",
            )
        spec = self._spec(job, folder)
        with as_environment_fault():
            container = Container.create(self._api, spec)
            self._running.add(container.id)
            try:
                container.start(spec)
                ended = self._wait(container, job, folder)
                status = container.state().exit_code if ended else None
                with contextlib.suppress(OSError):  # of a full disk, which is seen below
                    container.save_console(folder / CONSOLE)
            finally:
                self._running.discard(container.id)
                remove_container(self._api, container.id)
        if status is None:
            limit = f"{settings.timeout:g} s"
            raise OneEvalFails(
                f"{job.eval} has not loaded its data within {limit}",
                "raise --timeout; what was fetched so far is kept",
            )
        self._judge(job, folder, status)

    def _wait(self, container: Container, job: Job, folder: Path) -> bool:
        """Wait until a container has ended; tell whether it did in time."""
        began = time.monotonic()
        while not container.wait(_LOOK):
            if self._stopped.is_set() or time.monotonic() - began > job.settings.timeout:
                return False
            if (size := used(folder / paths.OWN)) is not None:
                self._has(job.eval, size.size)
        return True

    def _spec(self, job: Job, folder: Path) -> ContainerSpec:
        pins = self._pinned.get(job.eval)
        spec = self._facts.spec(job, folder.name)
        # An engine may serve several users, who fetch the same.
        cache = key_of([self._facts.host, str(self._root)])
        command = (job.argv.program, KEYLESS_MODEL, job.eval, *job.argv.arguments)
        return msgspec.structs.replace(
            spec,
            name=f"evalset-data-{folder.name.removeprefix('.fetching-')[:100]}-{cache}",
            argv=(*command, "--max_samples", "1"),
            private=folder,
            mounts={**spec.mounts, **paths.MOUNTS},
            environment={
                **spec.environment,
                **paths.fetching(json.dumps(pins.revisions if pins else {})),
                **paths.python_path(self._facts.python_path_of(job.settings, spec.environment)),
            },
            labels={LABEL: str(self._root)},
            settings=msgspec.structs.replace(spec.settings, tmp_limit=_ANY_SIZE),
        )

    def _judge(self, job: Job, folder: Path, status: int) -> None:
        """Refuse the data of an eval that could not load all of them; say why."""
        problems = read_bytes(folder / paths.PROBLEMS).decode(errors="replace").splitlines()
        said = "\n".join(last_lines(folder / CONSOLE, 30))
        missing = [line for line in problems if line.startswith("missing ")]
        if not status and not missing:
            return
        if room(self._root).free < _FULL or any(sign in said for sign in _NO_ROOM):
            raise EnvironmentFault(
                f"cannot keep the data of {job.eval}: the disk of {self._root} is full",
                f"make room there, or point {ELSEWHERE} elsewhere; what was fetched so far is kept",
            )
        gone = [line for line in problems if line.startswith("gone ")]
        if gone and (pins := self._pinned.get(job.eval)):
            commits = ", ".join(
                f"{commit[:12]} of {name}"
                for name, branches in pins.revisions.items()
                for commit in branches.values()
            )
            raise OneEvalFails(
                f"{job.eval} is pinned to a revision that is gone from the hub: {commits}",
                "copy its folder from the cache of a host that has it, or fetch what is there now "
                "with `--refresh`",
            )
        away = [line for line in problems if line.startswith("away ")]
        if away:
            host_, _, why = away[0].removeprefix("away ").partition(": ")
            raise EnvironmentFault(
                f"{host_} cannot be reached for the data of {job.eval}: {why}",
                "check the network, proxies and HF_ENDPOINT; what was fetched so far is kept",
            )
        if missing:
            raise OneEvalFails(f"{job.eval} could not get {missing[0].removeprefix('missing ')}")
        if said.startswith(NO_SUCH_COMMAND.decode()):
            raise EnvironmentFault(
                f"the image {job.settings.image} has no command {job.argv.program!r}",
                "choose another --image",
            )
        last = said.strip().splitlines()[-1:] or ["it said nothing"]
        raise OneEvalFails(
            f"{job.eval} ended with status {status} while its data were fetched: {last[0]}"
        )

    def stop(self) -> None:
        """Remove the containers that run; what they have fetched is kept."""
        self._stopped.set()
        for container in tuple(self._running):
            remove_container(self._api, container)

    def remove_leftovers(self) -> None:
        """Remove the containers of a fetch that was killed; the caller has its lock."""
        label = f"{LABEL}={self._root}"
        with as_environment_fault():
            for about in self._api.containers(all=True, filters={"label": label}):
                remove_container(self._api, about["Id"])


def make_ready(folder: Path) -> None:
    """Prepare a private folder; files that an interrupted fetch got stay, but none made of them."""
    remove(folder / paths.OWN / paths.PREPARED)
    for name in (paths.PROBLEMS, CONSOLE):
        (folder / name).unlink(missing_ok=True)
    # nltk writes only to a folder that is there.
    (folder / paths.OWN / "nltk").mkdir(parents=True, exist_ok=True)
