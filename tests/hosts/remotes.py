"""Where two hosts meet: a bare repository, reached as a file, by Git's own protocol, or by SSH."""

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec

from tests.conftest import until

# Where scripts/test-tools puts an SSH server, and what that needs.
TOOLS = Path(__file__).parents[2] / ".cache/test-tools"

SSHD_CONFIG = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
"""

SSH_CONFIG = """
Host *
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking yes
    BatchMode yes
"""

# In a mount namespace of its own, because it wants a folder in /run, and a user of its own in
# /etc/passwd, which a machine without the package does not have.
START_SSHD = """
mount -t tmpfs none /run && mkdir -m 755 /run/sshd &&
mount --bind "$1/passwd" /etc/passwd && exec "$2" -D -e -f "$1/sshd_config"
"""


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """A bare repository, and how it is reached.

    Attributes:
        path: on this machine, for the test to look into.
        url: for `--remote`, and for a clone.
        configuration: what a user who reaches it has in ~/.gitconfig.
    """

    path: Path
    url: str
    configuration: str = ""

    def git(self, *arguments: str) -> str:
        """Ask the repository itself."""
        return git(self.path, *arguments)


def git(folder: Path, *arguments: str) -> str:
    """Run Git and give what it printed, as it is."""
    done = subprocess.run(
        ["git", "-C", folder, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def make_bare(folder: Path) -> Path:
    """A bare repository with one commit on `main`, so that it can be cloned."""
    path = folder / "remote.git"
    git(folder, "init", "--quiet", "--bare", "--initial-branch", "main", str(path))
    tree = git(path, "hash-object", "-t", "tree", "-w", "/dev/null").strip()
    who = ("-c", "user.name=A User", "-c", "user.email=user@example.invalid")
    for number in range(2):  # two, so that a clone of depth 1 leaves something out
        parent = ("-p", "main") if number else ()
        commit = git(path, *who, "commit-tree", "-m", f"commit {number}", *parent, tree)
        git(path, "update-ref", "refs/heads/main", commit.strip())
    return path


@contextmanager
def as_file(folder: Path) -> Iterator[Remote]:
    """A repository on a disk that both hosts see."""
    path = make_bare(folder)
    yield Remote(path=path, url=f"file://{path}")


@contextmanager
def by_daemon(folder: Path) -> Iterator[Remote]:
    """A repository behind `git daemon`, which lets everyone push."""
    path = make_bare(folder)
    port = _free_port()
    line = [
        *("git", "daemon", "--export-all", "--enable=receive-pack", f"--base-path={folder}"),
        *("--listen=127.0.0.1", f"--port={port}", "--reuseaddr", str(folder)),
    ]
    with _served(line, port, folder / "daemon.log"):
        yield Remote(path=path, url=f"git://127.0.0.1:{port}/{path.name}")


def make_key(path: Path) -> str:
    """Make a key without a passphrase; give its public part."""
    line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(line, check=True)
    return path.with_suffix(".pub").read_text()


def users_with_sshd() -> str:
    """What /etc/passwd has to hold for an SSH server."""
    users = Path("/etc/passwd").read_text()
    if "\nsshd:" not in users:
        users += "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
    return users


def sshd() -> tuple[str, str]:
    """The SSH server's program, and the folder of the libraries that it may need."""
    program = shutil.which("sshd", path="/usr/sbin:/sbin") or f"{TOOLS}/usr/sbin/sshd"
    return program, f"{TOOLS}/usr/lib/{os.uname().machine}-linux-gnu"


@contextmanager
def by_ssh(folder: Path) -> Iterator[Remote]:
    """A repository behind an SSH server, which asks for a key; needs root."""
    path = make_bare(folder)
    port = _free_port()
    for name in ("host_key", "user_key"):
        make_key(folder / name)
    (folder / "sshd_config").write_text(SSHD_CONFIG.format(port=port, folder=folder))
    (folder / "ssh_config").write_text(SSH_CONFIG.format(folder=folder))
    host_key = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    (folder / "passwd").write_text(users_with_sshd())
    program, library = sshd()
    line = ["unshare", "--mount", "sh", "-c", START_SSHD, "sh", str(folder), program]
    with _served(line, port, folder / "sshd.log", LD_LIBRARY_PATH=library):
        yield Remote(
            path=path,
            url=f"ssh://{getpass.getuser()}@127.0.0.1:{port}{path}",
            configuration=f"[core]\n\tsshCommand = ssh -F {folder / 'ssh_config'}\n",
        )


# By what a test calls them.
REMOTES: dict[str, Callable[[Path], AbstractContextManager[Remote]]] = {
    "file": as_file,
    "daemon": by_daemon,
    "ssh": by_ssh,
}


@contextmanager
def _served(line: list[str], port: int, log: Path, **variables: str) -> Iterator[None]:
    """Run a server while the `with` block lasts."""

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", port)) == 0

    with (
        log.open("wb") as file,
        subprocess.Popen(
            line, stdout=file, stderr=file, env={**os.environ, **variables}
        ) as process,
    ):
        try:
            until(answers)
            yield
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
