from functools import cache
from pathlib import Path
from typing import Annotated

import msgspec

from runner.model import TMP_LIMIT, ContainerSettings
from runner.parameters import Argument, Heading, Option, Parameter, ValueKind, parameters
from runner.units import (
    LEAST_CPUS,
    Budget,
    Rate,
    Upstream,
    parse_budget,
    parse_cpus,
    parse_duration,
    parse_gpus,
    parse_memory,
    parse_pause,
    parse_pids_limit,
    parse_rate,
    parse_size,
    parse_tmp_limit,
    parse_upstream,
    show_budget,
    show_duration,
    show_size,
)

SIZE = ValueKind("SIZE", parse_size, show_size)
DURATION = ValueKind("DURATION", parse_duration, show_duration)
FILE = ValueKind("FILE", is_path=True)
FOLDER = ValueKind("FOLDER", is_path=True)
NAME = ValueKind("NAME")
N = ValueKind("N")
PATTERN = ValueKind("PATTERN")
RATE = ValueKind("N|MODEL=N", parse_rate)

Model = Annotated[str, Argument("model")]
EvalSet = Annotated[str, Argument("eval_set")]

# The options of more than one command, and their defaults.

OAIEVAL = "oaieval"  # openai/evals' own program
DEFAULT_IMAGE = "evalset/evals:3.0.1.post1"  # a name of our own: no image registry is asked for it
# Images that are built on the eval image, with what only a few evals need and what is huge.
EXTRAS = ("ml",)
# The network that evals share by default: a bridge of our own, on which containers reach the
# outside but not one another. One for all runs, because an engine has room for about 30.
EVAL_NETWORK = "evalset"
PROGRESS_DIR = Path("progress")
TIMEOUT = 3600.0
MAX_FILE = 50 * 2**20


def extra_image(extra: str, eval_image: str = DEFAULT_IMAGE) -> str:
    """The name of one of the `EXTRAS` on an eval image."""
    return f"{eval_image}-{extra}"


Hosts = Annotated[
    tuple[str, ...],
    Option(
        "Run evals on these Docker hosts, reached by ssh; `local` is this one. HOST=N "
        "runs at most N at once there.",
        ValueKind("HOST[=N],..."),
        names=("--hosts",),
        default="this machine alone",
    ),
]
MinFreeDisk = Annotated[
    int, Option("Start no new eval while less than this is free on the disk.", SIZE)
]
MIN_FREE_DISK = 2**30
AsJson = Annotated[
    bool,
    Option("Print JSON and nothing else on stdout.", names=("--json",), configurable=False),
]
Image = Annotated[str, Option("Image that evals run in.", NAME)]
ProgressDir = Annotated[
    Path, Option("Where a run's files are, laid out like upstream's /tmp.", FOLDER)
]
RegistryPaths = Annotated[
    tuple[str, ...],
    Option(
        "A further registry folder; evals can only read it.",
        FOLDER,
        names=("--registry-path", "--registry_path"),
    ),
]
Code = Annotated[
    tuple[str, ...],
    Option("A folder with Python code of yours; evals can import from it.", FOLDER),
]
Requirements = Annotated[
    str | None,
    Option("Add these packages to the image: pip's file, or a pyproject.toml.", FILE),
]
Select = Annotated[tuple[str, ...], Option("Run these evals only; * is any text.", PATTERN)]
Exclude = Annotated[tuple[str, ...], Option("Skip these evals; * is any text.", PATTERN)]
Jobs = Annotated[int | None, Option("Containers at once.", N, least=1, default="the engine's CPUs")]
Timeout = Annotated[float, Option("Stop an eval after this.", DURATION)]
Network = Annotated[str, Option("Docker network of an eval; `none` for no network.", NAME)]
PricesFile = Annotated[
    Path | None, Option("What a million tokens of each model cost, as YAML.", FILE)
]
Env = Annotated[
    tuple[str, ...],
    Option(
        "Pass in this variable of the host, by name.",
        NAME,
        names=("-e", "--env"),
    ),
]
Upstreams = Annotated[
    tuple[Upstream, ...],
    Option(
        "A further provider of models, with its key in NAME_API_KEY.",
        ValueKind("NAME=URL", parse_upstream),
        names=("--upstream",),
    ),
]
EnvFile = Annotated[Path | None, Option("Pass in the variables of this file.", FILE)]
Branch = Annotated[
    str | None, Option("Read a progress branch, not the directory.", NAME, configurable=False)
]
SnapshotBranch = Annotated[
    str | None,
    Option(
        "Branch of the snapshots.",
        NAME,
        names=("--snapshot-branch",),
        default="evalset/MODEL.EVAL_SET",
    ),
]
SnapshotRepo = Annotated[
    Path | None,
    Option(
        "Its repository.",
        FOLDER,
        names=("--snapshot-repo",),
        default="the one around this folder, else evalset's own",
    ),
]
RemoteName = Annotated[
    str | None,
    Option(
        "Remote to push it to; `none` for nowhere.",
        ValueKind("NAME|URL"),
        default="the repository's own",
    ),
]
RemoteToRead = Annotated[RemoteName, "Remote to read it from; `none` for this host alone."]
MaxFile = Annotated[
    int,
    Option(
        "Larger files are committed compressed, or stay here.",
        SIZE,
        names=("--snapshot-max-file",),
    ),
]
SnapshotAnswers = Annotated[
    bool,
    Option(
        "Put the providers' answers on the branch, too, and take over those that are there.",
        names=("--snapshot-answers",),
    ),
]


class SnapshotOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where snapshots go, and which."""

    branch: SnapshotBranch = None
    repo: SnapshotRepo = None
    remote: RemoteName = None
    every: Annotated[
        float,
        Option(
            "Take and push a snapshot at least this often, if anything is new.",
            DURATION,
            names=("--snapshot-every",),
        ),
    ] = 60.0
    max_file: MaxFile = MAX_FILE
    answers: SnapshotAnswers = False


class BranchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which progress branch a command reads; without a name it reads the progress directory."""

    branch: Branch = None
    repo: SnapshotRepo = None
    remote: RemoteToRead = None

    @property
    def snapshots(self) -> SnapshotOptions:
        """The same as a run has it."""
        return SnapshotOptions(branch=self.branch, repo=self.repo, remote=self.remote)


class OwnFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What a user adds to an image."""

    registry_paths: RegistryPaths = ()
    code: Code = ()
    requirements: Requirements = None


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """All that one invocation of `evalset run` was asked for.

    Attributes:
        as_typed: whether commands carry the registry folders as typed, as upstream's do, and not
            the places where the container sees them.
        all_or_none: whether `exit_on_error` was asked for, and is no mere default: nothing is
            started where an eval of the plan cannot run.
        explicit: names of the settings that were given on the command line, which no rule
            overrides.
    """

    model: Model
    eval_set: EvalSet
    passed_through: Annotated[tuple[str, ...], Argument(metavar="[ARGS]...")] = ()

    select: Annotated[Select, Heading("What to run")] = ()
    exclude: Exclude = ()
    shard: Annotated[str | None, Option("Run the I-th of N disjoint parts.", ValueKind("I/N"))] = (
        None
    )
    registry_paths: RegistryPaths = ()
    code: Code = ()
    requirements: Requirements = None
    jobs: Jobs = None
    hosts: Hosts = ()
    resume: Annotated[bool, Option("Skip finished evals.")] = True
    repin: Annotated[
        bool,
        Option(
            "Continue although image, registry, code, network, GPUs or limits differ from those "
            "of finished evals."
        ),
    ] = False
    dry_run: Annotated[
        bool,
        Option("Print what is finished and what would run, and why.", configurable=False),
    ] = False
    as_json: Annotated[AsJson, "With --dry-run: print one JSON object."] = False

    env: Annotated[Env, Heading("What each eval gets")] = ()
    env_file: EnvFile = None
    timeout: Timeout = TIMEOUT
    image: Image = DEFAULT_IMAGE
    memory: Annotated[
        int, Option("Memory limit of an eval.", ValueKind("SIZE", parse_memory, show_size))
    ] = 4 * 2**30
    cpus: Annotated[
        float,
        Option(f"CPU limit of an eval, at least {LEAST_CPUS}.", ValueKind("NUMBER", parse_cpus)),
    ] = 2
    pids_limit: Annotated[
        int, Option("The most processes and threads of an eval.", ValueKind("N", parse_pids_limit))
    ] = 1024
    tmp_limit: Annotated[
        int,
        Option(
            "How much an eval may have in its /tmp, logs included.",
            ValueKind("SIZE", parse_tmp_limit, show_size),
        ),
    ] = TMP_LIMIT
    network: Network = EVAL_NETWORK
    gpus: Annotated[
        str | None,
        Option(
            "GPUs of an eval, as for `docker run --gpus`.", ValueKind("all|N|device=ID", parse_gpus)
        ),
    ] = None
    probe: Annotated[
        bool,
        Option("Look into the image for evals that cannot run there, and skip them."),
    ] = True
    run_command: Annotated[
        str,
        Option(
            "Program that runs one eval; takes model, eval and arguments.", ValueKind("PROGRAM")
        ),
    ] = OAIEVAL

    budget: Annotated[
        Budget | None,
        Option(
            "Spend no more on models than this: 2mtok, or 5usd, which needs --prices; exit 75 if "
            "any eval is left.",
            ValueKind("AMOUNT", parse_budget, show_budget),
        ),
        Heading("Model and money"),
    ] = None
    prices: PricesFile = None
    rpm: Annotated[
        tuple[Rate, ...],
        Option("Send all models, or one, no more than N requests in any minute.", RATE),
    ] = ()
    tpm: Annotated[
        tuple[Rate, ...],
        Option("The same for tokens, in and out.", RATE),
    ] = ()
    gateway: Annotated[
        bool,
        Option("Reach models through evalset: evals get no keys, and answers are kept on disk."),
    ] = True
    upstreams: Upstreams = ()

    exit_on_error: Annotated[
        bool,
        Option("Start no new eval once one has failed."),
        Heading("When something goes wrong"),
    ] = True
    retries: Annotated[
        int,
        Option("Retry up to this many times if the environment failed, not the eval.", N, least=0),
    ] = 2
    max_failures: Annotated[
        int,
        Option(
            "Start no new eval once this many in a row have failed alike; 0 for no limit.",
            N,
            least=0,
        ),
    ] = 5
    min_free_disk: MinFreeDisk = MIN_FREE_DISK
    engine_wait: Annotated[
        float, Option("Wait this long for a Docker engine that goes away during a run.", DURATION)
    ] = 120.0
    grace: Annotated[
        float,
        Option(
            "On Ctrl-C, give running evals this long to end.",
            ValueKind("DURATION", parse_pause, show_duration),
        ),
    ] = 10.0
    time_budget: Annotated[
        float | None,
        Option(
            "Start no eval that usually takes longer than is left of this; exit 75 if any is left.",
            DURATION,
        ),
    ] = None

    progress_dir: Annotated[ProgressDir, Heading("What is kept")] = PROGRESS_DIR
    junit: Annotated[
        Path | None,
        Option("At the end, write the results to this file as JUnit XML.", FILE),
    ] = None

    take_snapshots: Annotated[
        bool,
        Option("Commit the progress to a branch, and resume from it.", names=("--snapshot",)),
        Heading("Snapshots on a Git branch"),
    ] = False
    snapshots: SnapshotOptions = SnapshotOptions()

    as_typed: bool = False
    all_or_none: bool = False
    explicit: frozenset[str] = frozenset()

    @property
    def settings(self) -> ContainerSettings:
        """What a container gets where no rule says otherwise."""
        return ContainerSettings(**{name: getattr(self, name) for name in SETTINGS})

    @property
    def snapshot(self) -> SnapshotOptions | None:
        """Where snapshots go; None takes none."""
        return self.snapshots if self.take_snapshots else None


# The fields of a container's settings that are options; `env` there is made of more than `--env`.
SETTINGS = tuple(name for name in ContainerSettings.__struct_fields__ if name != "env")


@cache
def options_of_run() -> dict[str, Parameter]:
    """How each field of `RunOptions` is given, by its name."""
    return {each.field: each for each in parameters(RunOptions)}
