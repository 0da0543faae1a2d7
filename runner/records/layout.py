import glob
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from runner.errors import UsageError, did_you_mean
from runner.files import named, sync_folder
from runner.model import Command, check_names, key_of

# Files next to the records that matter only on this host and at this moment.
_PASSING = re.compile(r"\.lock$|\.holder\.json$|\.new$")

# Characters of an eval's key in the name of a file of its own.
MOST_OF_A_NAME = 100


def stamp() -> str:
    """The moment as names of files have it; no two moments have the same."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def dated_path(path: Path, when: str) -> Path:
    """The name under which a file, or a part of it, is set aside; `when` is a `stamp`."""
    return path.with_name(f"{path.name}.{when}")


def keep_dated(paths: Iterable[Path]) -> list[Path]:
    """Give those of some files that exist a name with a date, all the same, and return that."""
    when = stamp()
    moved = []
    for path in paths:
        if path.exists():
            target = dated_path(path, when)
            with named(path, "rename"):
                path.rename(target)
            moved.append(target)
    for folder in {path.parent for path in moved}:
        sync_folder(folder)
    return moved


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Where the files of one model and eval set lie; below `root` as upstream lays out `/tmp`.

    Attributes:
        root: the progress directory, absolute.
        model: as given to `oaieval`; a `/` in it makes a subfolder, as upstream's does.
    """

    root: Path
    model: str
    eval_set: str

    @classmethod
    def named(cls, root: Path, model: str, eval_set: str) -> "Layout":
        """Where the files of names that somebody typed lie; UsageError if no file can have them."""
        check_names(model, eval_set)
        return cls(root=root.resolve(), model=model, eval_set=eval_set)

    def no_progress(self) -> UsageError:
        """The error where none of the files are there, with names that are close."""
        name = f"{self.model} {self.eval_set}"
        close = [
            f"{each.model} {each.eval_set}"
            for each in scan(self.root)
            if did_you_mean(self.model, [each.model])
            and did_you_mean(self.eval_set, [each.eval_set])
        ]
        return UsageError(
            f"{self.root} has no progress of {name}",
            did_you_mean(name, [each for each in close if each != name])
            or "`evalset list progress` shows what it has, and --progress-dir names another",
        )

    def _file(self, ending: str) -> Path:
        return self.root / "oaievalset" / f"{self.model}.{self.eval_set}.{ending}"

    @property
    def progress(self) -> Path:
        """Upstream's list of finished commands."""
        return self._file("progress.txt")

    @property
    def attempts(self) -> Path:
        """One JSON object a line for each attempt that ended."""
        return self._file("attempts.jsonl")

    @property
    def run(self) -> Path:
        """What the run is pinned to."""
        return self._file("run.json")

    @property
    def data(self) -> Path:
        """The lock file of the data that evals were given."""
        return self._file("data.jsonl")

    @property
    def lock(self) -> Path:
        """Held by the live run."""
        return self._file("lock")

    @property
    def hosts(self) -> Path:
        """What was started on other hosts."""
        return self._file("hosts.jsonl")

    @property
    def hosts_spool(self) -> Path:
        """The folder of this machine's agent, if it is among the hosts of a run."""
        return self.root / ".hosts" / key_of([self.model, self.eval_set])

    @property
    def kept(self) -> tuple[Path, ...]:
        """What tells what was done, which `evalset reset` sets aside: files, and the answers."""
        return self.progress, self.attempts, self.run, self.data, self.answers

    @property
    def evallogs(self) -> Path:
        """Folder of oaieval's logs and the console logs."""
        return self.root / "evallogs"

    def console_log(self, attempt: str, eval_key: str) -> Path:
        """Where the output of an attempt's container is kept."""
        return self.evallogs / f"{attempt}_{self.model}_{eval_key}.console.log"

    @property
    def answers(self) -> Path:
        """Folder of the answers that providers gave."""
        return self.root / "answers" / f"{self.model}.{self.eval_set}"

    def answers_of(self, command: Command) -> Path:
        """Where the answers that one eval was given are kept, whatever its `--max_samples`."""
        name = re.sub("[^a-zA-Z0-9_.-]+", "-", command.eval)[:MOST_OF_A_NAME]
        return self.answers / f"{name}.{command.answers_key}.jsonl"

    @property
    def gateway(self) -> Path:
        """The folder of the process that stands between containers and providers."""
        return self.root / ".gateway" / key_of([self.model, self.eval_set])

    @property
    def written(self) -> tuple[Path, ...]:
        """The folders that runs, or evals, write to."""
        names = ("oaievalset", "evallogs", "answers", ".gateway", ".attempts", ".hosts")
        return tuple(self.root / name for name in names)

    def private(self, attempt: str) -> Path:
        """The folder that the container of a running attempt sees as `/tmp`."""
        return self.root / ".attempts" / attempt

    def state_files(self) -> list[str]:
        """The records that are there, dated ones too, relative to `root`."""
        return [
            str(path.relative_to(self.root))
            for kept in self.kept
            for path in sorted(kept.parent.glob(f"{glob.escape(kept.name)}*"))
            if path.is_file() and not path.is_symlink() and not _PASSING.search(path.name)
        ]

    def is_log(self, name: str) -> bool:
        """Whether a name from a record is that of a plain file among the logs."""
        path = self.root / name
        if not name.startswith("evallogs/") or ".." in path.parts:
            return False
        return path.is_file() and not path.is_symlink()

    def log_paths(self, names: Iterable[str]) -> list[Path]:
        """The plain files that a record calls its logs, wherever it is from; each once."""
        folder = self.evallogs.resolve()
        paths = (self.root / name for name in dict.fromkeys(names) if self.is_log(name))
        return [path for path in paths if path.resolve().is_relative_to(folder)]


def scan(root: Path) -> list[Layout]:
    """Every model and eval set with progress or attempts below `root`, sorted.

    The last dot separates the two names, because an eval set's name seldom has one.
    """
    folder = root / "oaievalset"
    names = {
        str(path.relative_to(folder))[: -len(ending)]
        for ending in (".progress.txt", ".attempts.jsonl", ".run.json")
        for path in folder.rglob(f"*{ending}")
    }
    pairs = sorted(tuple(name.rpartition(".")[::2]) for name in names if "." in name)
    return [Layout(root=root, model=model, eval_set=eval_set) for model, eval_set in pairs]
