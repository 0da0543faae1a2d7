from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from runner.errors import EnvironmentFault, UsageError
from runner.files import UNREADABLE, named, replace


def parse_mapping(path: str, text: str) -> dict[str, Any]:
    """Read a YAML file whose top level maps names to anything.

    Args:
        path: of the file, for messages.
        text: what the file holds; an empty one is an empty mapping, as upstream has it.

    Raises:
        UsageError: it is no YAML, no mapping, or a name is not text or stands twice.
    """
    import yaml  # noqa: PLC0415 - costs 20 ms, and a warm registry cache needs none of it

    # libyaml is ten times as fast, and not every wheel has it
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
    """Refuse what PyYAML lets pass: a name that is not text, and the same name twice."""
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.tag != "tag:yaml.org,2002:str":
            raise UsageError(f"{path}, line {line}: a name must be text; put quotes around it")
        if key.value in lines:
            raise UsageError(
                f"{path}, line {line}: `{key.value}` already stands at line {lines[key.value]}; "
                "rename or remove one of them"
            )
        lines[key.value] = line


def _describe(path: str, error: Exception) -> str:
    # a character that YAML cannot hold is told with a reason and no line, all else with a problem
    mark = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}" if mark else ""
    problem = getattr(error, "problem", None) or getattr(error, "reason", error)
    return f"{path}{where}: this is not valid YAML: {' '.join(str(problem).split())}"


# upstream fills these in itself
RESERVED = ("key", "group", "cls")


class RegistryFile(msgspec.Struct, frozen=True, kw_only=True):
    """One YAML file of a registry.

    Attributes:
        path: where it is, for messages.
        kind: the folder it lies in: `eval_sets`, `evals`, `completion_fns` or `solvers`.
        text: what it holds.
    """

    path: str
    kind: str
    text: str


class EvalEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One name below `evals/`.

    Attributes:
        source: path of the file it stands in.
        alias: the name that it stands for; None when it is an eval itself.
        problem: why it cannot be run; empty when it can.
    """

    source: str
    alias: str | None = None
    problem: str = ""


class EvalSetEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One name below `eval_sets/`.

    Attributes:
        source: path of the file it stands in.
        alias: the name that it stands for; None when it is a set itself.
        patterns: names of evals, where `*` is any text.
        problem: why it cannot be run; empty when it can.
        builtin: it is upstream's own, and its faults are not the user's to mend.
    """

    source: str
    alias: str | None = None
    patterns: tuple[str, ...] = ()
    problem: str = ""
    builtin: bool = False


class Registry(msgspec.Struct, frozen=True, kw_only=True):
    """What can be run, in registry order. Plain values, so that it can be kept as a file.

    Attributes:
        evals: evals and their aliases by name.
        eval_sets: eval sets and their aliases by name.
        completion_fns: path of the file by name.
        solvers: path of the file by name.
    """

    evals: dict[str, EvalEntry] = msgspec.field(default_factory=dict)
    eval_sets: dict[str, EvalSetEntry] = msgspec.field(default_factory=dict)
    completion_fns: dict[str, str] = msgspec.field(default_factory=dict)
    solvers: dict[str, str] = msgspec.field(default_factory=dict)


def parse_registry(files: Sequence[RegistryFile], *, builtin: bool = False) -> Registry:
    """Read the files of one registry, which come in registry order: sorted by name in each kind.

    An entry that cannot be run is kept with its problem, so that it bothers only who asks for it.

    Args:
        files: of any of the four kinds; others are passed over.
        builtin: they are upstream's own.

    Raises:
        UsageError: a file is no mapping of names, a name stands twice, or a keyword is reserved.
    """
    registry = Registry()
    for file in files:
        add = _adder(registry, file, builtin=builtin)
        if add is None:
            continue
        for name, spec in parse_mapping(file.path, file.text).items():
            _check_reserved(file.path, name, spec)
            add(name, spec)
    return registry


def merge_registries(registries: Sequence[Registry]) -> Registry:
    """Join registries, the built-in one first.

    Raises:
        UsageError: two of them have the same name.
    """
    merged = Registry()
    for registry in registries:
        for kind, ours, theirs in (
            ("eval", merged.evals, registry.evals),
            ("eval set", merged.eval_sets, registry.eval_sets),
        ):
            _refuse_twice(kind, _sources(ours), _sources(theirs))
        _refuse_twice("completion function", merged.completion_fns, registry.completion_fns)
        _refuse_twice("solver", merged.solvers, registry.solvers)
        merged.evals.update(registry.evals)
        merged.eval_sets.update(registry.eval_sets)
        merged.completion_fns.update(registry.completion_fns)
        merged.solvers.update(registry.solvers)
    return merged


def _sources(entries: Mapping[str, EvalEntry | EvalSetEntry]) -> dict[str, str]:
    return {name: entry.source for name, entry in entries.items()}


