"""A host on which `evalset` runs: its engine, its name, its home, its files."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from runner.engine.labels import Label
from tests.conftest import Place, engine_api
from tests.hosts.engine import SecondEngine
from tests.hosts.remotes import Remote


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One of two hosts that share nothing but a remote.

    Attributes:
        place: its home and its files.
        engine: the engine of its own; None for that of the machine.
        name: the name that it calls itself.
    """

    place: Place
    engine: SecondEngine | None
    name: str

    @property
    def work(self) -> Path:
        """The folder in which its user types."""
        return self.place.folder / "work"

    def clone(self, remote: Remote) -> None:
        """Work in a clone of depth 1 from now on."""
        self.prepare(remote)
        self.work.rmdir()
        line = ["git", "clone", "--quiet", "--depth", "1", remote.url, str(self.work)]
        subprocess.run(line, check=True, env=self.place.environ())

    def prepare(self, remote: Remote) -> None:
        """Work in a folder that is no repository, with what its user needs to reach the remote."""
        self.work.mkdir(parents=True)
        (self.place.folder / ".gitconfig").write_text(remote.configuration)

    @contextmanager
    def running(self, *options: str) -> Iterator["subprocess.Popen[str]"]:
        """Start `evalset run` on this host, and see to it that it ends with the `with` block."""
        line, environ = self._started(options)
        with subprocess.Popen(
            line,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.work,
            env=environ,
        ) as process:
            try:
                yield process
            finally:
                self.kill(process)

    def run(self, *options: str) -> "subprocess.CompletedProcess[str]":
        """Run `evalset run` on this host, and wait for its end."""
        line, environ = self._started(options)
        return subprocess.run(
            line,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.work,
            env=environ,
            timeout=120,
        )

    def kill(self, process: "subprocess.Popen[str]") -> None:
        """Send SIGKILL to a run that `running` gave."""
        # What we started only stands before it, and waits for it.
        for number in [*_children(process.pid), process.pid]:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        process.wait()

    def containers(self) -> list[str]:
        """Ids of the containers of this host's progress directory."""
        api = self.engine.api if self.engine else engine_api()
        label = f"{Label.PROGRESS}={self.place.progress}"
        return [about["Id"] for about in api.containers(all=True, filters={"label": label})]

    def _started(self, options: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        line = self.place.line("--snapshot", "--snapshot-every", "1s", *options)
        variables = {}
        if self.engine is not None:
            variables["DOCKER_HOST"] = self.engine.address
            line = self.engine.inside(*line)
        else:
            rename = 'hostname "$1" && shift && exec "$@"'
            line = ["unshare", "--uts", "sh", "-c", rename, "sh", self.name, *line]
        return line, self.place.environ(**variables)


def _children(process: int) -> list[int]:
    with suppress(FileNotFoundError):
        return [
            int(each)
            for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()
        ]
    return []
