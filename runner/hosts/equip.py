"""Brings content, images and the agent to a host."""

import gzip
import subprocess
import threading
import uuid
from collections.abc import Callable
from typing import IO, Any

import msgspec

from runner.engine.engine import Engine
from runner.hosts.check import Facts
from runner.hosts.content import Content
from runner.hosts.ssh import command, refusal, run
from runner.image.image import Image, own_fingerprint

# Images that are streamed at the same time, to whichever hosts.
STREAMS = threading.Semaphore(4)

# Seconds for a whole image.
LONG = 3600

# Starts Python without anything that the image or the user put in its way.
BOOT = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import runpy; "
    "runpy.run_module('runner.hosts', run_name='__main__', alter_sys=True)"
)
PYTHON = ("python3", "-I", "-S", "-c", BOOT)

# A label of agents' containers: the progress directory's id, and the name of its code.
AGENT = "evalset.agent"
CODE = "evalset.agent.code"

_IMAGE = """
image=$1 fingerprint=$2 digest=$3 base=$4
has() { docker image inspect --format "$1" "$2" 2>/dev/null; }
id=$(cat "$base/images/${image#sha256:}" 2>/dev/null)
for each in "$image" $id $digest; do
    found=$(has '{{.Id}}' "$each") && echo "$found" && exit 0
done
if [ -n "$fingerprint" ]; then
    label="label=evalset.fingerprint=$fingerprint"
    for each in $(docker image ls -q --no-trunc --filter "$label"); do
        case "$(docker image history --no-trunc --format '{{.CreatedBy}}' "$each" | head -n 1)" in
            *"LABEL evalset."*) echo "$each"; exit 0 ;;
        esac
    done
fi
if [ -n "$digest" ] && docker pull -q "$digest" >/dev/null 2>&1; then
    has '{{.Id}}' "$digest"
fi
exit 0
"""

_LOAD = """
set -e
said=$(docker load -q)
id=${said##*: }
id=$(docker image inspect --format '{{.Id}}' "$id")
docker tag "$id" "evalset/sent:$(echo "${1#sha256:}" | cut -c 1-16)"
echo "$id" > "$2/images/${1#sha256:}"
echo "$id"
"""

_AGENT = """
set -e
name=$1 code=$2; shift 2
if [ "$(docker inspect --format '{{.State.Running}} {{index .Config.Labels "evalset.agent.code"}}' \
    "$name" 2>/dev/null)" = "true $code" ]; then exit 0; fi
docker rm -f "$name" >/dev/null 2>&1 || true
exec docker run -d --name "$name" "$@" >/dev/null
"""

_REMOVE = """
id=$1
docker ps -aq --filter "label=evalset.agent=$id" | xargs -r docker rm -f -v >/dev/null
docker ps -aq --filter "label=evalset.progress=$HOME/.evalset/spool/$id" |
    xargs -r docker rm -f -v >/dev/null
rm -rf "$HOME/.evalset/spool/$id"
"""


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A host that can be used, as ssh reaches it.

    Attributes:
        name: what ssh calls it.
        id: of the progress directory.
    """

    name: str
    id: str
    facts: Facts

    @property
    def agent(self) -> str:
        """The name of the agent's container."""
        return f"evalset-agent-{self.id}"

    @property
    def spool(self) -> str:
        """The agent's folder."""
        return f"{self.facts.base}/spool/{self.id}"

    def stored(self, content: Content) -> str:
        """Where content is on the host."""
        return f"{self.facts.base}/store/{content.name}"

    def script(self, text: str, *words: str, timeout: float = 120) -> str:
        """Run a script with these arguments; Unusable if it fails."""
        return run(self.name, ["sh", "-s", "--", *words], given=text.encode(), timeout=timeout)

    def link(self, code: Content) -> list[str]:
        """The command line that connects its standard input and output to the agent."""
        words = ["docker", "exec", "-i", self.agent, *PYTHON, self.stored(code)]
        return command(self.name, [*words, "relay", self.spool])


