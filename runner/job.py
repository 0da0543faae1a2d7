import enum
import hashlib
import json
from typing import Any

import msgspec


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
