from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from runner.errors import EnvironmentFault, UsageError
from runner.files import UNREADABLE, read_text, replace

# What messages call an entry of each kind.
_CALLED = {
    "eval_sets": "eval set",
    "evals": "eval",
    "completion_fns": "completion function",
    "solvers": "solver",
}

# openai/evals fills these in itself.
_RESERVED = ("key", "group", "cls")

# The folders of a registry that evalset reads.
KINDS = (*_CALLED, "containers")

# Part of the name of a cached registry: increase it when the fields of `Registry` change.
_CACHE_VERSION = 1


def parse_mapping(path: str, text: str) -> dict[str, Any]:
    """Read a YAML file whose top level maps names to anything; `path` is for messages.

    An empty file is an empty mapping, as upstream has it.

    Raises:
        UsageError: it is not YAML or not a mapping, or a name is not text or is defined twice.
    """
    import yaml  # noqa: PLC0415 - costs 20 ms, and a registry that was kept needs none of it

    # libyaml is ten times as fast, but not every wheel has it
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        if node is None or node.tag == "tag:yaml.org,2002:null":
            return {}
        if not isinstance(node, yaml.MappingNode):
            line = node.start_mark.line + 1
            what = "list" if isinstance(node, yaml.SequenceNode) else "single value"
            raise UsageError(f"{path}, line {line}: expected a mapping of names, found a {what}")
        _check_names(path, node)
        document: dict[str, Any] = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise UsageError(_describe(path, error)) from None
    except (ValueError, TypeError) as error:
        # PyYAML lets Python's own errors through, as for the date 2024-99-99
        raise UsageError(f"{path}: this YAML holds a value that cannot be read: {error}") from None
    finally:
        loader.dispose()
    return document


def _check_names(path: str, node: Any) -> None:  # noqa: ANN401 - yaml is imported late
    """Refuse what PyYAML accepts: a name that is not text, and the same name twice."""
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.tag != "tag:yaml.org,2002:str":
            raise UsageError(f"{path}, line {line}: a name must be text", "put quotes around it")
        if key.value in lines:
            raise UsageError(
                f"{path}, line {line}: `{key.value}` is already defined at line {lines[key.value]}",
                "rename or remove one of them",
            )
        lines[key.value] = line


def _describe(path: str, error: Exception) -> str:
    # for a character that YAML cannot hold there is a reason and no line, else there is a problem
    mark = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}" if mark else ""
    problem = getattr(error, "problem", None) or getattr(error, "reason", error)
    return f"{path}{where}: this is not valid YAML: {' '.join(str(problem).split())}"


class RegistryFile(msgspec.Struct, frozen=True, kw_only=True):
    """One YAML file of a registry.

    Attributes:
        path: where it is, for messages.
        kind: the folder it lies in, one of `KINDS` or `modelgraded`.
    """

    path: str
    kind: str
    text: str


class EvalEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An entry below `evals/`.

    Attributes:
        source: path of its file.
        alias: the name that it stands for; None when it is an eval itself.
        problem: why it cannot be run; empty when it can.
    """

    source: str
    alias: str | None = None
    problem: str = ""


class EvalSetEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An entry below `eval_sets/`.

    Attributes:
        source, alias, problem: as in `EvalEntry`.
        patterns: names of evals, where `*` stands for any text.
        builtin: whether it is upstream's, so that users cannot fix its faults.
    """

    source: str
    alias: str | None = None
    patterns: tuple[str, ...] = ()
    problem: str = ""
    builtin: bool = False


class Registry(msgspec.Struct, frozen=True, kw_only=True):
    """What can be run, by name, in registry order; of models only the path of their file.

    It has only plain values, so that it can be cached as a file.
    """

    evals: dict[str, EvalEntry] = msgspec.field(default_factory=dict)
    eval_sets: dict[str, EvalSetEntry] = msgspec.field(default_factory=dict)
    completion_fns: dict[str, str] = msgspec.field(default_factory=dict)
    solvers: dict[str, str] = msgspec.field(default_factory=dict)


def parse_registry(files: Iterable[RegistryFile], *, builtin: bool = False) -> Registry:
    """Read the files of one registry, which come in registry order: sorted by name in each kind.

    An entry that cannot be run is kept with its problem, so that it stops only runs that need it.

    Args:
        builtin: whether they are upstream's.

    Raises:
        UsageError: a file is not a mapping of names, a name is defined twice, or a keyword is
            reserved.
    """
    return merge_registries(
        _parse_file(file, builtin=builtin) for file in files if file.kind in _CALLED
    )


def _parse_file(file: RegistryFile, *, builtin: bool) -> Registry:
    specs = parse_mapping(file.path, file.text)
    for name, spec in specs.items():
        for keyword in _RESERVED:
            if isinstance(spec, dict) and keyword in spec:
                raise UsageError(
                    f"{file.path}: `{name}` uses the reserved keyword `{keyword}`", "rename it"
                )
    if file.kind == "evals":
        return Registry(evals={name: _eval_entry(file.path, spec) for name, spec in specs.items()})
    if file.kind == "eval_sets":
        return Registry(
            eval_sets={
                name: _eval_set_entry(file.path, spec, builtin=builtin)
                for name, spec in specs.items()
            }
        )
    if file.kind == "solvers":
        return Registry(solvers=dict.fromkeys(specs, file.path))
    return Registry(completion_fns=dict.fromkeys(specs, file.path))