def send(host: Host, content: Content, image: str) -> None:
    """Bring content to a host that does not have it; an image there unpacks it."""
    if content.name in host.facts.has:
        return
    store = f"{host.facts.base}/store"
    part = f"{store}/.{uuid.uuid4().hex}"
    unpack = 'mkdir "$1" && tar -xzf - -C "$1" && (mv -T "$1" "$2" || rm -rf "$1") && test -d "$2"'
    words = [
        *("docker", "run", "--rm", "-i", "--network", "none", "--user", host.facts.user),
        *("--volume", f"{store}:{store}", "--entrypoint", "sh", image),
        *("-c", unpack, "sh", part, f"{store}/{content.name}"),
    ]
    with content.packed() as file:
        run(host.name, words, given=file, timeout=LONG)


def ensure_image(host: Host, engine: Engine, image: Image, *, tell: Callable[[str], None]) -> str:
    """The id of an image on a host; it is pulled there, or sent, if it is missing.

    Args:
        engine: that has the image.
        tell: is told how far it is.
    """
    words = (
        image.id,
        own_fingerprint(engine.api, image) or "",
        image.digest or "",
        host.facts.base,
    )
    if found := host.script(_IMAGE, *words, timeout=LONG).strip():
        return found.splitlines()[-1]
    with STREAMS:
        return _stream(host, engine, image, tell)


def _stream(host: Host, engine: Engine, image: Image, tell: Callable[[str], None]) -> str:
    about: dict[str, Any] = engine.api.inspect_image(image.id)  # type: ignore[no-untyped-call] # its stubs lack it
    size = max(1, int(about["Size"]))
    words = ["sh", "-c", _LOAD, "sh", image.id, host.facts.base]
    with subprocess.Popen(
        command(host.name, words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as sending:
        assert sending.stdin  # noqa: S101 - for the type checker
        _save(
            engine,
            image,
            size,
            sending.stdin,
            lambda percent: tell(f"{host.name} gets the image {image.name}: {percent} %"),
        )
        sending.stdin = None  # it is closed
        out, errors = sending.communicate()
    if sending.returncode:
        raise refusal(host.name, sending.returncode, errors.decode(errors="replace"))
    return out.decode().strip().splitlines()[-1]


def _save(
    engine: Engine, image: Image, size: int, to: IO[bytes], tell: Callable[[int], None]
) -> None:
    """Write an image as `docker save` does, gzipped."""
    sent = told = 0
    try:
        with to, gzip.GzipFile(fileobj=to, mode="wb", compresslevel=1, mtime=0) as packed:
            for part in engine.api.get_image(image.id):
                packed.write(part)
                sent += len(part)
                percent = min(99, sent * 100 // size)
                if percent >= told + 25:
                    told = percent
                    tell(percent)
    except BrokenPipeError:  # what the other side said is told instead
        return
    tell(100)


def start_agent(host: Host, code: Content, image: str) -> None:
    """Start the agent of a progress directory on a host, unless it runs there already."""
    facts = host.facts
    words = [
        *("--restart", "unless-stopped", "--network", "none", "--user", facts.user),
        *("--group-add", facts.group, "--security-opt", "label=disable"),
        *("--label", f"{AGENT}={host.id}", "--label", f"{CODE}={code.name}"),
        *("--log-opt", "max-size=1m", "--init"),
        *("--volume", f"{facts.socket}:/var/run/docker.sock"),
        *("--volume", f"{facts.base}:{facts.base}"),
        *("--env", "DOCKER_HOST=unix:///var/run/docker.sock", "--env", f"HOME={host.spool}"),
        *("--entrypoint", PYTHON[0], image),
        *(*PYTHON[1:], host.stored(code), "agent", host.spool, host.agent),
    ]
    host.script(_AGENT, host.agent, code.name, *words)


def remove_agent(host: Host) -> None:
    """Remove all of a progress directory from a host."""
    host.script(_REMOVE, host.id)
