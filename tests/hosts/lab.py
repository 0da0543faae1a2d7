"""A lab: hosts with Docker and an SSH server, on a network of their own that can be cut."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from docker.errors import NotFound

from runner.engine.labels import Label
from tests.conftest import until
from tests.hosts.engine import SecondEngine, do
from tests.hosts.remotes import make_key, sshd, users_with_sshd

# Bytes that a host's disk has, on which its home folders and /var/lib are.
DISK = 1 << 30

SSHD_CONFIG = """
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
"""

SSH_CONFIG = """
Host *
    User root
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
"""

SSH_CONFIG_OF_ONE = """
Host {alias}
    HostName {address}
    HostKeyAlias {alias}
"""

# The user's settings of ssh are found by the user's entry in /etc/passwd, not by $HOME. A host of a
# lab is near: one that does not answer within this time is away.
SSH = """#!/bin/sh
exec {ssh} -F {folder}/ssh_config -o ConnectTimeout=6 "$@"
"""


class LabHost(SecondEngine):
    """A host that is reached by ssh; its engine has the usual socket there.

    Args:
        alias: what ssh knows it by.
        address: in the lab's network.
        user_key: who may log in as root.

    Attributes:
        ip: its address.
        host_key: the public key of its SSH server.
        disk: the file system that its home folders and /var/lib are on.
    """

    START = """
    hostname "$1" && mount -t tmpfs none /run && mkdir -m 755 /run/sshd &&
    mount --bind "$2/disk/home" /root && mount --bind "$2/disk/lib" /var/lib &&
    mount --bind "$2/passwd" /etc/passwd &&
    "$SSHD" -f "$2/sshd_config" -E "$2/sshd.log" &&
    shift 2 && exec dockerd --host unix:///run/docker.sock "$@"
    """

    def __init__(self, alias: str, address: str, user_key: str) -> None:
        super().__init__()
        self.alias = alias
        self.ip = address
        self.host_key = make_key(self.folder / "host_key")
        config = SSHD_CONFIG.format(address=address, folder=self.folder)
        (self.folder / "sshd_config").write_text(config)
        (self.folder / "passwd").write_text(users_with_sshd())
        self.disk = self.mount("disk", DISK)
        (self.disk / "home").mkdir(mode=0o700)
        (self.disk / "lib").mkdir()
        self._user_key = user_key
        self._copy_sshd()
        self.let_in()

    def environ(self) -> dict[str, str]:
        """What the SSH server needs besides what all have."""
        program, libraries = self.folder / "sshd", self.folder / "libraries"
        return {**super().environ(), "SSHD": str(program), "LD_LIBRARY_PATH": str(libraries)}

    def _copy_sshd(self) -> None:
        """Where the host finds it, whose home folder lies over that of this machine's root."""
        program, libraries = sshd()
        shutil.copy(program, self.folder / "sshd")
        shutil.copytree(libraries, self.folder / "libraries") if Path(libraries).exists() else None

    def let_in(self) -> None:
        """Take the user's key."""
        (self.folder / "authorized_keys").write_text(self._user_key)

    def let_in_with(self, before: str) -> None:
        """Take the user's key, and put this before each command that is run with it."""
        line = f'command="{before} /bin/sh -c \\"$SSH_ORIGINAL_COMMAND\\"" {self._user_key}'
        (self.folder / "authorized_keys").write_text(line)

    def lock_out(self) -> None:
        """Take the user's key no more."""
        (self.folder / "authorized_keys").write_text("")

    def fill(self, *, leave: int = 0) -> None:
        """Use up the disk, but for so many bytes."""
        block = bytes(1 << 16)
        with contextlib.suppress(OSError), (self.disk / "full").open("wb", buffering=0) as file:
            while (about := os.statvfs(self.disk)).f_bavail * about.f_frsize > leave:
                file.write(block[: max(4096, about.f_bavail * about.f_frsize - leave)])

    def empty(self) -> None:
        """Give the disk's room back."""
        (self.disk / "full").unlink(missing_ok=True)

    def signal(self, container: str, number: signal.Signals) -> None:
        """Send a signal to a container's program, and not by way of the engine.

        An engine that sends it remembers, and does not start the container again.
        """
        do(*self.inside("kill", f"-{number.value}", until(lambda: self._program(container))))

    def _program(self, container: str) -> str:
        """The number of a container's program: the child of Docker's own first process, if any."""
        first = str(self.api.inspect_container(container)["State"]["Pid"])
        if first == "0":  # between an end and the next start
            return ""
        shown = self.api.top(container)
        own, parent = (shown["Titles"].index(title) for title in ("PID", "PPID"))
        found = [each[own] for each in shown["Processes"] if each[parent] == first]
        return next(iter(found), first)

    def evals(self, *, every: bool = True) -> list[str]:
        """Ids of the containers of evals, or of the running ones alone."""
        listed = self.api.containers(all=every, filters={"label": Label.ATTEMPT})
        return [each["Id"] for each in listed]

    def agents(self) -> list[str]:
        """Ids of the agents' containers."""
        return [each["Id"] for each in self.api.containers(filters={"label": "evalset.agent"})]

    def attempts(self, ready: int = 0) -> list[Path]:
        """Wait until so many evals have said that they wait; give the private folders of all."""

        def are_ready() -> bool:
            said = [said_by(self, each) for each in self.evals(every=False)]
            return sum(b"waiting" in text for text in said) >= ready

        until(are_ready, seconds=60)
        return sorted((self.disk / "home/.evalset/spool").glob("*/.attempts/*"))

    def left(self) -> list[str]:
        """What is there of evals, besides what agents keep for the next run."""
        folders = (self.disk / "home/.evalset/spool").glob("*/.attempts/*")
        return [*self.evals(), *map(str, folders)]

    def clear(self) -> None:
        """Leave the host as it was: no containers, nothing on its disk."""
        if not self.on:
            self.power_on()
        for about in self.api.containers(all=True):
            self.api.remove_container(about["Id"], force=True, v=True)
        self.let_in()
        for folder in ("home", "lib"):
            for path in (self.disk / folder).iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.empty()


