import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from runner.errors import UsageError
from runner.files import named
from runner.model import key_of
from runner.registry.content import hash_file

# A model that is a class, or any other callable: `my_package.models:MyFn`.
_CLASS = re.compile(r"([A-Za-z_]\w*)(?:\.\w+)*:[A-Za-z_]\w*(?:\.\w+)*")

# What many repositories have at the top, and nobody imports.
_NOBODYS = frozenset({"conftest", "doc", "docs", "examples", "noxfile", "setup", "test", "tests"})


def code_problem(folder: Path) -> UsageError | None:
    """Why Python cannot import anything from a folder that the user named; None if it can."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        return UsageError(f"the code folder {folder} {what}", "check --code")
    if (folder / "__init__.py").exists():
        return UsageError(
            f"the code folder {folder} is itself a package, and is not found by its name",
            f"name the folder that it is in, {folder.parent}",
        )
    if modules_of(folder):
        return None
    source = folder / "src"
    if source.is_dir() and modules_of(source):
        return UsageError(
            f"the code folder {folder} has its packages in src", f"name {source} instead"
        )
    return UsageError(
        f"the code folder {folder} has no Python package and no module",
        "name the folder that your package is in",
    )


def modules_of(folder: Path) -> frozenset[str]:
    """The names that Python can import from a folder: modules and packages at its top."""
    return frozenset(name for name, _ in _modules(folder))


def _modules(folder: Path) -> Iterator[tuple[str, bool]]:
    """Each name, and whether it is a namespace package, which other folders may have as well."""
    with named(folder, "read"):
        paths = list(folder.iterdir())
    for path in paths:
        if path.suffix in {".py", ".so"} and path.name.split(".")[0].isidentifier():
            yield path.name.split(".")[0], False
        elif path.name.isidentifier() and path.is_dir() and not _is_left_out(path):
            if (path / "__init__.py").exists():
                yield path.name, False
            elif any(path.glob("*.py")) or (path.name != "src" and any(path.glob("*/*.py"))):
                yield path.name, True


def check_code(folders: Sequence[Path]) -> None:
    """Refuse folders if two have a module of the same name, because only one would be found.

    Raises:
        UsageError: two do; it names both.
    """
    known: dict[str, Path] = {}
    for folder in folders:
        for name in sorted(name for name, shared in _modules(folder) if not shared):
            if name in known and name not in _NOBODYS:
                raise UsageError(
                    f"two code folders have `{name}`: {known[name]} and {folder}",
                    "name one of them with --code, or rename the package",
                )
            known.setdefault(name, folder)


def shadowing(folders: Iterable[Path], image: Iterable[str]) -> Iterator[str]:
    """Warnings about modules that hide one of the same name in the image.

    Args:
        folders: the user's own.
        image: names that can be imported in the image.
    """
    there = set(image) - _NOBODYS
    for folder in folders:
        if both := sorted(modules_of(folder) & there):
            names = ", ".join(f"`{name}`" for name in both)
            yield (
                f"evals import {names} from {folder}, and not from the image, which has that, "
                "too; rename it, unless you mean to replace it"
            )


def hidden_in(folder: Path, progress: Path) -> Iterator[tuple[str, bool]]:
    """What evals do not see of a folder of code: the results of others, and what may be a key.

    Args:
        folder: the user's own, often the top of a repository.
        progress: the progress directory, with its links resolved.

    Returns:
        Each hidden file and folder at its top, such as `.env` and `.git`, and the progress
        directory if it is in there: its relative path, and whether it is a folder.
    """
    with named(folder, "read"), os.scandir(folder) as entries:
        hidden = {
            entry.name: entry.is_dir()
            for entry in entries
            if entry.name.startswith(".") and not entry.is_symlink()
        }
    yield from sorted(hidden.items())
    if progress.is_relative_to(folder.resolve()) and progress.is_dir():
        below = progress.relative_to(folder.resolve())
        if below.parts[0] not in hidden:
            yield str(below), True


class CodeDigests:
    """Digests of folders of code, each folder read once.

    Args:
        progress: the progress directory, which is no code wherever it is.
    """

    def __init__(self, progress: Path) -> None:
        self._progress = progress
        self._known: dict[str, str] = {}

    def of(self, folders: Sequence[str]) -> str:
        """Sixteen hex digits for the content of folders, whatever their order; empty for none."""
        if not folders:
            return ""
        return key_of(sorted(self._of(folder) for folder in folders))

    def _of(self, folder: str) -> str:
        if folder not in self._known:
            files = sorted(_files(Path(folder), self._progress))
            self._known[folder] = key_of(
                [[str(path.relative_to(folder)), _hash(path)] for path in files]
            )
        return self._known[folder]


def _hash(path: Path) -> str | None:
    try:
        return hash_file(path)
    except OSError:  # nor can an eval read it
        return None


def _files(folder: Path, progress: Path) -> Iterator[Path]:
    """The files that count as the content of a folder, without what tools and runs leave there."""
    for above, folders, files in os.walk(folder):
        paths = [Path(above, name) for name in folders]
        folders[:] = [
            path.name for path in paths if not _is_left_out(path) and path.resolve() != progress
        ]
        for name in files:
            if not name.startswith(".") and not name.endswith(".pyc"):
                yield Path(above, name)


def _is_left_out(folder: Path) -> bool:
    name = folder.name
    return (
        name.startswith(".")
        or name == "__pycache__"
        or name.endswith(".egg-info")
        or (folder / "pyvenv.cfg").exists()
    )


def classes_of(model: str, folders: Iterable[Path]) -> tuple[str, ...]:
    """The models of `MODEL[,MODEL...]` that are classes in these folders."""
    found = [(name, _CLASS.fullmatch(name)) for name in model.split(",")]
    classes = [(name, match[1]) for name, match in found if match]
    if not classes:
        return ()
    modules = {module for folder in folders for module in modules_of(folder)}
    return tuple(dict.fromkeys(name for name, module in classes if module in modules))


def registry_of(classes: Sequence[str]) -> Mapping[str, str]:
    """A registry folder that defines classes as models under their own names: text by path."""
    lines = [f'"{name}":\n  class: "{name}"\n' for name in classes]
    return {"completion_fns/classes.yaml": "".join(lines)}
