import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from runner.model import Attempt
from runner.records.attempts import read_attempts
from runner.records.layout import Layout
from runner.records.progress import read_progress

# Files next to the records that matter only on this host and at this moment.
_PASSING = re.compile(r"\.lock$|\.holder\.json$|\.new$")


def state_files(layout: Layout) -> list[str]:
    """The records of a model and eval set, dated ones too, relative to the progress directory."""
    folder = layout.progress.parent
    start = layout.progress.name.removesuffix("progress.txt")
    found = [
        path
        for ending in ("progress.txt", "attempts.jsonl", "run.json")
        for path in sorted(folder.glob(f"{_literal(start)}{ending}*"))
        if path.is_file() and not path.is_symlink() and not _PASSING.search(path.name)
    ]
    return [str(path.relative_to(layout.root)) for path in found]


def logs_of(records: Iterable[Attempt]) -> Iterator[str]:
    """The logs that attempts left, relative to the progress directory."""
    for record in records:
        yield from record.logs
        if record.console_log is not None:
            yield record.console_log


def all_logs(layout: Layout) -> list[str]:
    """Every log of a model and eval set that is there: those on record, and upstream's own."""
    names: dict[str, None] = {}
    for name in state_files(layout):
        if ".attempts.jsonl" in name:
            records = read_attempts(layout.root / name).records
            names |= dict.fromkeys(logs_of(records))
    finished = read_progress(layout.progress).commands
    evals = {command.eval for command in finished if command.is_whole}
    for path in layout.evallogs.rglob("*.jsonl"):
        # openai/evals calls it {run id}_{model}_{eval}.jsonl, and the model may have a slash.
        relative = str(path.relative_to(layout.evallogs))
        middle = relative.removesuffix(".jsonl").partition(f"_{layout.model}_")
        if middle[2] in evals and "_" not in middle[0]:
            names[f"evallogs/{relative}"] = None
    return [name for name in names if is_log(layout, name)]


def is_log(layout: Layout, name: str) -> bool:
    """Whether a name from a record is that of a plain file among the logs."""
    path = layout.root / name
    if not name.startswith("evallogs/") or ".." in path.parts:
        return False
    return path.is_file() and not path.is_symlink()


def log_paths(layout: Layout, names: Iterable[str]) -> list[Path]:
    """The plain files that a record calls its logs, wherever it is from; each once."""
    folder = layout.evallogs.resolve()
    paths = (layout.root / name for name in dict.fromkeys(names) if is_log(layout, name))
    return [path for path in paths if path.resolve().is_relative_to(folder)]


def _literal(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)
