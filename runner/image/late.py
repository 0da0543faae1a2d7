"""What modules use whose imports put_off.py has put off, in the eval image."""

from importlib import import_module

TYPE_CHECKING = False  # as in hook.py
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def attribute(module: "dict[str, Any]", name: str) -> "Any":  # noqa: ANN401 - whatever it has
    """What a module gives for a name that it does not have, or not yet.

    Args:
        module: its global variables; `__put_off__` has functions that import, by name.

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


def names(module: "dict[str, Any]") -> list[str]:
    """The names of a module, once it has them all."""
    for name, load in module["__put_off__"].items():
        if name not in module:
            load()
    return sorted(module)


def _submodule(package: str, name: str) -> "ModuleType":
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

    def __getattr__(self, name: str) -> "Any":  # noqa: ANN401 - whatever the module has
        return getattr(import_module(self.__name__), name)
