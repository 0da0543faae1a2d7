import contextlib
import os
import selectors
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import msgspec

from runner.errors import EnvironmentFault
from runner.files import make_folder

# Variables by which users let Git reach their remotes. Every other GIT_* would lead it to another
# repository, index or identity.
KEPT = ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_ASKPASS", "GIT_SSL_")

# A question would be asked to nobody; a replaced object or a lock would be the user's.
ALWAYS = {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_REPLACE_OBJECTS": "1", "GIT_OPTIONAL_LOCKS": "0"}

# Seconds for what touches this machine alone.
LOCAL_TIME = 120.0


class GitError(EnvironmentFault):
    """Git refused.

    Attributes:
        said: its standard error, or that it took too long.
        out: its standard output.
    """

    def __init__(self, said: str, out: str = "") -> None:
        self.said = said
        self.out = out
        super().__init__(f"Git refuses: {self.line}")

    @property
    def line(self) -> str:
        """The line of what Git said that tells most."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        telling = [line for line in lines if line.startswith(("fatal:", "error:"))]
        if telling and telling[0].startswith(_ABOUT_TRANSPORT):
            telling = lines  # what ssh has said comes first
        chosen = (telling or lines or ["Git gave no reason"])[0]
        return chosen.removeprefix("fatal: ").removeprefix("error: ").rstrip(".")

    @property
    def from_remote(self) -> str:
        """The first line that the remote has said itself; empty if there is none."""
        lines = [line.partition("remote: ")[2].strip() for line in self.said.splitlines()]
        return next((line for line in lines if line), "")


# What Git says when the program that connects to the remote has said more.
_ABOUT_TRANSPORT = (
    "fatal: Could not read from remote repository",
    "fatal: the remote end hung up",
)


def run_git(
    arguments: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    seconds: float = LOCAL_TIME,
    silence: float | None = None,
    started: Callable[["subprocess.Popen[bytes]"], None] | None = None,
) -> bytes:
    """Run Git in a session of its own: Ctrl-C does not reach it, and it can ask no terminal.

    Args:
        arguments: behind `git`.
        folder: where.
        environ: further variables.
        stdin: what it reads.
        seconds: that it gets, at the most.
        silence: seconds without a word from it after which it is ended, instead of `seconds`.
        started: takes the process.
    """
    import git  # noqa: PLC0415 - slow to import

    added = {**ALWAYS, **(environ or {})}
    unset = [
        word
        for name in os.environ
        if name.startswith("GIT_") and not name.startswith(KEPT) and name not in added
        for word in ("-u", name)
    ]
    # GitPython can add variables, but not take them away.
    line = [*(["env", *unset] if unset else []), "git", *arguments]
    # It ends the process when nobody holds it any more.
    running = git.Git(folder).execute(
        line, istream=subprocess.PIPE, as_process=True, env=added, start_new_session=True
    )
    process = running.proc
    assert process is not None  # noqa: S101 - it was just started
    if started is not None:
        started(process)
    try:
        if silence is None:
            out, said = process.communicate(stdin, timeout=seconds)
        else:
            out, said = _listen(process, silence)
    except subprocess.TimeoutExpired as expired:
        end_session(process)
        process.wait()
        raise GitError(f"no answer within {expired.timeout:g} s") from None
    if process.returncode != 0:
        raise GitError(said.decode(errors="replace"), out.decode(errors="replace"))
    return bytes(out)


def end_session(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process that `run_git` has started, and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _listen(process: "subprocess.Popen[bytes]", silence: float) -> tuple[bytes, bytes]:
    """Read what a process prints until its end, however long it takes while it prints."""
    assert process.stdin is not None  # noqa: S101 - all three are pipes
    assert process.stdout is not None  # noqa: S101 - as above
    assert process.stderr is not None  # noqa: S101 - as above
    process.stdin.close()
    heard = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
    out, said = heard
    with process.stdout, process.stderr, selectors.DefaultSelector() as selector:
        for number in heard:
            selector.register(number, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(silence)
            if not ready:
                raise subprocess.TimeoutExpired(process.args, silence)
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                heard[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
    process.wait(silence)
    return heard[out], heard[said]


# Whatever the user's configuration says: no hook runs, nothing is signed, nothing is tidied up.
SETTINGS = (
    "core.hooksPath=/dev/null",
    "push.gpgSign=false",
    "push.followTags=false",
    "push.recurseSubmodules=no",
    "gc.auto=0",
    "maintenance.auto=false",
    "core.fsmonitor=false",
    "index.version=4",
)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a tree.

    Attributes:
        path: from the top of the tree, with slashes.
        oid: of its blob.
        mode: as Git writes it, six octal digits.
    """

    path: str
    oid: str
    mode: str = "100644"


class Repository:
    """Runs Git's plumbing on one repository, whatever the environment and the user's settings say.

    Attributes:
        git_dir: the repository's own folder.
    """

    def __init__(self, git_dir: Path, *, folder: Path, host: str) -> None:
        self.git_dir = git_dir
        self._folder = folder
        self._environ: dict[str, str] = {}
        self._afar: subprocess.Popen[bytes] | None = None
        self._stopped = False
        name = _known(self.ask("config", "user.name")) or "evalset"
        email = _known(self.ask("config", "user.email")) or f"evalset@{host}"
        self._environ = {
            f"GIT_{role}_{field}": value
            for role in ("AUTHOR", "COMMITTER")
            for field, value in (("NAME", name), ("EMAIL", email))
        }

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        environ: Mapping[str, str] | None = None,
        seconds: float = LOCAL_TIME,
        silence: float | None = None,
    ) -> bytes:
        """Run Git and give what it printed.

        Raises:
            GitError: it refused, took longer than `seconds`, said nothing for `silence` seconds,
                or is to reach a remote after `stop`.
        """
        if self._stopped and silence is not None:
            raise GitError("nobody waits for it any longer")
        settings = [word for setting in SETTINGS for word in ("-c", setting)]
        return run_git(
            [f"--git-dir={self.git_dir}", *settings, *arguments],
            folder=self._folder,
            environ=self._environ | dict(environ or {}),
            stdin=stdin,
            seconds=seconds,
            silence=silence,
            started=self._reaches_afar if silence is not None else None,
        )

    def stop(self) -> None:
        """End what goes on with a remote, and begin nothing more with one."""
        self._stopped = True
        if self._afar is not None:
            end_session(self._afar)

    def _reaches_afar(self, process: "subprocess.Popen[bytes]") -> None:
        self._afar = process

    def checked_out(self, ref: str) -> Path | None:
        """The folder of a work tree that has a branch checked out; None if none has."""
        common = self.git_dir
        with contextlib.suppress(OSError):
            common = (common / (common / "commondir").read_text().strip()).resolve()
        trees = {place.parent: place for place in common.glob("worktrees/*/gitdir")}
        for folder in (*([] if self._is_bare else [common]), *trees):
            names = [folder / "HEAD", *folder.glob("rebase-*/head-name")]
            for name in names:
                with contextlib.suppress(OSError):
                    if name.read_text().strip().removeprefix("ref: ") == ref:
                        return self._top_of(folder, trees.get(folder))
        return None

    @cached_property
    def _is_bare(self) -> bool:
        return self.ask("config", "--bool", "core.bare") == "true"

    @staticmethod
    def _top_of(folder: Path, gitdir: Path | None) -> Path:
        return (Path(gitdir.read_text().strip()) if gitdir else folder).parent

    def ask(self, *arguments: str) -> str | None:
        """Run Git for one line of answer; None if it has none."""
        try:
            return self.run(*arguments).decode(errors="replace").strip()
        except GitError:
            return None

    def tip(self, ref: str) -> str | None:
        """The commit that a ref points to; None if there is no such ref."""
        return self.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")

    def files(self, commit: str, *below: str) -> list[Entry]:
        """Every file of a commit's tree, or of some of its folders."""
        said = self.run("ls-tree", "-r", "-z", "--full-tree", commit, "--", *below)
        entries = []
        for line in _fields(said):
            about, _, path = line.partition("\t")
            mode, _, oid = about.split(" ")
            entries.append(Entry(path=path, oid=oid, mode=mode))
        return entries

    def differing(self, one: str, other: str) -> list[tuple[Entry | None, Entry | None]]:
        """The files that differ between two commits: as each of the two has them."""
        said = self.run("diff-tree", "-r", "-z", "--no-renames", "--raw", one, other)
        fields = _fields(said)
        pairs = []
        for about, path in zip(fields[::2], fields[1::2], strict=True):
            mode, other_mode, oid, other_oid, _ = about.removeprefix(":").split(" ")
            pairs.append((_entry(path, oid, mode), _entry(path, other_oid, other_mode)))
        return pairs

    def read(self, oids: Sequence[str]) -> list[bytes]:
        """The content of blobs, in their order."""
        if not oids:
            return []
        said = memoryview(self.run("cat-file", "--batch", stdin="\n".join([*oids, ""]).encode()))
        contents = []
        position = 0
        for oid in oids:
            end = bytes(said[position : position + 200]).index(b"\n") + position
            about = bytes(said[position:end]).split(b" ")
            if len(about) != 3:  # noqa: PLR2004 - object id, type, size
                raise GitError(f"the object {oid} is missing from {self.git_dir}")
            size = int(about[2])
            contents.append(bytes(said[end + 1 : end + 1 + size]))
            position = end + 1 + size + 1
        return contents

    def sizes(self, oids: Sequence[str]) -> list[int]:
        """The sizes of blobs in bytes, in their order."""
        asked = "\n".join([*oids, ""]).encode()
        said = self.run("cat-file", "--batch-check=%(objectsize)", stdin=asked)
        return [int(line) for line in said.split()]

    def write(self, paths: Iterable[Path]) -> list[str]:
        """Store files as blobs, byte for byte, and give their object ids."""
        lines = "".join(f"{path}\n" for path in paths)
        if not lines:
            return []
        said = self.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=lines.encode())
        return said.decode().split()

    def commit(self, tree: str, parents: Iterable[str], message: str) -> str:
        """Make a commit that no ref points to yet."""
        named = [word for parent in parents for word in ("-p", parent)]
        line = ("commit-tree", "--no-gpg-sign", tree, *named)
        return self.run(*line, stdin=message.encode()).decode().strip()

    def move(self, ref: str, new: str, *, old: str | None, why: str) -> None:
        """Point a ref at a commit, if it points to `old`, or to nothing for None.

        Raises:
            GitError: it does not.
        """
        self.run("update-ref", "-m", f"evalset: {why}", ref, new, old or "0" * len(new))

    def is_ancestor(self, one: str, other: str) -> bool:
        """Whether `other` has all of `one`'s history."""
        return self.ask("merge-base", "--is-ancestor", one, other) is not None


