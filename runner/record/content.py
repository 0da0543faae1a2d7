import hashlib
import os
from collections.abc import Mapping
from pathlib import Path


class DataFiles:
    """Hashes of the data below registry folders, each file read once and never as a whole."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        """Take the folders, by the place where containers see them."""
        self._folders = folders
        self._known: dict[Path, str | None] = {}

    def hash_of(self, place: str, text: str) -> str | None:
        """The SHA-256 of what a text names for an eval of the folder at `place`, in hex digits.

        As upstream has it, that is a path below `data/`, or one that begins with a folder's place.
        A folder counts with the names and the content of all files in it.

        Returns:
            None where the text names no data that can be read.
        """
        path = self._path(place, text)
        if path is None:
            return None
        if path not in self._known:
            try:
                self._known[path] = _hash_folder(path) if path.is_dir() else _hash_file(path)
            except (OSError, ValueError):  # no such name, or no name at all
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


def _hash_file(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_folder(folder: Path) -> str:
    whole = hashlib.sha256()
    paths = [Path(above, name) for above, _, names in os.walk(folder) for name in names]
    for path in sorted(paths):
        whole.update(f"{path.relative_to(folder)}\0{_hash_file(path)}\n".encode(errors="replace"))
    return whole.hexdigest()
