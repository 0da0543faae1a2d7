import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import msgspec

from runner.errors import EnvironmentFault
from runner.files import make_folder

# Variables by which users let Git reach their remotes. Every other GIT_* would lead it to another
# repository, index or identity.
KEPT = ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_ASKPASS", "GIT_SSL_")

# Nobody could answer a question; a replaced object or a lock would be the user's; and what Git says
# is read by programs, so it must not be in the user's language.
ALWAYS = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}

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

# Seconds for what touches this machine alone.
LOCAL_TIME = 120.0

# Seconds between two looks at a process that talks to a remote.
LOOK = 0.1

# The reason for what `Repository.stop` has stopped.
ENDING = "the run is ending and does not wait for it"

# What Git says when the program that connects to the remote has said more.
_ABOUT_TRANSPORT = (
    "fatal: Could not read from remote repository",
    "fatal: the remote end hung up",
)


class GitError(EnvironmentFault):
    """Git refused; `said` is its standard error, or that it took too long."""

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


def run_git(
    arguments: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    silence: float | None = None,
    stopped: threading.Event | None = None,
) -> bytes:
    """Run Git in a session of its own: Ctrl-C does not reach it, and it can ask no terminal.

    Only this function runs it. GitPython starts the process, and the rest of its API stays unused:
    `Repo` follows GIT_* variables, trusts a repository whoever owns it, fails at configuration that
    is not UTF-8, moves a ref whatever it points to, and knows no limit to a remote's silence.

    Args:
        silence: seconds without output after which it is killed; None for what stays on this
            machine, and may take `LOCAL_TIME`.
        stopped: kills one with a limit to its silence when it is set.
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
    # It kills the process when nobody holds it any more.
    running = git.Git(folder).execute(
        line, istream=subprocess.PIPE, as_process=True, env=added, start_new_session=True
    )
    process = running.proc
    assert process is not None  # noqa: S101 - it was just started
    try:
        if silence is None:
            out, said = process.communicate(stdin, timeout=LOCAL_TIME)
        else:
            out, said = _listen(process, silence, stopped or threading.Event())
    except subprocess.TimeoutExpired as expired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if stopped is not None and stopped.is_set():
            raise GitError(ENDING) from None
        raise GitError(f"no answer within {expired.timeout:g} s") from None
    if process.returncode != 0:
        raise GitError(said.decode(errors="replace"), out.decode(errors="replace"))
    return bytes(out)


def _listen(
    process: "subprocess.Popen[bytes]", silence: float, stopped: threading.Event
) -> tuple[bytes, bytes]:
    """What a process prints until its end, however long it takes while it prints."""
    heard, since = 0, time.monotonic()
    while True:
        try:
            return process.communicate(timeout=LOOK)
        except subprocess.TimeoutExpired as unfinished:
            length = len(unfinished.stdout or b"") + len(unfinished.stderr or b"")
            now = time.monotonic()
            if length > heard:
                heard, since = length, now
            if stopped.is_set() or now - since > silence:
                raise subprocess.TimeoutExpired(process.args, silence) from None


class TreeEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a tree.

    Attributes:
        path: from the top of the tree, with slashes.
        oid: of its blob.
        mode: as Git writes it, six octal digits.
    """

    path: str
    oid: str
    mode: str = "100644"

    @property
    def is_plain(self) -> bool:
        """Whether it is a file, and no link or submodule."""
        return self.mode in {"100644", "100755"}