class Switch:
    """What hosts are plugged into: a bridge in a network namespace of its own, and this machine.

    Attributes:
        subnet: the first three numbers of its addresses.
        uplink: this machine's interface there.
    """

    def __init__(self) -> None:
        self._name = f"evalset-switch-{uuid.uuid4().hex[:8]}"
        # Of the network that is set aside for measurements: RFC 2544.
        self.subnet = f"198.18.{os.getpid() % 256}"
        self._plugs: dict[str, str] = {}
        do("ip", "netns", "add", self._name)
        do("ip", "-n", self._name, "link", "add", "bridge", "type", "bridge")
        do("ip", "-n", self._name, "link", "set", "bridge", "up")
        self.uplink = self.plug(None, 1)

    def plug(self, host: str | None, number: int) -> str:
        """Connect a network namespace, or this machine; give the name of its interface there."""
        here, there = (f"ev{uuid.uuid4().hex[:8]}" for _ in range(2))
        address = f"{self.subnet}.{number}"
        where = ["-n", host] if host else []
        do("ip", "-n", self._name, "link", "add", here, "type", "veth", "peer", "name", there)
        do("ip", "-n", self._name, "link", "set", there, "netns", host or str(os.getpid()))
        do("ip", *where, "address", "add", f"{address}/24", "dev", there)
        do("ip", *where, "link", "set", there, "up")
        do("ip", "-n", self._name, "link", "set", here, "master", "bridge", "up")
        self._plugs[address] = here
        return there

    def pull(self, address: str) -> None:
        """Cut a host off: what is sent is lost, and nobody is told."""
        do("ip", "-n", self._name, "link", "set", self._plugs[address], "down")

    def join(self, address: str) -> None:
        """Connect a host again."""
        do("ip", "-n", self._name, "link", "set", self._plugs[address], "up")

    def remove(self) -> None:
        """Take the network away, with its end on this machine."""
        do("ip", "netns", "delete", self._name)


