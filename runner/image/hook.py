"""Changes two things inside the eval image, when the modules that they are in are imported.

A `.pth` file of the image's virtual environment imports this module whenever Python starts there,
hence so little of it: nothing is touched that a program does not import itself.
"""

from __future__ import annotations

import gc
import sys
from importlib.machinery import PathFinder

TYPE_CHECKING = False  # typing's own would cost each Python start 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import IO, Any

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
        taught = not TAUGHT.isdisjoint(vars(yaml.SafeLoader))
        return yaml.load(stream, yaml.SafeLoader if taught else yaml.CSafeLoader)

    yaml.safe_load = safe_load  # type: ignore[attr-defined] # a module's names are not known


def mend_token_usage(oaieval: ModuleType) -> None:
    """Let `oaieval` add up token counts that an API reports in nested groups.

    As released, evals 3.0.1 adds a number to such a group when every answer has been paid for, and
    crashes: with OpenAI's API of today no eval succeeds
    (https://github.com/openai/evals/issues/1582).
    """

    def add_token_usage_to_result(result: dict[str, Any], recorder: Any) -> None:  # noqa: ANN401 - evals' own
        totals: dict[str, int] = {}
        for event in recorder.get_events("sampling"):
            for name, count in _counts(event.data.get("usage")):
                totals[name] = totals.get(name, 0) + count
        for name, total in totals.items():
            result.setdefault(f"usage_{name}", total)

    oaieval.add_token_usage_to_result = add_token_usage_to_result  # type: ignore[attr-defined] # as above


def _counts(usage: Any, prefix: str = "") -> Iterator[tuple[str, int]]:  # noqa: ANN401 - an API's
    """The numbers in a report of usage; a group's name comes before its numbers' names."""
    try:
        fields = dict(usage or ()).items()  # pydantic's models and dicts alike
    except (TypeError, ValueError):
        return
    for name, value in fields:
        if isinstance(value, int) and not isinstance(value, bool):
            yield f"{prefix}{name}", value
        elif not isinstance(value, str):
            yield from _counts(value, f"{prefix}{name}_")


def change_oaieval(oaieval: ModuleType) -> None:
    """Mend `oaieval`, and let its end be quick.

    What importing it made is never garbage, yet Python looks through all of it for garbage when it
    ends, for 0.08 s. What the eval itself makes is still looked at.
    """
    mend_token_usage(oaieval)
    gc.freeze()


CHANGES: dict[str, Callable[[ModuleType], None]] = {
    "yaml": quicken_yaml,
    "evals.cli.oaieval": change_oaieval,
}


class Finder:
    """Finds the modules above where Python would, and changes them once they are imported."""

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
