import re
from urllib.parse import unquote

import msgspec

from runner.branch.git import GitError, Repository
from runner.errors import EnvironmentFault

_WITH_PASSWORD = re.compile(r"(https?://)([^/@:\s]*):([^/@\s]*)@(.*)", re.IGNORECASE)

# Git asks it for a name and a password; the shell has both from its environment.
_HELPER = (
    '!f() { test "$1" != get || '
    'printf \'username=%s\\npassword=%s\\n\' "$EVALSET_GIT_NAME" "$EVALSET_GIT_PASSWORD"; }; f'
)


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How Git gets to a remote: Git would show an address with a password to everybody.

    It passes an address on to a program of its own, on that one's command line.

    Attributes:
        address: without a password.
        options: for `git`, before the command.
        environ: variables for it.
    """

    address: str
    options: tuple[str, ...] = ()
    environ: dict[str, str] = {}


def access_to(address: str) -> Access:
    """Take the password out of an address, for Git to ask for it where nobody else looks."""
    found = _WITH_PASSWORD.fullmatch(address)
    if found is None:
        return Access(address=address)
    start, name, password, rest = found.groups()
    return Access(
        address=f"{start}{rest}",
        options=("-c", "credential.helper=", "-c", f"credential.helper={_HELPER}"),
        environ={"EVALSET_GIT_NAME": unquote(name), "EVALSET_GIT_PASSWORD": unquote(password)},
    )


# Seconds without a sign of life after which a remote counts as away.
PATIENCE = 60.0

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")

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


class Remote:
    """Where a branch is pushed to, and fetched from.

    Attributes:
        shown: its name or address, without what must not be shown.
    """

    def __init__(self, repository: Repository, address: str) -> None:
        self._repository = repository
        self._address = address
        self.shown = without_credentials(address)

    def fetch(self, branch: str, *, seconds: float = PATIENCE) -> str | None:
        """Bring a branch here, and give its commit; None if the remote does not have it.

        Raises:
            RemoteError: the remote is away, or refuses.
        """
        here = f"refs/evalset/fetched/{branch}"
        access = self._access("get-url")
        line = [*access.options, "fetch", "--progress", "--no-tags", "--no-recurse-submodules"]
        line += ["--refmap=", "--no-write-fetch-head", "--no-auto-maintenance"]
        line += ["--", access.address, f"+refs/heads/{branch}:{here}"]
        try:
            self._repository.run(*line, environ=access.environ, silence=seconds)
        except GitError as error:
            if "couldn't find remote ref" in error.said:
                return None
            if _OVERTAKEN.search(error.said):  # another process of this clone fetches it, too
                raise OvertakenError from error
            raise RemoteError(without_credentials(error.line)) from error
        return self._repository.tip(here)

    def push(self, commit: str, branch: str, *, seconds: float = PATIENCE) -> None:
        """Make a commit the branch's newest.

        Raises:
            OvertakenError: the branch has moved on; fetch it first.
            RemoteError: the remote is away, or refuses.
        """
        access = self._access("get-url", "--push")
        line = [*access.options, "-c", f"remote.{access.address}.mirror=false"]
        line += ["push", "--porcelain", "--progress", "--no-verify"]
        line += ["--", access.address, f"{commit}:refs/heads/{branch}"]
        try:
            self._repository.run(*line, environ=access.environ, silence=seconds)
        except GitError as error:
            said = f"{error.out}\n{error.said}"
            if _OVERTAKEN.search(said):
                raise OvertakenError from error
            refusal = re.search(r"^!\t\S+\t(.*)$", error.out, re.MULTILINE)
            why = refusal[1] if refusal else error.line
            if error.from_remote:
                why += f" ({error.from_remote})"
            raise RemoteError(without_credentials(why)) from error

    def _access(self, *ask: str) -> Access:
        """The way there; by the remote's name, unless its address has a password in it."""
        known = "" if "/" in self._address else self._repository.ask("remote", *ask, self._address)
        access = access_to(known or self._address)
        return access if access.environ else Access(address=self._address)


def without_credentials(text: str) -> str:
    """Text in which no address has a name or password in it."""
    return _CREDENTIALS.sub("", text)
