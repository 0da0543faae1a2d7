import glob
from pathlib import Path
from typing import Annotated

import msgspec

from runner import __version__
from runner.files import UNREADABLE, named, replace
from runner.records.layout import Layout, keep_dated

VERSION = 1

# What every reader of JSON can hold.
MAX_GENERATION = 2**53

_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_GENERATION)]


class RunFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is pinned to; written when it starts, over the one before.

    Attributes:
        version: of this format.
        runner: version of evalset.
        run: id of the run.
        model: as given.
        eval_set: as given.
        image: name of the default image.
        image_id: the engine's id of it.
        image_digest: the image registry's digest; None for an image that was built here.
        image_fingerprint: of what it was built from; None for an image that is not ours.
        commands: the whole plan, those of other shards among them, in order.
        in_eval_set: how many evals the set has, those that were not selected among them; None in
            a file of an earlier version.
        shard: `I/N`; None for all.
        limits: the default ones, as numbers: bytes, CPUs, processes, seconds.
        network: the default one; None in a file of an earlier version.
        gpus: the default ones; None is none.
        registry: digest of what each job takes from registry folders, by the key of its argv;
            None in a file of an earlier version.
        settings: of each job's settings that matter for results those that are not the run's own,
            by the key of its argv; None in a file of an earlier version.
        generation: greater than that of each file that the run knew, for clocks of hosts differ.
    """

    version: int = VERSION
    runner: str = __version__
    run: str
    model: str
    eval_set: str
    image: str
    image_id: str
    image_digest: str | None = None
    image_fingerprint: str | None = None
    commands: tuple[tuple[str, ...], ...]
    in_eval_set: _Count | None = None
    shard: str | None = None
    limits: dict[str, int | float | None]
    network: str | None = None
    gpus: str | None = None
    registry: dict[str, str] | None = None
    settings: dict[str, dict[str, str | int | float | None]] | None = None
    generation: _Count = 0

    @property
    def age(self) -> tuple[int, str]:
        """Of two files that with the greater one is the newer."""
        return self.generation, self.run


def next_generation(layout: Layout) -> int:
    """The generation that follows on all files here, those with a date included."""
    paths = layout.run.parent.glob(f"{glob.escape(layout.run.name)}*")
    known = [file.generation for path in paths if (file := read_run_file(path))]
    return min(max(known, default=0) + 1, MAX_GENERATION)


def write_run_file(layout: Layout, content: RunFile) -> None:
    """Write a run's file."""
    put_run_file(layout.run, msgspec.json.format(msgspec.json.encode(content)) + b"\n")


def put_run_file(path: Path, content: bytes) -> None:
    """Replace a run's file; one that this version does not understand is kept, with a date."""
    if run_file_problem(path):
        keep_dated([path])
    replace(path, content, writer="run")


def read_run_file(path: Path) -> RunFile | None:
    """Read a run's file; None when there is none that this version understands."""
    return parse_run_file(_content(path))


def run_file_problem(path: Path) -> str:
    """Why a run's file is not understood, or not all of it, on one line; empty if it is."""
    content = _content(path)
    kept = "the next run that writes its own keeps this one under a name with a date"
    file = parse_run_file(content)
    if (file.version if file else version_of(content)) > VERSION:
        return f"{path} was written by a newer evalset; {kept}"
    if file or not path.exists():
        return ""
    return f"{path} cannot be read, so nothing is compared with what finished evals ran in; {kept}"


def _content(path: Path) -> bytes:
    with named(path, "read"):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return b""


def parse_run_file(content: bytes) -> RunFile | None:
    """Read what a run's file holds; None where this version does not understand it."""
    try:
        return msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"), type=RunFile)
    except UNREADABLE:
        return None


class _Versioned(msgspec.Struct):
    version: int = 0


def version_of(content: bytes) -> int:
    """The version that a run's file says it is of; 0 where it says none."""
    try:
        return msgspec.json.decode(content, type=_Versioned).version
    except UNREADABLE:
        return 0
