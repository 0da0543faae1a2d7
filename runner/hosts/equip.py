"""Brings content, images and the agent to a host."""

import gzip
import subprocess
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Any

import msgspec

from runner.engine.engine import Engine
from runner.hosts.bundles import Bundle
from runner.hosts.check import Facts
from runner.hosts.ssh import Unreachable, Unusable, command, refusal, run
from runner.image.image import Image, own_fingerprint
from runner.report.text import size

# Images that are streamed at the same time, to whichever hosts.
STREAMS = threading.Semaphore(4)

# Seconds for a whole image.
LONG = 3600

# Bytes of content from which on people are told that it is sent.
LARGE = 100 * 2**20

# Starts Python without anything that the image or the user put in its way.
BOOT = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import runpy; "
    "runpy.run_module('runner.hosts', run_name='__main__', alter_sys=True)"
)
PYTHON = ("python3", "-I", "-S", "-c", BOOT)

# A label of agents' containers: the progress directory's id, and the name of its code.
AGENT = "evalset.agent"
CODE = "evalset.agent.code"

_FIND = """
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
"""

_PULL = """
docker pull -q "$1" >/dev/null && docker image inspect --format '{{.Id}}' "$1"
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
name=$1 code=$2 store=$3; shift 3
if [ "$(docker inspect --format '{{.State.Running}} {{index .Config.Labels "evalset.agent.code"}}' \
    "$name" 2>/dev/null)" = "true $code" ]; then exit 0; fi
docker rm -f "$name" >/dev/null 2>&1 || true
docker run -d --name "$name" "$@" >/dev/null
# The code of agents that have gone, unless somebody has only just brought it.
used=$(docker ps -aq --filter label=evalset.agent |
    xargs -r docker inspect --format '{{index .Config.Labels "evalset.agent.code"}}')
find "$store" -maxdepth 1 -name 'agent-*' -mmin +60 | while read -r each; do
    case "$used" in *"${each##*/}"*) ;; *) rm -rf "$each" ;; esac
done
"""


class EquippedHost(msgspec.Struct, frozen=True, kw_only=True):
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

    def stored(self, content: Bundle) -> str:
        """Where content is on the host."""
        return f"{self.facts.base}/store/{content.name}"

    def script(self, text: str, *words: str, timeout: float = 120) -> str:
        """Run a script with these arguments; Unusable if it fails."""
        return run(self.name, ["sh", "-s", "--", *words], given=text.encode(), timeout=timeout)

    def link(self, code: Bundle) -> list[str]:
        """The command line that connects its standard input and output to the agent."""
        words = ["docker", "exec", "-i", self.agent, *PYTHON, self.stored(code)]
        return command(self.name, [*words, "relay", self.spool])


def send(host: EquippedHost, content: Bundle, image: str, *, tell: Callable[[str], None]) -> None:
    """Bring content to a host that does not have it; an image there unpacks it.

    Args:
        tell: is told of content that takes a while.
    """
    if content.name in host.facts.has:
        return
    if (bytes_ := content.size()) >= LARGE:
        tell(f"{host.name} gets {content.place} ({size(bytes_)})")
    store = f"{host.facts.base}/store"
    part = f"{store}/.{uuid.uuid4().hex}"
    unpack = 'mkdir "$1" && tar -xzf - -C "$1" && (mv -T "$1" "$2" || rm -rf "$1") && test -d "$2"'
    words = [
        *("docker", "run", "--rm", "-i", "--network", "none", "--user", host.facts.user),
        *("--volume", f"{store}:{store}", "--entrypoint", "sh", image),
        *("-c", unpack, "sh", part, f"{store}/{content.name}"),
    ]
    _piped(host, words, content.write)


def _piped(host: EquippedHost, words: Sequence[str], write: Callable[[IO[bytes]], None]) -> str:
    """Run words on a host, write to their standard input, and give what they print."""
    with subprocess.Popen(
        command(host.name, words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as running:
        assert running.stdin  # noqa: S101 - for the type checker
        with suppress(BrokenPipeError), running.stdin as pipe:
            write(pipe)  # if they have ended, they say why
        running.stdin = None  # it is closed
        out, errors = running.communicate()
    if running.returncode:
        raise refusal(host.name, running.returncode, errors.decode(errors="replace"))
    return out.decode(errors="replace").strip()


def ensure_image(
    host: EquippedHost, engine: Engine, image: Image, *, tell: Callable[[str], None]
) -> str:
    """The id of an image on a host; it is pulled there, or sent, if it is missing.

    Args:
        engine: that has the image.
        tell: is told how far it is.
    """
    if found := host.script(_FIND, *_words(host, engine, image)).strip():
        return found.splitlines()[-1]
    if image.digest and (found := _pull(host, image.digest, image.name, tell)):
        return found
    with STREAMS:
        return _stream(host, engine, image, tell)


def _pull(host: EquippedHost, digest: str, name: str, tell: Callable[[str], None]) -> str:
    """Have a host pull an image; give its id there, or nothing if that fails."""
    tell(f"{host.name} pulls the image {name}")
    try:
        return host.script(_PULL, digest, timeout=LONG).strip().splitlines()[-1]
    except Unreachable:
        raise
    except Unusable as error:
        why = error.what.removeprefix(f"{host.name}: ")
        tell(f"{host.name} cannot pull the image {name}, and gets it from here: {why}")
        return ""


def has_image(host: EquippedHost, engine: Engine, image: Image) -> bool:
    """Whether a host has an image, so that it needs neither be pulled nor sent."""
    return bool(host.script(_FIND, *_words(host, engine, image)).strip())


def _words(host: EquippedHost, engine: Engine, image: Image) -> tuple[str, ...]:
    fingerprint = own_fingerprint(engine.api, image) or ""
    return image.id, fingerprint, image.digest or "", host.facts.base


def _stream(host: EquippedHost, engine: Engine, image: Image, tell: Callable[[str], None]) -> str:
    about: dict[str, Any] = engine.api.inspect_image(image.id)  # type: ignore[no-untyped-call] # its stubs lack it
    whole = max(1, int(about["Size"]))
    words = ["sh", "-c", _LOAD, "sh", image.id, host.facts.base]

    def save(to: IO[bytes]) -> None:
        sent = told = 0
        with gzip.GzipFile(fileobj=to, mode="wb", compresslevel=1, mtime=0) as packed:
            for part in engine.api.get_image(image.id):
                packed.write(part)
                sent += len(part)
                percent = min(99, sent * 100 // whole)
                if percent >= told + 25:
                    told = percent
                    tell(f"{host.name} gets the image {image.name}: {percent} %")
        tell(f"{host.name} gets the image {image.name}: 100 %")

    return _piped(host, words, save).splitlines()[-1]


def start_agent(host: EquippedHost, code: Bundle, image: str) -> None:
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
    host.script(_AGENT, host.agent, code.name, f"{facts.base}/store", *words)