def _refuse_twice(kind: str, ours: Mapping[str, str], theirs: Mapping[str, str]) -> None:
    for name in ours.keys() & theirs.keys():
        raise UsageError(_twice(kind, name, ours[name], theirs[name]))


def _twice(kind: str, name: str, first: str, second: str) -> str:
    return f"{kind} `{name}` stands twice, in {first} and in {second}; rename one of them"


def _adder(
    registry: Registry, file: RegistryFile, *, builtin: bool
) -> Callable[[str, Any], None] | None:
    """Give what puts an entry of the file into its place in the registry; None if it has none."""

    def add_eval(name: str, spec: object) -> None:
        if name in registry.evals:
            raise UsageError(_twice("eval", name, registry.evals[name].source, file.path))
        registry.evals[name] = _eval_entry(file.path, spec)

    def add_eval_set(name: str, spec: object) -> None:
        if name in registry.eval_sets:
            raise UsageError(_twice("eval set", name, registry.eval_sets[name].source, file.path))
        registry.eval_sets[name] = _eval_set_entry(file.path, spec, builtin=builtin)

    def add_completion_fn(name: str, _: object) -> None:
        if name in registry.completion_fns:
            earlier = registry.completion_fns[name]
            raise UsageError(_twice("completion function", name, earlier, file.path))
        registry.completion_fns[name] = file.path

    def add_solver(name: str, _: object) -> None:
        if name in registry.solvers:
            raise UsageError(_twice("solver", name, registry.solvers[name], file.path))
        registry.solvers[name] = file.path

    return {
        "evals": add_eval,
        "eval_sets": add_eval_set,
        "completion_fns": add_completion_fn,
        "solvers": add_solver,
    }.get(file.kind)


def _check_reserved(path: str, name: str, spec: object) -> None:
    if not isinstance(spec, dict):
        return
    for keyword in RESERVED:
        if keyword in spec:
            raise UsageError(f"{path}: `{name}` uses the reserved keyword `{keyword}`; rename it")


def _alias(spec: object) -> str | None:
    if isinstance(spec, str):
        return spec
    if isinstance(spec, dict) and isinstance(spec.get("id"), str):
        alias: str = spec["id"]
        return alias
    return None


def _eval_entry(path: str, spec: object) -> EvalEntry:
    alias = _alias(spec)
    if alias is not None:
        return EvalEntry(source=path, alias=alias)
    return EvalEntry(source=path, problem=_eval_problem(spec))


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
    def problem(text: str) -> EvalSetEntry:
        return EvalSetEntry(source=path, problem=text, builtin=builtin)

    alias = _alias(spec)
    if alias is not None:
        return EvalSetEntry(source=path, alias=alias, builtin=builtin)
    if not isinstance(spec, dict) or "evals" not in spec:
        return problem("has no `evals`, a list of names or patterns")
    evals = spec["evals"]
    if not isinstance(evals, list) or not all(isinstance(each, str) for each in evals):
        return problem("has `evals` that are not a list of names or patterns")
    if not evals:
        return problem("has an empty list of `evals`")
    return EvalSetEntry(source=path, patterns=tuple(evals), builtin=builtin)


# What openai/evals alone reads.
OTHER_KINDS = ("data", "modelgraded")

KINDS = ("eval_sets", "evals", "completion_fns", "solvers", "containers")


def read_folder(folder: Path, kinds: Sequence[str] = KINDS) -> list[RegistryFile]:
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


def folder_problem(folder: Path) -> str:
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


def check_folder(folder: Path) -> None:
    """Refuse a folder that was named and is no registry.

    Raises:
        UsageError: it is not there, or has nothing that a registry has.
    """
    if found := folder_problem(folder):
        raise UsageError(found)


def _yaml_files(path: Path) -> Iterable[Path]:
    return [path] if path.is_file() else sorted(path.glob("*.yaml"))


# Part of the file's name: raise it when `Registry` changes its shape.
VERSION = 1


class RegistryCache:
    """The registries inside images, kept by image id, for reading one takes a container."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "registries"

    def get(self, image_id: str) -> Registry | None:
        """The registry of an image, None when it was not kept or cannot be read."""
        try:
            content = self._path(image_id).read_bytes()
            return msgspec.msgpack.decode(content, type=Registry)
        except (OSError, *UNREADABLE):
            return None

    def put(self, image_id: str, registry: Registry) -> None:
        """Keep the registry of an image; where that cannot be, it is read again next time."""
        with suppress(EnvironmentFault):
            replace(self._path(image_id), msgspec.msgpack.encode(registry))

    def newest(self) -> Registry | None:
        """The registry that was kept last, for shell completion, which must not ask the engine."""
        kept = sorted(
            self._folder.glob(f"*.{VERSION}.msgpack"), key=lambda path: path.stat().st_mtime
        )
        return self.get(kept[-1].name.partition(".")[0]) if kept else None

    def _path(self, image_id: str) -> Path:
        return self._folder / f"{image_id.removeprefix('sha256:')}.{VERSION}.msgpack"
