import enum
import hashlib
import json
import unicodedata
from collections.abc import Sequence
from typing import Any

import msgspec

from runner.errors import UsageError


class Fault(enum.Enum):
    """Who is to blame for an attempt that did not succeed."""

    EVAL = "eval"
    ENVIRONMENT = "environment"


class Result(enum.Enum):
    """How an attempt ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    LOST = "lost"


class ContainerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What one eval's container gets.

    Attributes:
        image: name of the image, as `docker run` takes it.
        memory: limit in bytes, swap included.
        cpus: limit in CPUs; None leaves the engine's.
        pids_limit: how many processes and threads at the most.
        gpus: `all`, a count, or `device=ID,...`, as `docker run --gpus`; None is none.
        timeout: seconds until the eval is stopped.
        tmp_limit: bytes that the eval may have in its `/tmp`.
        network: a Docker network's name, or `none`, `host`, `bridge`.
        env: names of the host's environment variables that are handed in.
    """

    image: str
    memory: int
    cpus: float | None
    pids_limit: int
    gpus: str | None
    timeout: float
    network: str
    tmp_limit: int = 10 * 2**30
    env: tuple[str, ...] = ()


# The value of one of these but `env`.
Setting = str | int | float | None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One command to be brought to success.

    Attributes:
        command: the argv that identifies the job, in progress files and everywhere else.
        argv: what runs in the container; differs from `command` only in registry paths.
        eval: the resolved key of the eval.
        settings: what its container gets.
    """

    command: tuple[str, ...]
    argv: tuple[str, ...]
    eval: str
    settings: ContainerSettings

    @property
    def key(self) -> str:
        """Sixteen hex digits that stand for the command, the same on every host."""
        return key_of(self.command)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one attempt of a job ended.

    Attributes:
        attempt: the attempt's id.
        job: what was attempted.
        result: success, failure or lost.
        fault: None for a success.
        reason: one line for people; empty for a success.
        exit_code: of the container's main process; None when it never ran or is unknown.
        oom_killed: whether the kernel killed a process for the memory limit.
        started_at: UTC, RFC 3339; None when the container never started.
        ended_at: UTC, RFC 3339.
        duration: seconds from start to end.
        image: the image's id (`sha256:...`).
        logs: oaieval's logs, relative to the progress directory.
        console_log: the container's output, relative to the progress directory.
        final_report: what oaieval reported, None when it reported nothing.
        samples: how many samples the logs hold.
        warnings: what a reader of the record should know.
    """

    attempt: str
    job: Job
    result: Result
    fault: Fault | None = None
    reason: str = ""
    exit_code: int | None = None
    oom_killed: bool = False
    started_at: str | None = None
    ended_at: str
    duration: float = 0.0
    image: str = ""
    logs: tuple[str, ...] = ()
    console_log: str | None = None
    final_report: dict[str, Any] | None = None
    samples: int = 0
    warnings: tuple[str, ...] = ()


def key_of(command: tuple[str, ...]) -> str:
    """The key of the job with this command."""
    return hashlib.sha256(json.dumps(command).encode()).hexdigest()[:16]


# where registry folders lie in every container, so that a command is the same on every host
CONTAINER_REGISTRY = "/registry"


def container_registries(count: int) -> tuple[str, ...]:
    """Give the places of so many registry folders in the container, in order."""
    return tuple(f"{CONTAINER_REGISTRY}/{index}" for index in range(count))


def build_command(
    *,
    run_command: str,
    model: str,
    eval: str,  # noqa: A002 - upstream's word, and ours
    passed_through: Sequence[str] = (),
    registry_paths: Sequence[str] = (),
) -> tuple[str, ...]:
    """Give the argv for one eval.

    Upstream writes several registry paths as `--registry_path a b`, which `oaieval` rejects; the
    option stands once for each here. With one path, or none, the command is upstream's.
    """
    options = (part for path in registry_paths for part in ("--registry_path", path))
    return (run_command, model, eval, *passed_through, *options)


def identities(
    *,
    run_command: str,
    model: str,
    eval: str,  # noqa: A002 - upstream's word, and ours
    passed_through: Sequence[str] = (),
    registry_paths: Sequence[str] = (),
) -> tuple[tuple[str, ...], ...]:
    """Give every argv under which a progress file may hold this job as finished.

    Args:
        run_command: the program.
        model: the model.
        eval: the resolved key of the eval.
        passed_through: arguments for the program.
        registry_paths: as typed.

    Returns:
        With the container's paths (as `evalset` records it), with the paths as typed (as
        `oaievalset` records it), and as upstream records several paths; each once.
    """
    start = (run_command, model, eval, *passed_through)
    if not registry_paths:
        return (start,)
    forms = [
        build_command(
            run_command=run_command,
            model=model,
            eval=eval,
            passed_through=passed_through,
            registry_paths=paths,
        )
        for paths in (container_registries(len(registry_paths)), registry_paths)
    ]
    return tuple(dict.fromkeys([*forms, (*start, "--registry_path", *registry_paths)]))


MOST_CHARACTERS = 299

# of one part of a path, on every file system that Linux commonly has
MOST_BYTES = 255

# what is set aside keeps its name and gets a date
_LONGEST_SUFFIX = ".attempts.jsonl.20260101T000000.000000Z"


def check_names(model: str, eval_set: str) -> None:
    """Refuse names that cannot name the files of a run, alone or together.

    Raises:
        UsageError: one of them leads elsewhere, or no file can have that name.
    """
    check_name("model", model)
    check_name("eval set", eval_set)
    for part in f"{model}.{eval_set}{_LONGEST_SUFFIX}".split("/"):
        if len(part.encode()) > MOST_BYTES:
            raise UsageError(
                f"the names of model and eval set are too long together: `{part[:40]}...` has "
                f"{len(part.encode())} bytes, and a file name has at most {MOST_BYTES}; "
                "shorten one of them"
            )


def check_name(kind: str, name: str) -> None:
    """Refuse a model's or an eval set's name that leads elsewhere or cannot name a file.

    A `/` makes a subfolder, as it does in upstream.

    Args:
        kind: what it names, for the message.
        name: as given on the command line.

    Raises:
        UsageError: it is such a name.
    """
    if not name.strip():
        raise UsageError(f"the {kind}'s name is empty; give one")
    shown = ascii(name[:60])[1:-1] + ("..." if len(name) > 60 else "")  # noqa: PLR2004 - plain
    # a surrogate stands for a byte of the command line that is no UTF-8
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        raise UsageError(
            f"the {kind}'s name `{shown}` holds characters that cannot be printed; leave them out"
        )
    if name.startswith("/"):
        raise UsageError(
            f"the {kind}'s name `{shown}` is an absolute path; leave out the `/` at its start"
        )
    parts = name.split("/")
    if ".." in parts:
        raise UsageError(
            f"the {kind}'s name `{shown}` has `..` in it and would lead elsewhere; give it without"
        )
    longest = max(len(part.encode()) for part in parts)
    if len(name) > MOST_CHARACTERS or longest > MOST_BYTES:
        raise UsageError(
            f"the {kind}'s name `{shown}` is too long: {len(name)} characters, at most "
            f"{MOST_CHARACTERS}, and at most {MOST_BYTES} bytes between two `/`; give a shorter one"
        )
