from pathlib import Path
from typing import Any

from runner.errors import UsageError
from runner.record.files import named


def find(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The nearest configuration at or above `folder`, and its table; None when there is none.

    In each folder `evalset.toml` comes before `[tool.evalset]` of `pyproject.toml`.
    """
    for place in (folder, *folder.parents):
        path = place / "evalset.toml"
        if path.is_file():
            return path, _load(path)
        path = place / "pyproject.toml"
        if path.is_file():
            tool = _load(path).get("tool")
            if isinstance(tool, dict) and "evalset" in tool:
                table = tool["evalset"]
                if not isinstance(table, dict):
                    raise UsageError(f"{path}: `tool.evalset` must be a table")
                return path, table
    return None


def _load(path: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - most folders have no configuration

    with named(path, "read"):
        content = path.read_bytes()
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: this is not valid TOML: {error}") from None