def merge_registries(registries: Iterable[Registry]) -> Registry:
    """Join registries, the built-in one first.

    Raises:
        UsageError: two of them have the same name.
    """
    merged = Registry()
    for registry in registries:
        for kind, called in _CALLED.items():
            ours, theirs = getattr(merged, kind), getattr(registry, kind)
            for name in theirs:
                if name in ours:
                    raise UsageError(
                        f"{called} `{name}` is defined twice, in {_source(ours[name])} and "
                        f"in {_source(theirs[name])}",
                        "rename one of them",
                    )
            ours |= theirs
    return merged


def _source(entry: EvalEntry | EvalSetEntry | str) -> str:
    return entry if isinstance(entry, str) else entry.source


def _alias(spec: object) -> str | None:
    if isinstance(spec, str):
        return spec
    alias = spec.get("id") if isinstance(spec, dict) else None
    return alias if isinstance(alias, str) else None


def _eval_entry(path: str, spec: object) -> EvalEntry:
    alias = _alias(spec)
    problem = _eval_problem(spec) if alias is None else ""
    return EvalEntry(source=path, alias=alias, problem=problem)


def _eval_problem(spec: object) -> str:
    if not isinstance(spec, dict):
        return "is neither a mapping nor another eval's name"
    if spec.get("id") is not None:
        return "has an `id` that is not text"
    if "class" not in spec:
        return "has no `class`, such as `my.module:MyEval`"
    if not isinstance(spec["class"], str):
        return "has a `class` that is not text"
    if not isinstance(spec.get("args"), dict | None):
        return "has `args` that are not a mapping"
    return ""


def _eval_set_entry(path: str, spec: object, *, builtin: bool) -> EvalSetEntry:
    alias = _alias(spec)
    if alias is not None:
        return EvalSetEntry(source=path, alias=alias, builtin=builtin)
    evals = spec.get("evals") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or "evals" not in spec:
        problem = "has no `evals`, a list of names or patterns"
    elif not isinstance(evals, list) or not all(isinstance(each, str) for each in evals):
        problem = "has `evals` that are not a list of names or patterns"
    elif not evals:
        problem = "has an empty list of `evals`"
    else:
        return EvalSetEntry(source=path, patterns=tuple(evals), builtin=builtin)
    return EvalSetEntry(source=path, problem=problem, builtin=builtin)


def read_folder(folder: Path, kinds: Sequence[str] = KINDS) -> list[RegistryFile]:
    """The YAML files of a registry folder, by kind and then by name.

    A kind may also be a single file of that name, as upstream allows.
    """
    files: list[RegistryFile] = []
    for kind in kinds:
        place = folder / kind
        paths = [place] if place.is_file() else sorted(place.glob("*.yaml"))
        files += (RegistryFile(path=str(path), kind=kind, text=read_text(path)) for path in paths)
    return files


def misnamed(folder: Path) -> list[Path]:
    """Files that look like a registry's, but are not read because they end in `.yml`."""
    return sorted(
        path for kind in (*KINDS, "modelgraded") for path in (folder / kind).glob("*.yml")
    )


def folder_problem(folder: Path) -> UsageError | None:
    """Why a folder that the user named is not a registry, and what to do; None if it is one."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        return UsageError(f"the registry folder {folder} {what}", "check --registry-path")
    if any((folder / kind).exists() for kind in (*KINDS, "data", "modelgraded")):
        return None
    loose = sorted(path.name for path in folder.glob("*.yaml"))
    if loose:
        return UsageError(
            f"the registry folder {folder} has {loose[0]} in it directly, where no registry looks",
            "put files of evals into a folder `evals` in it, those of eval sets into `eval_sets`",
        )
    # Most likely the user meant the folder above it, or one below it.
    return UsageError(
        f"the registry folder {folder} has none of a registry's folders (evals, eval_sets and "
        "so on)",
        "name the folder that they are in",
    )


class RegistryCache:
    """Caches the registries in images, by image id: reading one takes a container, and seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "registries"

    def get(self, image_id: str) -> Registry | None:
        """The registry of an image; None if it is not in the cache or cannot be read."""
        try:
            content = self._path(image_id).read_bytes()
            return msgspec.msgpack.decode(content, type=Registry)
        except (OSError, *UNREADABLE):
            return None

    def put(self, image_id: str, registry: Registry) -> None:
        """Cache the registry of an image; if that fails, it is read again next time."""
        with suppress(EnvironmentFault):
            replace(self._path(image_id), msgspec.msgpack.encode(registry))

    def newest(self) -> Registry | None:
        """The newest registry in the cache: shell completion must not ask the engine for one."""
        kept = self._folder.glob(f"*.{_CACHE_VERSION}.msgpack")
        newest = max(kept, key=lambda path: path.stat().st_mtime, default=None)
        return self.get(newest.name.partition(".")[0]) if newest else None

    def _path(self, image_id: str) -> Path:
        return self._folder / f"{image_id.removeprefix('sha256:')}.{_CACHE_VERSION}.msgpack"
