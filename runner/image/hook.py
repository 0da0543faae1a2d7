"""Lets programs in the eval image start faster, and patches modules when they are imported.

A `.pth` file of the image's virtual environment imports this module whenever Python starts there,
hence so little of it: nothing is touched that a program does not import itself. The patches are in
patches.py.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from importlib.machinery import PathFinder

TYPE_CHECKING = False  # typing's own would cost each Python start 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import IO, Any

# The functions of patches.py, by the module that each of them changes.
PATCHES = {
    "openai._base_client": "tell_the_gateway",
    "anthropic._base_client": "tell_the_gateway",
    "datasets.load": "name_owners",
    "tiktoken.load": "keep_encodings",
    "evals.api": "name_dummy",
    "evals.completion_fns.openai": "keep_clients",
    "evals.elsuite.hr_ml_agent_bench.environment": "copy_benchmarks",
    "evals.elsuite.make_me_say.utils": "keep_clients",
    "evals.solvers.providers.anthropic.anthropic_solver": "patch_anthropic",
    "evals.solvers.providers.together.together_solver": "patch_together",
}

# A program that teaches SafeLoader tags of its own keeps the loader that it taught.
TAUGHT = frozenset(
    {
        "yaml_constructors",
        "yaml_multi_constructors",
        "yaml_implicit_resolvers",
        "yaml_path_resolvers",
    }
)


def quicken_yaml(yaml: ModuleType) -> None:
    """Let `yaml.safe_load` use libyaml; leave a PyYAML that was built without it as it is.

    Each `oaieval` reads 460 registry files. PyYAML's loader in pure Python spends 0.4 s of CPU on
    them, a third of the whole start; the same loader on libyaml spends 0.1 s, with the same result.
    """
    if not hasattr(yaml, "CSafeLoader"):
        return

    def safe_load(stream: str | bytes | IO[Any]) -> Any:  # noqa: ANN401 - as PyYAML's own
        return yaml.load(stream, yaml.SafeLoader if _is_taught(yaml) else yaml.CSafeLoader)

    yaml.safe_load = safe_load  # type: ignore[attr-defined] # a module's names are not known


def _is_taught(yaml: ModuleType | None) -> bool:
    return yaml is not None and not TAUGHT.isdisjoint(vars(yaml.SafeLoader))


def use_parsed_registry(registry: ModuleType) -> None:
    """Let `Registry` take the entries of evals' own registry as they were parsed for the image.

    Only those of files that are still the same; all others are read by evals itself, and so are all
    if registry.py is another one, or if a program has taught YAML's loader.
    """
    read = getattr(registry.Registry, "_load_directory", None)
    if read is None:
        return
    package, _ = os.path.split(str(registry.__file__))

    def load_directory(self: Any, path: Any) -> Iterator[tuple[Any, Any, Any]]:  # noqa: ANN401 - evals' own
        folder, kind = os.path.split(path)
        parsed = _prepared(kind) if folder == f"{package}/registry" else {}
        if _is_taught(sys.modules.get("yaml")) or not _is_same(f"{package}/registry.py", parsed):
            yield from read(self, path)
            return
        for file in path.glob("*.yaml"):
            entries = _is_same(str(file), parsed) and parsed[str(file)][1]
            if entries:
                for name, spec in entries.items():
                    yield name, file, spec
            else:
                yield from self._load_file(file)

    registry.Registry._load_directory = load_directory  # noqa: SLF001 - there is no other way in


def _is_same(path: str, parsed: dict[str, Any]) -> bool:
    """Whether a file is as it was when the image was built."""
    if path not in parsed:
        return False
    status = os.stat(path)  # noqa: PTH116 - an oaieval may do this before it imports pathlib
    return bool(parsed[path][0] == (status.st_size, int(status.st_mtime)))


def _prepared(name: str) -> dict[str, Any]:
    """What prepare.py has left under this name, made anew; nothing if it has not."""
    import marshal  # noqa: PLC0415 - not every Python that starts here needs it

    folder, _ = os.path.split(__file__)
    try:
        with open(f"{folder}/evalset_prepared/{name}", "rb") as file:  # noqa: PTH123 - as above
            return dict(marshal.loads(file.read()))  # noqa: S302 - the image's own
    except (OSError, ValueError, EOFError, TypeError):
        return {}


def give_submodules() -> None:
    """Give packages the submodules that `oaieval` used to import, when they are asked for.

    A program may use `urllib.parse` although it imports `urllib` alone, because something else has
    imported the submodule. It still may.
    """
    from functools import partial  # noqa: PLC0415 - as above

    def give(names: frozenset[str], package: ModuleType) -> None:
        before = vars(package).get("__getattr__")

        def attribute(name: str) -> Any:  # noqa: ANN401 - as before
            if name in names:
                return import_module(f"{package.__name__}.{name}")
            if before:
                return before(name)
            raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")

        package.__getattr__ = attribute  # type: ignore[method-assign] # a module has its own

    for package, names in _prepared("submodules").items():
        if package in sys.modules or package not in CHANGES:
            when_imported(package, partial(give, frozenset(names)))


def attribute(module: dict[str, Any], name: str) -> Any:  # noqa: ANN401 - whatever it has
    """What a module gives for a name that it does not have, or not yet.

    Args:
        module: its global variables, as put_off.py has left them; `__put_off__` has functions that
            import, by name.

    Raises:
        AttributeError: it will never have the name.
    """
    if name == "__all__":  # `from ... import *` asks for it, and then takes what is there
        names(module)
    elif name in module["__put_off__"]:
        return module["__put_off__"][name]()
    elif "__path__" in module and not name.startswith("__"):
        return _submodule(module["__name__"], name)
    raise AttributeError(f"module {module['__name__']!r} has no attribute {name!r}")


def names(module: dict[str, Any]) -> list[str]:
    """The names of a module, once it has them all."""
    for name, load in module["__put_off__"].items():
        if name not in module:
            load()
    return sorted(module)


def _submodule(package: str, name: str) -> ModuleType:
    """A submodule that the package would have imported, were its imports not put off."""
    try:
        return import_module(f"{package}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{package}.{name}":
            raise
        message = f"module {package!r} has no attribute {name!r}"
        raise AttributeError(message) from None


class StandIn:
    """Stands for a module, and imports it when something in it is used."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the module has
        return getattr(import_module(self.__name__), name)


