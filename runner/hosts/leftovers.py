"""What runs on the hosts of a model and eval set, or is left there, and how it is looked at."""

import enum
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec

from runner.engine.engine import Engine, as_environment_fault
from runner.engine.leftovers import Leftover, containers_of
from runner.engine.live import console_of
from runner.errors import EnvironmentFault
from runner.hosts.equip import PYTHON
from runner.hosts.ledger import read_ledger
from runner.hosts.spool import known_as, layout_of, left_in
from runner.hosts.ssh import FAILED, LOCAL, Unusable, command, refusal, run
from runner.model import Command
from runner.records.layout import Layout
from runner.records.state import RunState

# Hosts that are asked at the same time, and seconds in which one has to answer.
AT_ONCE = 16
PATIENCE = 20.0

# Seconds in which a host has to remove things.
LONG = 300.0

# Bytes of a log that are passed on at once.
_CHUNK = 1 << 16

_LIST = """
docker ps -a --no-trunc --filter "label=evalset.progress=$HOME/.evalset/spool/$1" \
    --format '{{.Label "evalset.attempt"}} {{.State}}'
"""

# Both streams in one, as the engine's own log has them.
_LOGS = """
id=$(docker ps -aq --filter "label=evalset.attempt=$1" | head -n 1)
[ -n "$id" ] || { echo "the container of $1 is not there any more" >&2; exit 1; }
shift
exec docker logs "$@" "$id" 2>&1
"""


# The agent of a progress directory, started if the host has just done so.
_AGENT = """
code=$(docker inspect --format '{{index .Config.Labels "evalset.agent.code"}}' \
    "evalset-agent-$1" 2>/dev/null) || exit 0
docker start "evalset-agent-$1" >/dev/null
echo "$HOME/.evalset $code"
"""

# Prints the attempts that still had a container.
_REMOVE = """
mine() { docker ps -aq --filter "label=evalset.progress=$HOME/.evalset/spool/$1"; }
docker rm -f -v "evalset-agent-$1" >/dev/null 2>&1
mine "$1" | xargs -r docker inspect --format '{{index .Config.Labels "evalset.attempt"}}'
mine "$1" | xargs -r docker rm -f -v >/dev/null
rm -rf "$HOME/.evalset/spool/$1"
"""

# Prints what is in use, and so stays; `$1` are ids of progress directories of which nothing stays,
# `$2` of those with a live run.
_SWEEP = r"""
base="$HOME/.evalset" kept=
docker ps -q >/dev/null || exit 1
containers() { docker ps -aq --filter "label=evalset.progress=$base/spool/$1"; }
agent() { docker ps -aq --filter "label=evalset.agent=$1"; }
in_use() {
    case " $2 " in *" $1 "*) return 0 ;; esac
    case " $3 " in *" $1 "*) return 1 ;; esac
    [ -n "$(containers "$1")" ] || [ -n "$(ls "$base/spool/$1/jobs" 2>/dev/null)" ] ||
        agent "$1" | xargs -r docker top 2>/dev/null | grep -q ' relay '
}
for id in $(ls "$base/spool" 2>/dev/null); do
    if in_use "$id" "$2" "$1"; then
        kept="$kept $id"
    else
        agent "$id" | xargs -r docker rm -f -v >/dev/null
        containers "$id" | xargs -r docker rm -f -v >/dev/null
        rm -rf "$base/spool/$id"
    fi
done
if [ -n "$kept" ]; then
    echo $kept
    find "$base/store" -maxdepth 1 -name 'agent-*' -mmin +60 | while read -r code; do
        [ -n "$(docker ps -aq --filter "label=evalset.agent.code=${code##*/}")" ] || rm -rf "$code"
    done
    exit 0
fi
for image in $(ls "$base/images" 2>/dev/null); do
    docker image rm "evalset/sent:$(echo "$image" | cut -c 1-16)" >/dev/null 2>&1
done
rm -rf "$base"
for label in evalset.agent evalset.attempt; do
    [ -z "$(docker ps -aq --filter "label=$label")" ] || exit 0
done
docker network rm evalset >/dev/null 2>&1
exit 0
"""


