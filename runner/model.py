import enum
import hashlib
import json
import unicodedata
from typing import Any, assert_never

import msgspec

from runner.errors import UsageError

# How many samples an eval has at most; it changes nothing in what each of them asks.
_SAMPLES = "--max_samples"


class Command(tuple[str, ...]):
    """The argv that upstream would run for an eval: `oaieval MODEL EVAL [argument...]`.

    It is the identity of a job: in progress files, in attempts, in labels. A file may hold any
    list of texts, so that each property has a value for one that is too short as well.
    """

    __slots__ = ()

    @property
    def program(self) -> str:
        """The program that runs the eval, `oaieval` as a rule."""
        return "".join(self[:1])

    @property
    def model(self) -> str:
        """The completion function or solver, as given; empty in what is too short to have one."""
        return "".join(self[1:2])

    @property
    def eval(self) -> str:
        """The resolved key of the eval; of what is too short to have one, all of it."""
        return self[2] if self.is_whole else " ".join(self)

    @property
    def arguments(self) -> tuple[str, ...]:
        """What follows the eval."""
        return self[3:]

    @property
    def is_whole(self) -> bool:
        """Whether it has program, model and eval."""
        return len(self) > 2  # noqa: PLR2004 - these three

    @property
    def without_eval(self) -> tuple[str, ...]:
        """What commands of one run have in common."""
        return (*self[:2], *self[3:])

    @property
    def key(self) -> str:
        """Stands for it, as `key_of` does."""
        return key_of(self)

    @property
    def answers_key(self) -> str:
        """Stands for it without `--max_samples`, because more samples can use the same answers."""
        arguments = list(self)
        for place in reversed(range(3, len(self))):
            if self[place] == _SAMPLES:
                del arguments[place : place + 2]
            elif self[place].startswith(f"{_SAMPLES}="):
                del arguments[place]
        return key_of(arguments)


def key_of(value: object) -> str:
    """Sixteen hex digits that stand for what JSON can hold, the same on every host."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def container_registries(count: int) -> tuple[str, ...]:
    """Where registry folders lie in every container, so that commands are the same everywhere."""
    return tuple(f"/registry/{index}" for index in range(count))


def container_code(count: int) -> tuple[str, ...]:
    """Where folders of code lie in every container, unless they are registry folders as well."""
    return tuple(f"/code/{index}" for index in range(count))


def decode_command(kind: type, value: object) -> object:
    """What `msgspec` needs to decode a `Command`, as `dec_hook`.

    Raises:
        ValueError: it is no list of texts.
    """
    if kind is not Command:
        raise NotImplementedError(kind)
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise ValueError("a command is a list of texts")
    return Command(value)


class Fault(enum.Enum):
    """Who is to blame for an attempt that did not succeed."""

    EVAL = "eval"
    ENVIRONMENT = "environment"


class Problem(enum.StrEnum):
    """Why no request can succeed any more; `OTHER` is also what only a newer version knows."""

    BUDGET = "budget"
    PRICE = "price"
    KEY = "key"
    QUOTA = "quota"
    DISK = "disk"
    GATEWAY = "gateway"
    OTHER = ""

    @classmethod
    def _missing_(cls, value: object) -> "Problem":  # noqa: ARG003 - as enum calls it
        return cls.OTHER


class State(enum.StrEnum):
    """Where an eval stands; the values are those of tables and of JSON."""

    DONE = "done"
    FAILED = "failed"
    LOST = "lost"
    RUNNING = "running"
    TO_DO = "to do"


class Result(enum.Enum):
    """How an attempt ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    LOST = "lost"

    @property
    def state(self) -> State:
        """The state of an eval whose last attempt ended so."""
        match self:
            case Result.SUCCESS:
                return State.DONE
            case Result.FAILURE:
                return State.FAILED
            case Result.LOST:
                return State.LOST
            case _:
                assert_never(self)


# Bytes that an eval may have in its `/tmp` where nobody says otherwise.
TMP_LIMIT = 10 * 2**30


class ContainerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What one eval's container gets.

    Attributes:
        image: name of the image, as `docker run` takes it.
        memory: limit in bytes, swap included.
        cpus: limit in CPUs; None leaves the engine's.
        pids_limit: the most processes and threads.
        gpus: `all`, a count, or `device=ID,...`, as `docker run --gpus`; None is none.
        timeout: seconds until the eval is stopped.
        tmp_limit: bytes that the eval may have in its `/tmp`.
        network: a Docker network's name, or `none`, `host`, `bridge`.
        env: names of the host's environment variables that are passed in.
        code: folders of the host with Python code, absolute, which it can import from.
        requirements: file of the packages that it has besides those of its image, absolute; None
            is none.
    """

    image: str
    memory: int
    cpus: float | None
    pids_limit: int
    gpus: str | None
    timeout: float
    network: str
    tmp_limit: int = TMP_LIMIT
    env: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    requirements: str | None = None

    @property
    def packages(self) -> tuple[str, str | None]:
        """What the container is created from: an image, and the packages that are added to it."""
        return self.image, self.requirements


# The value of one of these but `env` and `code`.
Setting = str | int | float | None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One command to be brought to success.

    Attributes:
        command: identifies the job, in progress files and everywhere else.
        argv: what runs in the container; differs from `command` only in registry paths.
    """

    command: Command
    argv: Command
    settings: ContainerSettings

    @property
    def eval(self) -> str:
        """The resolved key of the eval."""
        return self.command.eval

    @property
    def key(self) -> str:
        """Stands for the command, the same on every host."""
        return self.command.key


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt to make.

    Attributes:
        attempt: its id.
        container: the engine's id of the container in which an earlier run started it; empty for
            an attempt that nobody has started.
        created: when that was created, as `ending.stamp` has it; empty where that is not known.
    """

    job: Job
    attempt: str
    container: str = ""
    created: str = ""


# Of the lines of attempts files.
ATTEMPT_VERSION = 1


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt asked of model providers.

    Attributes:
        requests: that it made.
        replayed: those that were answered from the record, and cost nothing.
        tokens: of the answers that were paid for, prompt and answer.
        saved_tokens: of the replayed ones.
        usd: what the paid ones cost; None where no price is known.
        saved_usd: what the replayed ones had cost, likewise.
    """

    requests: int = 0
    replayed: int = 0
    tokens: int = 0
    saved_tokens: int = 0
    usd: float | None = None
    saved_usd: float | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """How one attempt of a job ended: a line of an attempts file.

    Attributes:
        run: id of the run that recorded it.
        host: name of the host that it ran on.
        eval: its resolved key.
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
        samples: how many the logs hold.
        warnings: what a reader of the record should know.
        spending: what it asked of providers; None where it went without the gateway.
    """

    version: int = ATTEMPT_VERSION
    id: str = msgspec.field(name="attempt")
    run: str
    host: str
    command: Command
    eval: str
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
    spending: Spending | None = None

    @property
    def all_logs(self) -> tuple[str, ...]:
        """Oaieval's logs and the console log, where there is one."""
        return self.logs if self.console_log is None else (*self.logs, self.console_log)


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
                f"{len(part.encode())} bytes, and a file name has at most {MOST_BYTES}",
                "shorten one of them",
            )


def check_name(kind: str, name: str) -> None:
    """Refuse a model's or an eval set's name that leads elsewhere or cannot name a file.

    A `/` makes a subfolder, as it does in upstream. `kind` says in the message what it names.
    """
    if not name.strip():
        raise UsageError(f"the {kind}'s name is empty", "give one")
    shown = ascii(name[:60])[1:-1] + ("..." if len(name) > 60 else "")  # noqa: PLR2004 - plain
    # a surrogate stands for a byte of the command line that is no UTF-8
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        raise UsageError(
            f"the {kind}'s name `{shown}` holds characters that cannot be printed", "leave them out"
        )
    if name.startswith("/"):
        raise UsageError(
            f"the {kind}'s name `{shown}` is an absolute path", "leave out the `/` at its start"
        )
    parts = name.split("/")
    if ".." in parts:
        raise UsageError(
            f"the {kind}'s name `{shown}` has `..` in it and would lead elsewhere",
            "give it without",
        )
    longest = max(len(part.encode()) for part in parts)
    if len(name) > MOST_CHARACTERS or longest > MOST_BYTES:
        raise UsageError(
            f"the {kind}'s name `{shown}` is too long: {len(name)} characters, at most "
            f"{MOST_CHARACTERS}, and at most {MOST_BYTES} bytes between two `/`",
            "give a shorter one",
        )
