import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from runner.data.lock import ELSEWHERE, DataFile, DataLock, look_through
from runner.errors import EnvironmentFault, RunnerError
from runner.files import named, read_json, replace, sync_folder
from runner.model import key_of
from runner.records.folders import remove_tree
from runner.registry.content import Entries, content_of, parse_entries
from runner.registry.entries import RegistryFile

# Characters of an eval's name that the name of its folder has.
_MOST_OF_A_NAME = 60


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """The data of an eval that are in the cache.

    Attributes:
        content: folder of the files; nothing but `DataCache.put` writes there.
    """

    lock: DataLock
    content: Path


def key_of_eval(
    name: str, entries: Mapping[str, Entries], passed_through: Sequence[str] = ()
) -> str:
    """A key for what decides which data an eval loads: its name, its entry, and arguments for it.

    Args:
        name: its resolved key.
        entries: of the user's registry folders, by the folder's place in the container.
        passed_through: arguments of `oaieval`; only those that change an eval's arguments count.
    """
    found = content_of(name, model="", passed_through=(), folders=entries)
    return key_of([name, sorted(found.entries), _own_arguments(passed_through)])


def _own_arguments(passed_through: Sequence[str]) -> list[str]:
    words = iter(passed_through)
    option = "--extra_eval_params"
    found = []
    for word in words:
        if word == option:
            found.append(next(words, ""))
        elif word.startswith(f"{option}="):
            found.append(word.partition("=")[2])
    return found


def keys_of(
    evals: Iterable[str],
    own: Mapping[str, Sequence[RegistryFile]],
    passed_through: Sequence[str] = (),
) -> dict[str, str]:
    """The keys of many evals, by their resolved keys; `own` are the user's registry files."""
    entries = {place: parse_entries(files) for place, files in own.items()}
    return {name: key_of_eval(name, entries, passed_through) for name in evals}


class DataCache:
    """The data of evals on this host, a folder for each.

    Args:
        root: of the user's cache for this program.
    """

    def __init__(self, root: Path) -> None:
        self.root = root / "data"

    def folder(self, name: str, key: str) -> Path:
        """The folder of an eval's data."""
        return self.root / f"{_plain(name)}.{key}"

    def may_have(self, evals: Iterable[str]) -> list[str]:
        """The evals that may have data here, going by the names of folders alone."""
        if not self.root.is_dir():
            return []
        known = {path.name.rpartition(".")[0] for path in self.root.iterdir()}
        return [name for name in evals if _plain(name) in known]

    def unfinished(self, name: str, key: str) -> Path:
        """The folder that an eval's data are in while they are fetched."""
        folder = self.folder(name, key)
        return folder.with_name(f".fetching-{folder.name}")

    @property
    def fetch_lock(self) -> Path:
        """The lock of the process that changes the cache."""
        return self.root / "fetch.lock"

    def get(self, name: str, key: str) -> Data | None:
        """The data of an eval; None if they were not fetched.

        Raises:
            EnvironmentFault: they are damaged: a file is missing, or is of another size.
        """
        folder = self.folder(name, key)
        lock = read_json(folder / "lock.json", DataLock)
        if lock is None:
            if folder.is_dir():
                raise _damaged(name, folder / "lock.json")
            return None
        content = folder / "content"
        for file in lock.files:
            if not _is_alike(content / file.path, file):
                raise _damaged(name, content / file.path)
        return Data(lock=lock, content=content)

    def intact(self, name: str, key: str) -> Data | None:
        """The data of an eval if each file still has its hash; else None."""
        try:
            found = self.get(name, key)
            if found is None or look_through(found.content, found.lock.eval) == found.lock.files:
                return found
        except (RunnerError, OSError):
            return None
        return None

    def all(self) -> Iterator[tuple[Path, DataLock | None]]:
        """Each folder with its lock; None for one that is damaged, or is being fetched."""
        if not self.root.is_dir():
            return
        for folder in sorted(self.root.iterdir()):
            if folder.is_dir():
                yield folder, read_json(folder / "lock.json", DataLock)

    def put(self, lock: DataLock, fetched: Path) -> Data:
        """Put fetched data into the cache, replacing those that were there."""
        folder = self.folder(lock.eval, lock.key)
        fresh = folder.with_name(f".new-{folder.name}")
        with named(fresh, "write", option=ELSEWHERE):
            remove_tree(fresh)
            fresh.mkdir(parents=True)
            if lock.files:
                fetched.rename(fresh / "content")
            else:
                (fresh / "content").mkdir()
            replace(fresh / "lock.json", msgspec.json.format(lock.line) + b"\n")
            remove(folder)
            fresh.rename(folder)
            sync_folder(self.root)
        return Data(lock=lock, content=folder / "content")


def _plain(name: str) -> str:
    return re.sub("[^a-zA-Z0-9_.-]+", "-", name)[:_MOST_OF_A_NAME]


def remove(folder: Path) -> None:
    """Remove a folder of the cache, if it is there."""
    with named(folder, "remove", option=ELSEWHERE):
        remove_tree(folder)


def _damaged(name: str, path: Path) -> EnvironmentFault:
    return EnvironmentFault(
        f"the fetched data of {name} are damaged: {path} is missing or has changed",
        "fetch them again with `evalset data fetch`",
    )


def _is_alike(path: Path, file: DataFile) -> bool:
    try:
        about = path.lstat()
        if file.link:
            return stat.S_ISLNK(about.st_mode) and str(path.readlink()) == file.link
        return stat.S_ISREG(about.st_mode) and about.st_size == file.size
    except OSError:
        return False


def fetched_for(
    cache: DataCache,
    evals: Iterable[str],
    own: Mapping[str, Sequence[RegistryFile]],
    passed_through: Sequence[str],
) -> dict[str, Data]:
    """The data of these evals, without evals that turned out to need none.

    Raises:
        EnvironmentFault: some of it is damaged.
    """
    known = cache.may_have(evals)
    if not known:
        return {}
    found = {
        name: data
        for name, key in keys_of(known, own, passed_through).items()
        if (data := cache.get(name, key)) is not None
    }
    return {name: data for name, data in found.items() if data.lock.files}
