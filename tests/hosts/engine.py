"""A second Docker engine on this machine, which is a host of its own as far as Docker can tell."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import docker

from tests.conftest import until

CGROUPS = Path("/sys/fs/cgroup")

# Bytes for images and containers. In memory: a disk takes seconds for each image.
DISK = 4 << 30


class SecondEngine:
    """An engine with its own images, containers, addresses and host name; needs root.

    It must never run in the machine's own network namespace: it would take away the bridge of the
    machine's engine there.

    Attributes:
        name: its host's name, and that of its network namespace and its cgroups.
        address: for DOCKER_HOST.
        folder: its disk, and what only the test knows.
        network: its network namespace.
    """

    # What the host's first process does, given the host's name, its folder, and the engine's
    # arguments.
    START = 'hostname "$1" && shift 2 && exec dockerd "$@"'

    def __init__(self) -> None:
        # Not below pytest's folders, because a socket's path has room for 107 characters.
        self.name = f"evalset-host-{uuid.uuid4().hex[:8]}"
        folder = Path(tempfile.gettempdir(), self.name)
        folder.mkdir(mode=0o700)
        self.address = f"unix://{folder}/run/docker.sock"
        self.folder = folder
        self.network = Path("/run/netns", self.name)
        self._process: subprocess.Popen[bytes] | None = None
        self._client: docker.APIClient | None = None
        (folder / "daemon.json").write_text("{}")
        self.mount("data", DISK)

    @property
    def on(self) -> bool:
        """Whether the host has power."""
        return self._process is not None

    @property
    def api(self) -> docker.APIClient:
        """A client of this engine."""
        if self._client is None:
            self._client = docker.APIClient(base_url=self.address, timeout=60)
        return self._client

    def power_on(self) -> None:
        """Start the engine, with all that it had on its disk, and wait for its answer."""
        self.begin()
        self.wait()

    def begin(self) -> None:
        """Start the engine; `wait` is until it answers."""
        if not self.network.exists():
            self.add_network()
        # What a machine keeps in /run is gone once it starts again, process numbers above all.
        until(self._without_run)
        (self.folder / "run").mkdir()
        line: list[str | Path] = [
            *("nsenter", f"--net={self.network}", "unshare", "--pid", "--mount", "--uts"),
            *("--fork", "--kill-child", "--mount-proc", "sh", "-c", self.START),
            *("sh", self.name, self.folder),
            *("--config-file", self.folder / "daemon.json", "--data-root", self.folder / "data"),
            *("--exec-root", self.folder / "run", "--pidfile", self.folder / "run/pid"),
            *("--host", self.address, "--cgroup-parent", f"/{self.name}"),
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(line, stdout=log, stderr=log, env=self.environ())

    def wait(self) -> None:
        """Wait until the engine answers."""
        until(self._answers, seconds=60)

    def power_off(self) -> None:
        """Take the power away: engine, containers and every other process there end at once."""
        assert self._process
        self._process.kill()
        self._process.wait()
        self._process = None
        if self._client:
            self._client.close()
            self._client = None

    def environ(self) -> dict[str, str]:
        """The variables of the host's first process."""
        return dict(os.environ)

    def inside(self, *line: str) -> list[str]:
        """The command line of a process of this host, on the machine's network.

        So it reaches a server on loopback, and ends with the host's power all the same.
        """
        (first,) = self._children()
        return ["nsenter", "--target", first, "--pid", "--mount", "--uts", "--", *line]

    def load(self, image: str) -> None:
        """Bring an image over from the machine's engine."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
            do("docker", "--host", self.address, "load", stdin=saved.stdout)
        assert saved.returncode == 0

    def remove(self) -> None:
        """Leave nothing of this host on the machine."""
        if self.on:
            self.power_off()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([each for each in mounts if each.startswith(f"{self.folder}/")]):
            do("umount", "--lazy", mount)
        if self.network.exists():
            do("ip", "netns", "delete", self.name)
        until(self._without_cgroups)
        shutil.rmtree(self.folder)

    def leftovers(self) -> list[str]:
        """What of this host is still on the machine."""
        mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if self._is(line)]
        folders = [path for path in (self.folder, self.network) if path.exists()]
        return [*mounts, *map(str, [*folders, *self._cgroups()]), *self._processes()]

    def mount(self, name: str, size: int) -> Path:
        """Have a folder that is a file system of so many bytes."""
        folder = self.folder / name
        folder.mkdir()
        do("mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder)
        return folder

    def add_network(self) -> None:
        """Make its network namespace, with loopback alone."""
        do("ip", "netns", "add", self.name)
        do("ip", "-n", self.name, "link", "set", "lo", "up")

    def _is(self, text: str) -> bool:
        return str(self.folder) in text or self.name in text

    def _answers(self) -> bool:
        assert self._process
        assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(10)
            asking.connect(self.address.removeprefix("unix://"))
            asking.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in asking.recv(64)
        return False

    def _children(self) -> Sequence[str]:
        assert self._process
        number = self._process.pid
        return Path(f"/proc/{number}/task/{number}/children").read_text().split()

    def _cgroups(self) -> list[Path]:
        places = [CGROUPS, *CGROUPS.iterdir()]
        return sorted({place / self.name for place in places if (place / self.name).is_dir()})

    def _without_cgroups(self) -> bool:
        """Remove the cgroups; the kernel refuses for as long as a process is still dying there."""
        for top in self._cgroups():
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        return not self._cgroups()

    def _without_run(self) -> bool:
        """Remove what lies in /run; a process that is still dying may put something there."""
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        return not (self.folder / "run").exists()

    def _processes(self) -> Iterator[str]:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if self._is(line := path.read_bytes().replace(b"\0", b" ").decode()):
                    yield line


def do(*line: str | Path, **settings: object) -> None:
    """Run a command line that must succeed."""
    done = subprocess.run(line, capture_output=True, text=True, check=False, **settings)  # type: ignore[call-overload] # passed on as they are
    assert done.returncode == 0, f"{line}: {done.stderr}"