class Repository:
    """Runs Git's plumbing on one repository, whatever environment and user settings say."""

    def __init__(self, git_dir: Path, *, folder: Path, host: str) -> None:
        self.git_dir = git_dir
        self._folder = folder
        self._environ: dict[str, str] = {}
        self._stopped = threading.Event()
        said = self.ask("config", "--null", "--get-regexp", r"^user\.(name|email)$") or ""
        author = dict(line.split("\n", 1) for line in said.split("\0") if "\n" in line)
        for field, default in (("name", "evalset"), ("email", f"evalset@{host}")):
            known = author.get(f"user.{field}", "")
            # Git takes no author without a letter or digit.
            value = known if any(map(str.isalnum, known)) else default
            for role in ("AUTHOR", "COMMITTER"):
                self._environ[f"GIT_{role}_{field.upper()}"] = value

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        environ: Mapping[str, str] | None = None,
        silence: float | None = None,
    ) -> bytes:
        """Run Git as `run_git`, and give what it printed.

        Raises:
            GitError: it refused, took too long, or is to reach a remote after `stop`.
        """
        if silence is not None and self._stopped.is_set():
            raise GitError(ENDING)
        settings = [word for setting in SETTINGS for word in ("-c", setting)]
        return run_git(
            [f"--git-dir={self.git_dir}", *settings, *arguments],
            folder=self._folder,
            environ=self._environ | dict(environ or {}),
            stdin=stdin,
            silence=silence,
            stopped=self._stopped,
        )

    def stop(self) -> None:
        """Kill a transfer to or from a remote, and begin none any more."""
        self._stopped.set()

    def checked_out(self, ref: str) -> Path | None:
        """The folder of a work tree that has a branch checked out; None if none has."""
        common = self.git_dir
        with suppress(OSError):
            common = (common / (common / "commondir").read_text().strip()).resolve()
        trees = {place.parent: place for place in common.glob("worktrees/*/gitdir")}
        for folder in (*([] if self._is_bare else [common]), *trees):
            for name in (folder / "HEAD", *folder.glob("rebase-*/head-name")):
                with suppress(OSError):
                    if name.read_text().strip().removeprefix("ref: ") == ref:
                        tree = trees.get(folder)
                        return (Path(tree.read_text().strip()) if tree else folder).parent
        return None

    @cached_property
    def _is_bare(self) -> bool:
        return self.ask("config", "--bool", "core.bare") == "true"

    def ask(self, *arguments: str) -> str | None:
        """Run Git for one line of answer; None if it has none."""
        try:
            return self.run(*arguments).decode(errors="replace").strip()
        except GitError:
            return None

    def tip(self, ref: str) -> str | None:
        """The commit that a ref points to; None if there is no such ref."""
        return self.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")

    def files(self, commit: str, *below: str) -> list[TreeEntry]:
        """Every file of a commit's tree, or of some of its folders."""
        entries = []
        for line in self._fields("ls-tree", "-r", "-z", "--full-tree", commit, "--", *below):
            about, _, path = line.partition("\t")
            mode, _, oid = about.split(" ")
            entries.append(TreeEntry(path=path, oid=oid, mode=mode))
        return entries

    def differing(self, one: str, other: str) -> list[tuple[TreeEntry | None, TreeEntry | None]]:
        """The files that differ between two commits: as each of the two has them."""
        fields = self._fields("diff-tree", "-r", "-z", "--no-renames", "--raw", one, other)
        pairs = []
        for about, path in zip(fields[::2], fields[1::2], strict=True):
            mode, other_mode, oid, other_oid, _ = about.removeprefix(":").split(" ")
            pairs.append((_entry(path, oid, mode), _entry(path, other_oid, other_mode)))
        return pairs

    def _fields(self, *arguments: str) -> list[str]:
        return [os.fsdecode(field) for field in self.run(*arguments).split(b"\0")[:-1]]

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

    def store(self, files: Mapping[str, Path]) -> list[TreeEntry]:
        """Store files as blobs, byte for byte; they are given by their paths in the tree."""
        if not files:
            return []
        lines = "".join(f"{path}\n" for path in files.values())
        said = self.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=lines.encode())
        oids = said.decode().split()
        return [TreeEntry(path=name, oid=oid) for name, oid in zip(files, oids, strict=True)]

    def commit(self, tree: str, parents: Iterable[str], message: str) -> str:
        """Make a commit that no ref points to yet."""
        named = [word for parent in parents for word in ("-p", parent)]
        line = ("commit-tree", "--no-gpg-sign", tree, *named)
        return self.run(*line, stdin=message.encode()).decode().strip()

    def move(self, ref: str, new: str, *, old: str | None, why: str) -> None:
        """Point a ref at a commit; GitError if it is not at `old`; None is for a new ref."""
        self.run("update-ref", "-m", f"evalset: {why}", ref, new, old or "0" * len(new))

    def is_ancestor(self, one: str, other: str) -> bool:
        """Whether `other` has all of `one`'s history."""
        return self.ask("merge-base", "--is-ancestor", one, other) is not None


def _entry(path: str, oid: str, mode: str) -> TreeEntry | None:
    return None if mode == "000000" else TreeEntry(path=path, oid=oid, mode=mode)


def find_repository(path: Path, *, host: str) -> Repository | None:
    """The repository that a folder is in; None if it is in none."""
    if shutil.which("git") is None:
        raise EnvironmentFault("--snapshot needs Git, which is not installed", "install it")
    try:
        found = run_git(["rev-parse", "--absolute-git-dir"], folder=path).decode().strip()
    except GitError as error:
        if "dubious ownership" in error.said:
            raise EnvironmentFault(
                f"Git does not trust the repository around {path} because another user owns it",
                f"run `git config --global --add safe.directory {path}`",
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
                f"cannot make a repository at {path}: {error.line}", "name another --snapshot-repo"
            ) from error
    found = find_repository(path, host=host)
    if found is None:
        raise EnvironmentFault(
            f"{path} is damaged", "move it away, or name another --snapshot-repo"
        )
    return found