class Lab:
    """Some hosts, and how this machine's user reaches them.

    Attributes:
        hosts: `lab-a`, `lab-b` ..., in this order.
        bin: folder with an `ssh` that knows them, for PATH.
    """

    def __init__(self, count: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="evalset-lab-"))
        self.hosts: list[LabHost] = []
        self.bin = self.folder / "bin"
        with contextlib.ExitStack() as undo:
            undo.callback(self.remove)
            self._switch = Switch()
            key = make_key(self.folder / "user_key")
            for number in range(count):
                address = f"{self._switch.subnet}.{number + 10}"
                self.hosts.append(LabHost(f"lab-{chr(97 + number)}", address, key))
                self.hosts[-1].add_network()
                self._switch.plug(self.hosts[-1].name, number + 10)
            self._introduce()
            for host in self.hosts:
                host.begin()
            for host in self.hosts:
                host.wait()
            undo.pop_all()

    @property
    def plug(self) -> str:
        """This machine's interface in the lab's network."""
        return self._switch.uplink

    @property
    def names(self) -> str:
        """All hosts, as `--hosts` takes them."""
        return ",".join(host.alias for host in self.hosts)

    def environ(self) -> dict[str, str]:
        """Variables with which a program reaches the hosts."""
        return {"PATH": f"{self.bin}:{os.environ['PATH']}"}

    def cut(self, host: LabHost) -> None:
        """Cut a host off from this machine."""
        self._switch.pull(host.ip)

    def join(self, host: LabHost) -> None:
        """Connect a host again."""
        self._switch.join(host.ip)

    def take_power(self, host: LabHost) -> None:
        """Take a host's power away; it has no time to close its connections."""
        self.cut(host)
        host.power_off()

    def give_power(self, host: LabHost) -> None:
        """Let a host start again."""
        host.power_on()
        self.join(host)

    def ssh(
        self, host: LabHost, *line: str, options: Sequence[str] = ()
    ) -> "subprocess.CompletedProcess[str]":
        """Run something on a host by ssh."""
        return subprocess.run(
            [
                *("ssh", "-F", self.folder / "ssh_config", "-o", "BatchMode=yes"),
                *(*options, host.alias, *line),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def load(self, *images: str) -> None:
        """Bring images over from the machine's engine to all hosts."""
        saved = self.folder / "images.tar"
        do("docker", "save", "--output", saved, *images)
        for host in self.hosts:
            do("docker", "--host", host.address, "load", "--input", saved)
        saved.unlink()

    def clear(self) -> None:
        """Leave all hosts as they were, connected and without anything."""
        for host in self.hosts:
            self.join(host)
            host.clear()

    def remove(self) -> None:
        """Leave nothing of the lab on this machine."""
        for host in self.hosts:
            host.remove()
        if hasattr(self, "_switch"):
            self._switch.remove()
        shutil.rmtree(self.folder)

    def _introduce(self) -> None:
        parts = [SSH_CONFIG.format(folder=self.folder)]
        parts += [SSH_CONFIG_OF_ONE.format(alias=h.alias, address=h.ip) for h in self.hosts]
        (self.folder / "ssh_config").write_text("".join(reversed(parts)))
        known = [f"{host.alias} {host.host_key}" for host in self.hosts]
        (self.folder / "known_hosts").write_text("".join(known))
        self.bin.mkdir()
        program = self.bin / "ssh"
        program.write_text(SSH.format(ssh=shutil.which("ssh"), folder=self.folder))
        program.chmod(0o755)


@contextlib.contextmanager
def lab(count: int) -> Iterator[Lab]:
    """A lab while the `with` block lasts; nothing of it stays."""
    made = Lab(count)
    try:
        yield made
    finally:
        made.remove()
    until(lambda: not any(host.leftovers() for host in made.hosts))


def said_by(host: LabHost, container: str) -> bytes:
    """What a container has printed; nothing while it is being made or removed."""
    with contextlib.suppress(NotFound):
        return bytes(host.api.logs(container))
    return b""


def evals(host: LabHost, *, every: bool = True) -> list[str]:
    """Names of the containers of evals on a host, or of the running ones alone."""
    listed = host.api.containers(all=every, filters={"label": Label.ATTEMPT})
    return [each["Names"][0].rpartition("-")[0].partition("-")[2] for each in listed]


def agents(host: LabHost) -> list[str]:
    """Ids of the agents' containers on a host."""
    listed = host.api.containers(filters={"label": "evalset.agent"})
    return [each["Id"] for each in listed]


def waiting(host: LabHost, count: int) -> list[Path]:
    """Wait until so many evals on a host have said that they wait; give their folders."""

    def look() -> list[Path]:
        listed = host.api.containers(filters={"label": Label.ATTEMPT})
        said = [said_by(host, each["Id"]) for each in listed]
        if sum(b"waiting" in text for text in said) < count:
            return []
        return sorted((host.disk / "home/.evalset/spool").glob("*/.attempts/*"))

    return until(look, seconds=60)


def let_go(folders: list[Path]) -> None:
    """Tell evals to end."""
    for folder in folders:
        (folder / "go.new").write_text("")
        (folder / "go.new").rename(folder / "go")


def nothing_left(host: LabHost) -> list[str]:
    """What of ours is on a host."""
    folders = (host.disk / "home").glob(".evalset/**/*")
    images = [tag for it in host.api.images() for tag in it["RepoTags"] or () if "sent" in tag]
    networks = [each["Name"] for each in host.api.networks() if each["Name"] == "evalset"]
    containers = [each["Names"][0] for each in host.api.containers(all=True)]
    return [*map(str, folders), *images, *networks, *containers]


def spool_of(labels: dict[str, str]) -> str:
    """The label that says whose a container is."""
    return f"{Label.PROGRESS}={labels.get(Label.PROGRESS, '')}"
