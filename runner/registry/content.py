import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from runner.model import key_of
from runner.registry.entries import RegistryFile, parse_mapping, read_folder

# The kinds of entries that define models.
MODELS = ("completion_fns", "solvers")

# The kinds of entries that an argument of an eval or a model may name.
_NAMED = (*MODELS, "modelgraded")

# The entries of a registry folder, by kind and name.
Entries = dict[str, dict[str, Any]]


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What an eval uses of the user's registry folders.

    Attributes:
        entries: kind, name and canonical text of the entries.
        data: pairs of a folder's place and a text that may name data in it.
    """

    entries: frozenset[tuple[str, str, str]]
    data: frozenset[tuple[str, str]]


def digests_of(
    evals: Iterable[str],
    *,
    model: str,
    passed_through: Sequence[str],
    folders: Mapping[str, Path],
    files: Mapping[str, Sequence[RegistryFile]],
) -> dict[str, str]:
    """A digest of what each eval uses of the user's registry folders, by the eval's key.

    What evals use of the image is pinned with the image.

    Args:
        model: as given; it may be several, with commas between them.
        folders: the user's, by the place where containers see them.
        files: of these folders, by the same, without those that define graders.

    Raises:
        UsageError: a file is not a mapping of names.
    """
    entries = {}
    for place, known in files.items():
        # graders are read only where an entry may ask for one
        asked_for = any("modelgraded" in file.text for file in known)
        graders = read_folder(folders[place], kinds=("modelgraded",)) if asked_for else []
        entries[place] = parse_entries((*known, *graders))
    data = DataFiles(folders)
    digests = {}
    for key in evals:
        content = content_of(key, model=model, passed_through=passed_through, folders=entries)
        digests[key] = digest_of(content, {name: data.hash_of(*name) for name in content.data})
    return digests


def parse_entries(files: Iterable[RegistryFile]) -> Entries:
    """The entries of a registry folder that evals may depend on."""
    entries: Entries = {}
    for file in files:
        if file.kind in ("evals", *_NAMED):
            entries.setdefault(file.kind, {}).update(parse_mapping(file.path, file.text))
    return entries


def content_of(
    eval: str,  # noqa: A002 - upstream's word, and ours
    *,
    model: str,
    passed_through: Sequence[str],
    folders: Mapping[str, Entries],
) -> Content:
    """What an eval depends on: its entry, its model's, the entries that these name, and so on.

    Every text in an entry, and in the arguments that are passed through, may be the name of a
    completion function, of a solver, of a modelgraded entry, or of data: classes call their
    arguments as they like.
    """
    entries: set[tuple[str, str, str]] = set()
    data: set[tuple[str, str]] = set()
    ahead = [("evals", eval), *((kind, name) for name in model.split(",") for kind in MODELS)]
    typed = [part for argument in passed_through for part in re.split("[,=]", argument)]
    ahead += [(kind, text) for text in typed for kind in _NAMED]
    known = set(ahead)
    while ahead:
        kind, name = ahead.pop()
        for place, specs in folders.items():
            spec = specs.get(kind, {}).get(name)
            if spec is None:
                continue
            entries.add((kind, name, json.dumps(_canonical(spec))))
            texts = {*_texts(spec), *(typed if kind == "evals" else ())}
            data.update((place, text) for text in texts)
            named = {(other, text) for text in texts for other in _NAMED} - known
            known |= named
            ahead += named
    return Content(entries=frozenset(entries), data=frozenset(data))


def digest_of(content: Content, hashes: Mapping[tuple[str, str], str | None]) -> str:
    """A key for what an eval depends on, including the hashes of its data."""
    data = sorted((key[1], found) for key in content.data if (found := hashes[key]))
    return key_of([sorted(content.entries), data])


def _canonical(value: object, above: tuple[int, ...] = ()) -> object:
    """A value that JSON can hold, the same for the same YAML, whatever the order of its names."""
    if id(value) in above:
        return "an anchor around itself"
    above = (*above, id(value))
    match value:
        case dict():
            pairs = [[_canonical(key), _canonical(each, above)] for key, each in value.items()]
            return {"mapping": sorted(pairs, key=json.dumps)}
        case list() | tuple():
            return [_canonical(each, above) for each in value]
        case set():
            return {"set": sorted(map(repr, value))}
        case str():
            return value
        case _:
            return {type(value).__name__: repr(value)}


def _texts(value: object) -> Iterator[str]:
    ahead, seen = [value], set()
    while ahead:
        one = ahead.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict | list | tuple | set) and id(one) not in seen:
            seen.add(id(one))
            ahead += one.values() if isinstance(one, dict) else one


class DataFiles:
    """Hashes of the data below registry folders. Each file is read once, in pieces.

    Args:
        folders: by the place where containers see them.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders
        self._known: dict[Path, str | None] = {}

    def hash_of(self, place: str, text: str) -> str | None:
        """The SHA-256, in hex digits, of the data that a text names for an eval of a folder.

        As upstream has it, that is a path below `data/`, or one that begins with a folder's place.
        A folder counts with the names and the content of all files in it. None where the text
        names no data that can be read.
        """
        path = self._path(place, text)
        if path is None:
            return None
        if path not in self._known:
            try:
                self._known[path] = _hash_folder(path) if path.is_dir() else hash_file(path)
            except (OSError, ValueError):  # there is no such file, or it cannot be a path
                self._known[path] = None
        return self._known[path]

    def _path(self, place: str, text: str) -> Path | None:
        base, below = self._folders[place], f"data/{text}"
        for other, folder in self._folders.items():
            if text.startswith(f"{other}/"):
                base, below = folder, text.removeprefix(f"{other}/")
        if text.startswith("/") and below == f"data/{text}":
            return None
        path = Path(os.path.normpath(base / below))
        # an argument such as `.` or `..`, or an empty one, names nothing
        return path if base in path.parents and path != base / "data" else None


def astray(folder: Path, text: str) -> Path | None:
    """Where data are that a text names by a path from a registry folder itself, or from above it.

    Upstream looks for them below the folder's `data`; people may think of their repository, or of
    the folder that they work in.
    """
    above = [folder, *folder.parents]
    top = next((place for place, each in enumerate(above) if (each / ".git").exists()), 1)
    for base in (*above[: top + 1], Path.cwd()):
        path = Path(os.path.normpath(base / text))
        with suppress(OSError, ValueError):  # it cannot be a path
            if path.exists():
                return path
    return None


def state_of_folders(folders: Iterable[Path]) -> str:
    """A hash of the names, sizes and times of all files in folders, in hex digits.

    No file is read, so that it is fast, however large the data are.
    """
    whole = hashlib.sha256()
    for folder in folders:
        for above, below, names in os.walk(folder):
            below[:] = sorted(set(below) - {".git"})
            for name in sorted(names):
                path = os.path.join(above, name)  # noqa: PTH118 - a folder may have very many
                try:
                    found = os.stat(path)  # noqa: PTH116 - as above
                except OSError:
                    continue
                about = f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_mode}\n"
                whole.update(about.encode(errors="surrogateescape"))
    return whole.hexdigest()


def hash_file(path: Path) -> str | None:
    """The SHA-256 of a file, in hex digits; None if it is not a regular file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_folder(folder: Path) -> str:
    whole = hashlib.sha256()
    paths = [Path(above, name) for above, _, names in os.walk(folder) for name in names]
    for path in sorted(paths):
        whole.update(f"{path.relative_to(folder)}\0{hash_file(path)}\n".encode(errors="replace"))
    return whole.hexdigest()
