import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
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
        telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))]
        chosen = (telling or lines or ["Git gave no reason"])[0]
        return chosen.removeprefix("fatal: ").removeprefix("error: ")


def run_git(
    arguments: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    seconds: float = LOCAL_TIME,
) -> bytes:
    """Run Git in a session of its own: Ctrl-C does not reach it, and it can ask no terminal."""
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
    try:
        out, said = process.communicate(stdin, timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise GitError(f"no answer within {seconds:g} s") from None
    if process.returncode != 0:
        raise GitError(said.decode(errors="replace"), out.decode(errors="replace"))
    return bytes(out)
