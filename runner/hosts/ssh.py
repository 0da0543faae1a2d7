"""How a host is reached, and waited for."""

import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, TypeVar

import msgspec

from runner.errors import EnvironmentFault, UsageError
from runner.gateway.providers import ADDRESSES
from runner.host import is_local
from runner.report.display import Display
from runner.report.text import duration, evals

# The name of the machine itself, which is reached without ssh.
LOCAL = "local"

# Seconds: to connect; between two looks whether the other side is there, which may fail thrice.
CONNECT = 10
ALIVE = 5

OPTIONS = (
    "-T",
    *("-o", "BatchMode=yes"),
    *("-o", f"ConnectTimeout={CONNECT}"),
    *("-o", f"ServerAliveInterval={ALIVE}"),
    *("-o", "ServerAliveCountMax=3"),
)

# ssh's own exit status, where it is not that of the command.
FAILED = 255


class HostName(msgspec.Struct, frozen=True):
    """A host as the user names it.

    Attributes:
        name: what ssh calls it, or `local`.
        slots: evals at once; None for as many as it has CPUs.
    """

    name: str
    slots: int | None


def parse_hosts(texts: Iterable[str]) -> tuple[HostName, ...]:
    """Read `HOST[=N][,HOST[=N]...]`.

    Raises:
        UsageError: it is not of that form, or names a host twice.
    """
    found: dict[str, HostName] = {}
    for text in texts:
        for part in text.split(","):
            name, equals, slots = part.strip().partition("=")
            if (
                not re.fullmatch(r"(?:[\w.%+-]+@)?[A-Za-z0-9_:\[][\w.:%\]-]*", name)
                or name[0] == "-"
            ):
                raise UsageError(
                    f"--hosts: `{part}` is no host", "give HOST or HOST=N, with commas between"
                )
            if equals and slots and not slots.strip("0"):
                raise UsageError(f"--hosts: `{part}` would run no eval", "leave that host out")
            if equals and not re.fullmatch("[1-9][0-9]{0,3}", slots):
                raise UsageError(
                    f"--hosts: `{slots}` in `{part}` is no number of evals",
                    "give HOST=N with N from 1 to 9999, or HOST for as many as it has CPUs",
                )
            if name in found:
                raise UsageError(f"--hosts names {name} twice", "name each host once")
            found[name] = HostName(name, int(slots) if equals else None)
    return tuple(found.values())


def check_hosts(texts: Iterable[str], inside: Mapping[str, str]) -> None:
    """Refuse what cannot be meant.

    Args:
        texts: hosts, as `parse_hosts` takes them.
        inside: variables by which containers find their providers themselves.

    Raises:
        UsageError: these are no hosts, or a variable means something else on another host.
    """
    others = [host for host in parse_hosts(texts) if host.name != LOCAL]
    for name, value in inside.items() if others else ():
        if name.endswith(ADDRESSES) and is_local(value):
            raise UsageError(
                f"{name} points at localhost, which on a host of --hosts is that host itself",
                "leave --no-gateway out, or give an address that the hosts can reach",
            )


class Unusable(EnvironmentFault):
    """A host cannot be used; the others may."""


class Unreachable(Unusable):
    """A host does not answer, which may be different soon."""


def command(host: str, words: Sequence[str]) -> list[str]:
    """The command line that runs words on a host, whatever characters they have."""
    return ["ssh", *OPTIONS, "--", host, shlex.join(words)]


def run(
    host: str,
    words: Sequence[str],
    *,
    given: bytes | IO[bytes] = b"",
    timeout: float = 60,
) -> str:
    """Run words on a host, and give what they print.

    Args:
        given: their standard input.
        timeout: seconds.

    Raises:
        Unusable: the host cannot be reached, or they fail.
    """
    source: dict[str, Any] = {"input": given} if isinstance(given, bytes) else {"stdin": given}
    try:
        done = subprocess.run(
            command(host, words),
            **source,
            capture_output=True,
            check=False,
            timeout=timeout,
            start_new_session=True,  # Ctrl-C is for the run alone
        )
    except subprocess.TimeoutExpired:
        raise Unreachable(
            f"{host} did not answer within {timeout:g} s", f"try `ssh {host} docker version`"
        ) from None
    except FileNotFoundError:
        raise EnvironmentFault(
            "there is no program `ssh` here", "install OpenSSH's client"
        ) from None
    if done.returncode:
        raise refusal(host, done.returncode, done.stderr.decode(errors="replace"))
    out: bytes = done.stdout
    return out.decode(errors="replace")


def refusal(host: str, status: int, said: str) -> Unusable:
    """Why a command on a host failed, and what to do."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("Run 'docker", "See 'docker"))]
    last = lines[-1] if lines else f"exit status {status}"
    if status != FAILED:
        return Unusable(f"{host}: {last}", f"try it by hand with `ssh {host}`")
    if "Permission denied" in said or "Too many authentication failures" in said:
        return Unusable(
            f"{host} refuses this user's keys",
            f"`ssh-copy-id {host}` adds one; `ssh {host}` must work without a password",
        )
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said:
        return Unusable(
            f"{host} has another host key than before",
            f"if that is right, `ssh-keygen -R {host}`, then `ssh {host}` once",
        )
    if "Host key verification failed" in said:
        return Unusable(
            f"the host key of {host} is not known", f"`ssh {host}` once, and check what it shows"
        )
    return Unreachable(f"{host} cannot be reached: {last}", f"try `ssh {host}`")


# Hosts that are looked at or get something at the same time.
AT_ONCE = 16

# Seconds between two attempts to reach a host.
PAUSE = 3.0

T = TypeVar("T")
U = TypeVar("U")


class Patience:
    """Does something with each host, and waits for one that is away and may have evals.

    Args:
        evals: how many an earlier run has started on each host that are not on record.
        wait: seconds for which hosts may be away, from when the first is found to be.
        display: tells people which hosts are waited for, and which cannot be used.
    """

    def __init__(self, evals: Mapping[str, int], wait: float, display: Display) -> None:
        self._evals = evals
        self._wait = wait
        self._end: float | None = None
        self._display = display
        self._over = threading.Event()

    def each(self, act: Callable[[T], U], hosts: Mapping[str, T]) -> list[U]:
        """What an act gives for each host; one where it fails is warned of and left out.

        Args:
            hosts: what the act gets, by the host's name.
        """
        found = []
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="equip") as pool:
            try:
                futures = [pool.submit(self._try, act, name, it) for name, it in hosts.items()]
                for future in futures:
                    try:
                        found.append(future.result())
                    except Unusable as error:
                        self._display.warn(f"left out: {error}")
            except BaseException:
                self._over.set()
                raise
        return found

    def _try(self, act: Callable[[T], U], name: str, host: T) -> U:
        told = False
        while True:
            try:
                done = act(host)
            except Unreachable:
                count = self._evals.get(name, 0)
                now = time.monotonic()
                self._end = self._end or now + self._wait
                left = self._end - now
                if not count or left <= 0:
                    raise
                if not told:
                    told = True
                    self._display.warn(
                        f"{name} cannot be reached, and may have {evals(count)} of an earlier run; "
                        f"it is tried for {duration(self._wait)} (--engine-wait)"
                    )
                if self._over.wait(min(PAUSE, left)):
                    raise
            else:
                if told:
                    self._display.note(f"{name} is back")
                return done