class LeftoverState(enum.StrEnum):
    """What is known of an attempt that a host was told to make, and that is not on record."""

    RUNNING = "running"
    ENDED = "ended"
    GONE = "gone"
    UNKNOWN = "unknown"


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt on a host that is not on record."""

    attempt: str
    host: str
    command: Command
    phase: LeftoverState = LeftoverState.UNKNOWN


class LeftOnHosts(msgspec.Struct, frozen=True, kw_only=True):
    """What a run with hosts has under way, or has left.

    Attributes:
        known: whether any run has used hosts.
        attempts: that are not on record, the newest last.
        away: since when hosts are away, as a live run has put it down.
        problems: why hosts could not be asked, one line each.
    """

    known: bool = False
    attempts: tuple[Left, ...] = ()
    away: Mapping[str, str] = {}
    problems: tuple[str, ...] = ()

    def running(self) -> dict[Command, str]:
        """The host of each eval that runs, or may run."""
        may = {LeftoverState.RUNNING, LeftoverState.UNKNOWN}
        return {each.command: each.host for each in self.attempts if each.phase in may}


def left_on_hosts(layout: Layout, state: RunState, *, ask: bool = False) -> LeftOnHosts:
    """What the ledger says of hosts; this machine is asked what is true, others only on request.

    Args:
        state: of the same files.
        ask: whether to ask the others as well, over ssh.
    """
    ledger = read_ledger(layout)
    if not ledger.id:
        return LeftOnHosts()
    commands = {each.key: each for each in state.commands}
    recorded = {each.id for each in state.attempts}
    done = set(state.done())
    left = [
        Left(attempt=each.attempt, host=each.host, command=commands[each.job])
        for each in ledger.started.values()
        if each.attempt not in recorded
        and each.job in commands
        and not {commands[each.job], " ".join(commands[each.job])} & done
    ]
    hosts = {each.host for each in left if ask or each.host == LOCAL}
    problems: list[str] = []
    phases: dict[str, dict[str, LeftoverState]] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = {host: pool.submit(_phases, layout, host, ledger.id) for host in sorted(hosts)}
        for host, future in asked.items():
            try:
                phases[host] = future.result()
            except EnvironmentFault as error:
                problems.append(str(error))
    return LeftOnHosts(
        known=True,
        attempts=tuple(
            msgspec.structs.replace(
                each, phase=phases[each.host].get(each.attempt, LeftoverState.GONE)
            )
            if each.host in phases
            else each
            for each in left
        ),
        away=ledger.away,
        problems=tuple(problems) if ask else (),
    )


def _phases(layout: Layout, host: str, id_: str) -> dict[str, LeftoverState]:
    """The attempts of a progress directory that a host has."""
    if host == LOCAL:
        with as_environment_fault():
            found = find_here(Engine(), layout, id_)
        return {each.attempt: _phase(running=each.running) for each in found}
    said = run(host, ["sh", "-s", "--", id_], given=_LIST.encode(), timeout=PATIENCE)
    words = [line.split() for line in said.splitlines()]
    return {
        attempt: _phase(running=state == "running")
        for attempt, state in (each for each in words if len(each) == 2)  # noqa: PLR2004 - what is asked for
    }


def find_here(engine: Engine, layout: Layout, id_: str) -> list[Leftover]:
    """Containers of the agent of this machine."""
    return left_in(engine, layout_of(layout.hosts_spool), known_as(id_))


def _phase(*, running: bool) -> LeftoverState:
    return LeftoverState.RUNNING if running else LeftoverState.ENDED


def running_on(layout: Layout, state: RunState) -> dict[Command, str]:
    """Evals that run now, also those of a run that was killed, by their commands.

    Each with its host, for people; with nothing where that is this machine and the run has no
    hosts. Without an engine nothing runs here.
    """
    here = {one.command: "" for one in containers_of(layout) if one.running}
    there = left_on_hosts(layout, state)
    running = there.running().items()
    return here | {it: f"{on} (away)" if on in there.away else on for it, on in running}


def console_on(layout: Layout, left: Left, *, follow: bool) -> Iterator[bytes]:
    """What the container of an attempt has printed, wherever it runs.

    Args:
        follow: whether to keep reading until it ends.

    Raises:
        EnvironmentFault: its host cannot be reached, or has it no more.
    """
    if left.host != LOCAL:
        yield from _console_there(left, follow=follow)
        return
    with as_environment_fault():
        engine = Engine()
        for one in find_here(engine, layout, read_ledger(layout).id):
            if one.attempt == left.attempt:
                yield from console_of(engine, one.container, follow=follow)


def _console_there(left: Left, *, follow: bool) -> Iterator[bytes]:
    words = ["sh", "-c", _LOGS, "sh", left.attempt, *(["--follow"] if follow else [])]
    with subprocess.Popen(
        command(left.host, words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout and process.stderr  # noqa: S101, PT018 - for the type checker
        try:
            while part := process.stdout.read1(_CHUNK):  # type: ignore[attr-defined] # of a BufferedReader
                yield part
            said = process.stderr.read().decode(errors="replace")
        except GeneratorExit:
            process.kill()
            raise
    if process.returncode == FAILED:
        raise refusal(left.host, process.returncode, said)
    if process.returncode:
        raise Unusable(
            f"{left.host}: {said.strip() or 'its engine does not answer'}",
            "`evalset status` says whether the eval has ended, or runs elsewhere",
        )


def line_to_agent(host: str, id_: str) -> list[str]:
    """The command line that leads to the agent of a progress directory; empty where none is.

    Raises:
        EnvironmentFault: the host cannot be reached, or its engine does not answer.
    """
    said = run(host, ["sh", "-s", "--", id_], given=_AGENT.encode(), timeout=PATIENCE).split()
    if len(said) != 2:  # noqa: PLR2004 - the folder and the name of the code
        return []
    base, code = said
    words = ["docker", "exec", "-i", f"evalset-agent-{id_}", *PYTHON, f"{base}/store/{code}"]
    return command(host, [*words, "relay", f"{base}/spool/{id_}"])


def remove_there(host: str, id_: str) -> list[str]:
    """Remove the agent of a progress directory from a host, and all containers that it had.

    Returns:
        The attempts that still had a container.

    Raises:
        EnvironmentFault: the host cannot be reached.
    """
    return run(host, ["sh", "-s", "--", id_], given=_REMOVE.encode(), timeout=LONG).split()


def sweep_host(host: str, mine: Iterable[str], live: Iterable[str]) -> list[str]:
    """Remove all that is ours from a host, but for what is in use there.

    Args:
        mine: ids of progress directories that no run uses.
        live: ids of those that a live run uses.

    Returns:
        Ids of the progress directories for which something stays.

    Raises:
        EnvironmentFault: the host cannot be reached.
    """
    words = ["sh", "-s", "--", " ".join(mine), " ".join(live)]
    return run(host, words, given=_SWEEP.encode(), timeout=LONG).split()


def newest(left: Iterable[Left], eval_key: str) -> Left | None:
    """The newest attempt of an eval whose container may be there."""
    found = [
        one for one in left if one.command.eval == eval_key and one.phase is not LeftoverState.GONE
    ]
    return max(found, key=lambda one: one.attempt, default=None)


def where_words(hosts: Iterable[str]) -> str:
    """How many evals each host has, in words: `2 on lab-a, 1 on lab-b`."""
    return ", ".join(f"{count} on {host}" for host, count in sorted(Counter(hosts).items()))
