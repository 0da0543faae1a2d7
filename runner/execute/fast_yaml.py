"""Makes `yaml.safe_load` use libyaml inside the eval image.

Each `oaieval` reads 460 registry files. PyYAML's loader in pure Python spends 0.4 s of CPU on them,
a third of the whole start; the same loader on libyaml spends 0.1 s, with the same result. A `.pth`
file of the image's virtual environment imports this module when Python starts, hence so little of
it: yaml is touched only when a program imports it.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder

TYPE_CHECKING = False  # typing's own would cost each Python start 3 ms
if TYPE_CHECKING:
    from collections.abc import Sequence
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


def quicken(yaml: ModuleType) -> None:
    """Replace `safe_load` of a PyYAML that was built with libyaml; leave any other as it is."""
    if not hasattr(yaml, "CSafeLoader"):
        return

    def safe_load(stream: str | bytes | IO[Any]) -> Any:  # noqa: ANN401 - as PyYAML's own
        taught = not TAUGHT.isdisjoint(vars(yaml.SafeLoader))
        return yaml.load(stream, yaml.SafeLoader if taught else yaml.CSafeLoader)

    yaml.safe_load = safe_load  # type: ignore[attr-defined]


class YamlFinder:
    """Finds `yaml` where Python would, and quickens it once it is imported."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Python's own spec for `yaml`; None for all else."""
        if name != "yaml":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                quicken(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, YamlFinder)
