"""What a host is asked before anything is sent to it, and why it cannot be used."""

import os
import time
from collections.abc import Collection

import msgspec

from runner.hosts.ssh import Unusable, run

# Seconds by which clocks may differ; times on record are by the engine's clock.
CLOCK = 120

# Run by `sh` on the host; each line is a word and what it means.
_ASK = r"""
mkdir -p "$HOME/.evalset/store" "$HOME/.evalset/images" "$HOME/.evalset/spool" 2>/dev/null &&
    chmod 700 "$HOME/.evalset" || echo "unwritable $HOME/.evalset"
echo "time $(date +%s)"
echo "machine $(uname -m)"
echo "user $(id -u):$(id -g)"
echo "login $(id -un)"
echo "home $HOME"
echo "free $(df -Pk "$HOME/.evalset" | tail -n 1 | awk '{print $4}')"
command -v docker >/dev/null || { echo "nodocker yes"; exit 0; }
if said=$(docker version --format '{{.Server.Version}}' 2>&1); then
    echo "engine $said"
    socket=$(docker context inspect --format '{{.Endpoints.docker.Host}}')
    echo "socket $socket"
    echo "group $(stat -Lc %g "${socket#unix://}")"
    echo "cpus $(docker info --format '{{.NCPU}}')"
    echo "security $(docker info --format '{{json .SecurityOptions}}')"
    root=$(docker info --format '{{.DockerRootDir}}')
    [ -d "$root" ] && echo "rootfree $(df -Pk "$root" | tail -n 1 | awk '{print $4}')"
else
    echo "refused $(echo "$said" | tr '\n' ' ')"
fi
for each in "$HOME"/.evalset/store/*; do echo "has ${each##*/}"; done
exit 0
"""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a host says of itself.

    Attributes:
        user: `uid:gid` of evals there: the user's own, or root of a rootless engine.
        group: of the engine's socket, as its containers see it.
        base: the folder of ours.
        has: content in its store.
        engine: its version.
        free: bytes on its disk, or on that of its engine if that has less.
    """

    user: str
    group: str
    base: str
    socket: str
    cpus: int
    rootless: bool
    has: frozenset[str]
    engine: str
    free: int


def check(host: str, *, least: int) -> Facts:
    """Ask a host about itself.

    Args:
        least: bytes that have to be free on its disk.

    Raises:
        Unusable: it cannot be used.
    """
    began = time.time()
    text = run(host, ["sh", "-s"], given=_ASK.encode())
    ended = time.time()
    said: dict[str, str] = {}
    has = []
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        said.setdefault(word, rest)
        if word == "has":
            has.append(rest)
    refuse(host, said, between=(began, ended), least=least)
    return facts_of(said, has)


def facts_of(said: dict[str, str], has: Collection[str]) -> Facts:
    """The facts in what a host said of itself, and the content in its store."""
    rootless = "rootless" in said.get("security", "")
    return Facts(
        user="0:0" if rootless else said["user"],
        group="0" if rootless else said["group"],
        base=f"{said['home']}/.evalset",
        socket=said["socket"].removeprefix("unix://"),
        cpus=int(said["cpus"]),
        rootless=rootless,
        has=frozenset(has),
        engine=said.get("engine", ""),
        free=_free(said),
    )


def refuse(host: str, said: dict[str, str], *, between: tuple[float, float], least: int) -> None:
    """Refuse a host that cannot be used.

    Args:
        said: what it said of itself.
        between: the times here before and after it was asked.
        least: bytes that have to be free.

    Raises:
        Unusable: in one line with the cure.
    """
    if "nodocker" in said:
        raise Unusable(f"{host} has no Docker", "install a Docker engine there")
    if "refused" in said:
        if "permission denied" in said["refused"].lower():
            raise Unusable(
                f"{host}: no permission to use its Docker engine",
                f"`sudo usermod -aG docker {said.get('login', '')}` there, then log in again",
            )
        raise Unusable(
            f"{host}: its Docker engine does not answer", "`sudo systemctl start docker` there"
        )
    missing = {"time", "machine", "user", "group", "home", "free", "socket", "cpus"} - said.keys()
    if missing or not said["cpus"].isdigit() or not said["free"].isdigit():
        raise Unusable(
            f"{host} did not say what was asked ({', '.join(sorted(missing)) or 'numbers'})",
            f"see what `ssh {host} sh -c true` prints, and whether that is a POSIX system",
        )
    if "unwritable" in said:
        raise Unusable(f"{host}: {said['unwritable']} cannot be written", "make it writable")
    if said["machine"] != (here := os.uname().machine):
        raise Unusable(
            f"{host} is a machine of another architecture ({said['machine']}, here {here})",
            "leave it out, or start the run on one of its kind",
        )
    if not said["socket"].startswith("unix://"):
        raise Unusable(
            f"{host}: its docker command leads elsewhere ({said['socket']})",
            "`docker context use default` there, or name the other host itself",
        )
    _refuse_state(host, said, between, least)


def _free(said: dict[str, str]) -> int:
    return 1024 * min(int(said[name]) for name in ("free", "rootfree") if name in said)


def _refuse_state(
    host: str, said: dict[str, str], between: tuple[float, float], least: int
) -> None:
    free = _free(said)
    if free < least:
        raise Unusable(
            f"{host}: only {free / 2**20:.0f} MiB are free on its disk",
            "free some (`docker system df` there), or lower --min-free-disk",
        )
    before, after = between
    off = max(before - CLOCK - float(said["time"]), float(said["time"]) - after - CLOCK)
    if off > 0:
        raise Unusable(
            f"{host}: its clock is {(off + CLOCK) / 60:.0f} minutes off", "set it, best with NTP"
        )