def change_oaieval(oaieval: ModuleType) -> None:
    """Patch `oaieval`, and let its end be quick.

    What importing it made is never garbage, yet Python looks through all of it for garbage when it
    ends, for 0.08 s. What the eval itself makes is still looked at.
    """
    give_submodules()
    patches = _patches()
    patches.patch_token_usage(oaieval)
    patches.seed_random_numbers(oaieval, when_imported)
    gc.freeze()


def _patches() -> ModuleType:
    """The module patches.py, which lies beside this one, whatever that is called."""
    return import_module(f"{__name__.removesuffix('hook')}patches")


def _patch(function: str) -> Callable[[ModuleType], None]:
    """A function of patches.py, which is imported when it is called."""

    def change(module: ModuleType) -> None:
        getattr(_patches(), function)(module)

    return change


def when_imported(name: str, change: Callable[[ModuleType], None]) -> None:
    """Change a module once it is imported, or now if it is already."""
    if name in sys.modules:
        change(sys.modules[name])
    else:
        CHANGES[name] = change


# What changes a module once it is imported, by its name.
CHANGES: dict[str, Callable[[ModuleType], None]] = {
    "yaml": quicken_yaml,
    "evals.registry": use_parsed_registry,
    "evals.cli.oaieval": change_oaieval,
    **{module: _patch(function) for module, function in PATCHES.items()},
}


class Finder:
    """Finds the modules of `CHANGES` where Python would, and changes each once it is imported."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Python's own spec for a module that is changed; None for all else."""
        change = CHANGES.get(name)
        spec = PathFinder.find_spec(name, path, target) if change else None
        if change and spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                change(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign] # for this one module
        return spec


sys.meta_path.insert(0, Finder)
# Importing openai/evals makes over 100,000 objects and hardly any garbage: looking for it after
# every 700 is a twentieth of an eval's start.
gc.set_threshold(50_000)
