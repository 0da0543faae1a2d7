import contextlib
import os
import selectors
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from runner.errors import EnvironmentFault

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
