import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import msgspec

from runner.branch.git import GitError, Repository
from runner.errors import EnvironmentFault, UsageError

# Seconds without a sign of life after which a remote counts as away.
PATIENCE = 60.0

# What `--remote` takes to keep snapshots on this host.
NO_REMOTE = "none"

_WITH_PASSWORD = re.compile(r"(https?://)([^/@:\s]*):([^/@\s]*)@(.*)", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")

# Git asks it for a name and a password; the shell has both from its environment.
_HELPER = (
    '!f() { test "$1" != get || '
    'printf \'username=%s\\npassword=%s\\n\' "$EVALSET_GIT_NAME" "$EVALSET_GIT_PASSWORD"; }; f'
)

_OVERTAKEN = re.compile(
    r"\[rejected\]"
    r"|\[remote rejected\].*(?:cannot lock ref|failed to update ref|incorrect old value"
    r"|reference already exists|unable to create .*\.lock|fetch first)"
    r"|cannot lock ref|Unable to create '.*\.lock'"
)


class RemoteError(EnvironmentFault):
    """A remote did not do what it was asked for; the message says why, on one line."""


class OvertakenError(EnvironmentFault):
    """Somebody else has pushed to the branch since it was fetched."""


class PublicAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A remote's address without its password, and the options and variables that let Git have it.

    Git would pass an address on to a program of its own, on that one's command line.
    """

    address: str
    options: tuple[str, ...] = ()
    environ: dict[str, str] = {}


def hide_password(address: str) -> PublicAddress:
    """Take the password out of an address, so that Git asks for it where nobody else looks."""
    found = _WITH_PASSWORD.fullmatch(address)
    if found is None:
        return PublicAddress(address=address)
    start, name, password, rest = found.groups()
    return PublicAddress(
        address=f"{start}{rest}",
        options=("-c", "credential.helper=", "-c", f"credential.helper={_HELPER}"),
        environ={"EVALSET_GIT_NAME": unquote(name), "EVALSET_GIT_PASSWORD": unquote(password)},
    )


def without_credentials(text: str) -> str:
    """Text in which no address has a name or password in it."""
    return _CREDENTIALS.sub("", text)


class Remote:
    """Where a branch is pushed to, and fetched from; its `public_address` has no password."""

    def __init__(self, repository: Repository, address: str) -> None:
        self._repository = repository
        self._address = address
        self.public_address = without_credentials(address)

    def fetch(self, branch: str, *, seconds: float = PATIENCE) -> str | None:
        """Bring a branch here, and give its commit; None if the remote does not have it.

        Raises:
            OvertakenError: another process fetches it, too.
            RemoteError: the remote is away, or refuses.
        """
        here = f"refs/evalset/fetched/{branch}"
        public = self._public("get-url")
        line = [*public.options, "fetch", "--progress", "--no-tags", "--no-recurse-submodules"]
        line += ["--refmap=", "--no-write-fetch-head", "--no-auto-maintenance"]
        line += ["--", public.address, f"+refs/heads/{branch}:{here}"]
        try:
            self._repository.run(*line, environ=public.environ, silence=seconds)
        except GitError as error:
            if "couldn't find remote ref" in error.said:
                return None
            if _OVERTAKEN.search(error.said):  # another process of this clone fetches it, too
                raise OvertakenError("others were faster") from error
            raise RemoteError(without_credentials(error.line)) from error
        return self._repository.tip(here)

    def push(self, commit: str, branch: str, *, seconds: float = PATIENCE) -> None:
        """Make a commit the branch's newest.

        Raises:
            OvertakenError: the branch has moved on; fetch it first.
            RemoteError: the remote is away, or refuses.
        """
        public = self._public("get-url", "--push")
        line = [*public.options, "-c", f"remote.{public.address}.mirror=false"]
        line += ["push", "--porcelain", "--progress", "--no-verify"]
        line += ["--", public.address, f"{commit}:refs/heads/{branch}"]
        try:
            self._repository.run(*line, environ=public.environ, silence=seconds)
        except GitError as error:
            if _OVERTAKEN.search(f"{error.out}\n{error.said}"):
                raise OvertakenError("others were faster") from error
            refusal = re.search(r"^!\t\S+\t(.*)$", error.out, re.MULTILINE)
            why = refusal[1] if refusal else error.line
            if error.from_remote:
                why += f" ({error.from_remote})"
            raise RemoteError(without_credentials(why)) from error

    def _public(self, *ask: str) -> PublicAddress:
        """Where it is; by the remote's name, unless its address has a password in it."""
        known = "" if "/" in self._address else self._repository.ask("remote", *ask, self._address)
        public = hide_password(known or self._address)
        return public if public.environ else PublicAddress(address=self._address)


def choose_remote(repository: Repository, asked: str | None) -> Remote | None:
    """The remote for snapshots; None if they stay in the repository.

    Where none is asked for, it is that of the current branch, or else `origin`.
    """
    names = (repository.ask("remote") or "").split()
    if asked == NO_REMOTE:
        return None
    if asked is None:
        current = repository.ask("symbolic-ref", "--quiet", "--short", "HEAD")
        upstream = repository.ask("config", f"branch.{current}.remote") if current else None
        name = next((one for one in (upstream, "origin") if one in names), None)
        return Remote(repository, name) if name else None
    if asked == "":
        raise UsageError("--remote is empty", "give a name, an address, or `none`")
    if asked in names or "://" in asked:
        return Remote(repository, asked)
    if ":" in asked.partition("/")[0] and not Path(asked).exists():
        return Remote(repository, asked)
    if "/" in asked or Path(asked).exists():
        return Remote(repository, os.path.abspath(asked))  # noqa: PTH100 - links stay as typed
    has = f"it has {', '.join(names)}" if names else "it has none"
    raise UsageError(
        f"--remote {asked}: {repository.git_dir} has no remote of that name ({has})",
        "name one of them, or give an address",
    )


@contextmanager
def reaching(remote: Remote | None) -> Iterator[None]:
    """Turn what a remote refuses into an error that ends a command."""
    shown = remote.public_address if remote else ""
    try:
        yield
    except OvertakenError as error:
        raise EnvironmentFault(
            f"the remote {shown} is busy: others were faster each time", "run this again"
        ) from error
    except RemoteError as error:
        raise EnvironmentFault(
            f"the remote {shown} cannot be used: {error}",
            "check its address, the network "
            "and your permissions, or keep snapshots on this host with --remote none",
        ) from error