def find_repository(path: Path, *, host: str) -> Repository | None:
    """The repository that a folder is in; None if it is in none.

    Raises:
        EnvironmentFault: Git is missing, or refuses to work there.
    """
    if shutil.which("git") is None:
        raise EnvironmentFault("--snapshot needs Git, which is not installed; install it")
    try:
        found = run_git(["rev-parse", "--absolute-git-dir"], folder=path).decode().strip()
    except GitError as error:
        if "dubious ownership" in error.said:
            raise EnvironmentFault(
                f"Git does not trust the repository around {path}, for another user owns it; run "
                f"`git config --global --add safe.directory {path}`"
            ) from error
        return None
    try:
        top = run_git(["rev-parse", "--show-toplevel"], folder=path).decode().strip()
    except GitError:  # a bare one
        top = found
    return Repository(Path(found), folder=Path(top), host=host)


def make_bare(path: Path, *, host: str) -> Repository:
    """The bare repository at a path, made if there is none."""
    # Git completes what it could not finish, on a disk that was full.
    begun = all((path / name).is_file() for name in ("HEAD", "config"))
    if not begun or find_repository(path, host=host) is None:
        make_folder(path)
        try:
            run_git(["init", "--quiet", "--bare", str(path)], folder=path)
        except GitError as error:
            raise EnvironmentFault(
                f"cannot make a repository at {path}: {error.line}; name another --snapshot-repo"
            ) from error
    found = find_repository(path, host=host)
    if found is None:
        raise EnvironmentFault(f"{path} is damaged; move it away, or name another --snapshot-repo")
    return found


def _known(name: str | None) -> str:
    """A name or address that Git takes for an author; empty if it does not."""
    return name if name and any(character.isalnum() for character in name) else ""


def _entry(path: str, oid: str, mode: str) -> Entry | None:
    return None if mode == "000000" else Entry(path=path, oid=oid, mode=mode)


def _fields(said: bytes) -> list[str]:
    return [os.fsdecode(field) for field in said.split(b"\0")[:-1]]
