from collections.abc import Iterable, Sequence
from pathlib import Path

from runner.errors import UsageError
from runner.plan.registry import RegistryFile
from runner.record.files import named

# What openai/evals alone reads.
OTHER_KINDS = ("data", "modelgraded")
KINDS = ("eval_sets", "evals", "completion_fns", "solvers", "containers")


def read(folder: Path, kinds: Sequence[str] = KINDS) -> list[RegistryFile]:
    """Read the YAML files of a registry folder, by kind and then by name.

    A kind may also be a single file of that name, as upstream allows. What is not there has none.
    """
    files = []
    for kind in kinds:
        for path in _yaml_files(folder / kind):
            with named(path, "read"):
                content = path.read_bytes()
            try:
                text = content.decode()
            except UnicodeDecodeError as error:
                line = content.count(b"\n", 0, error.start) + 1
                raise UsageError(
                    f"{path}, line {line}: this is not UTF-8; save it as UTF-8"
                ) from None
            files.append(RegistryFile(path=str(path), kind=kind, text=text))
    return files


def problem(folder: Path) -> str:
    """Why a folder that was named is no registry, and what to do, on one line; empty if it is."""
    if not folder.is_dir():
        return f"the registry folder {folder} does not exist; check --registry-path"
    if any((folder / kind).exists() for kind in (*KINDS, *OTHER_KINDS)):
        return ""
    # Most likely the one above it, or below it, was meant.
    return (
        f"the registry folder {folder} has none of a registry's folders (evals, eval_sets and "
        "so on); name the folder that they are in"
    )


def check(folder: Path) -> None:
    """Refuse a folder that was named and is no registry.

    Raises:
        UsageError: it is not there, or has nothing that a registry has.
    """
    if found := problem(folder):
        raise UsageError(found)


def _yaml_files(path: Path) -> Iterable[Path]:
    return [path] if path.is_file() else sorted(path.glob("*.yaml"))
