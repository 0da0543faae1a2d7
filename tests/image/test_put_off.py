import importlib
import py_compile
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

import pytest

from runner.image import hook, put_off

Make = Callable[..., ModuleType]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Writes a package of these files, puts its imports off, and imports it."""
    monkeypatch.setitem(sys.modules, "evalset_image_hook", hook)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(put_off, "MODULES", ("late_package/*.py",))
    monkeypatch.setattr(put_off, "STAND_INS", {"late_package": "wave"})
    monkeypatch.setattr(put_off, "VARIABLES", {("late_package/__init__.py", "client"): "LATE_KEY"})

    def run(init: str, **files: str) -> ModuleType:
        _forget()
        folder = tmp_path / "late_package"
        folder.mkdir(exist_ok=True)
        for name, code in {"__init__": init, **files}.items():
            path = folder / f"{name}.py"
            path.write_text(textwrap.dedent(code))
            py_compile.compile(
                str(path), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
            )
        put_off.put_off_imports(tmp_path)
        importlib.invalidate_caches()
        return importlib.import_module("late_package")

    return run


def _forget() -> None:
    for name in [it for it in sys.modules if it.startswith("late_package")]:
        del sys.modules[name]


PARTS = {
    "part": "class Part: pass\nother = 1\n",
    "broken": "import no_such_module\n",
}


def _is_imported(name: str) -> bool:
    return f"late_package.{name}" in sys.modules


def test_a_name_that_functions_use_is_imported_where_it_is_used(make: Make) -> None:
    """Calling a function imports nothing as long as it does not come to the name."""
    package = make(
        """
        from late_package.part import Part, other as another

        def make(really: bool) -> object:
            "The docstring."
            if really:
                return [Part() for _ in range(another)]
            return None
        """,
        **PARTS,
    )
    assert package.make(really=False) is None
    assert not _is_imported("part")
    assert type(package.make(really=True)[0]) is package.Part
    assert package.make.__doc__ == "The docstring."


@pytest.mark.parametrize(
    "use",
    [
        "class Child(Part): pass",
        "def use(part: Part): return Part",
        "def use(part: 'list[Part]'): return Part",
        "def use(part=Part): return Part",
        "use = lambda: Part",
        "value: Part",
        "try: Part\nexcept ValueError: pass",
        "def use():\n global Part\n Part = 1\ndef other(): return Part",
        "def use(): return Part\nif use: from late_package.part import Part",
        "def use(Part): return Part",
        "def use(): return globals()['Part']\ndef other(): return Part",
        "pass",  # an import that nobody uses may be there for what it does
    ],
)
def test_a_name_that_is_used_otherwise_is_imported_at_once(make: Make, use: str) -> None:
    """Import-time uses, hints, names bound twice, and modules that look at their own names."""
    package = make(f"from late_package.part import Part\n{use}\n", **PARTS)
    assert _is_imported("part")
    assert "Part" in vars(package)


def test_names_that_a_package_passes_on_are_imported_when_asked_for(make: Make) -> None:
    """By attribute, by import, by star, by dir; and its submodules, as if it had imported them."""
    code = "from .part import Part, other as other\n__all__ = ['Part']\n"
    package = make(code, **PARTS)
    assert not _is_imported("part")
    assert package.Part.__name__ == "Part"
    package = make(code, **PARTS)
    assert {"Part", "other", "part"} <= set(dir(package))
    package = make(code, **PARTS)
    assert package.part.other == 1
    package = make("from .part import Part\n", **PARTS)
    found: dict[str, object] = {}
    exec("from late_package import *", found)  # noqa: S102 - there is no other way to say it
    assert "Part" in found
    assert not hasattr(package, "no_such_name")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        _ = package.broken


def test_a_name_that_is_also_a_submodules_is_imported_at_once(make: Make) -> None:
    """The submodule would take its place."""
    package = make("from .part import part\n", part="def part(): pass\n")
    assert callable(package.part)


def test_an_import_that_fails_shows_its_own_line(make: Make) -> None:
    """The traceback leads to the import as it is in the source."""
    package = make("\n\nfrom .broken import what\n", **PARTS)
    with pytest.raises(ModuleNotFoundError) as caught:
        _ = package.what
    lines = [(str(entry.path).rpartition("/")[2], entry.lineno + 1) for entry in caught.traceback]
    assert ("__init__.py", 3) in lines


def test_a_name_that_somebody_replaces_stays_replaced(make: Make) -> None:
    """As a test of a user's may do before anything has used the name."""
    package = make("from late_package.part import Part\ndef use(): return Part\n", **PARTS)
    package.Part = "mine"  # type: ignore[attr-defined] # a module's names are not known
    assert package.use() == "mine"


def test_a_stand_in_imports_the_module_when_it_is_used(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hints that mention it can still be resolved."""
    code = "import wave\ndef use(it: wave.Wave_read = 0) -> 'wave.Wave_write': return wave.open\n"
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    package = make(code)
    assert "wave" not in sys.modules
    opened = package.use()
    wave = sys.modules["wave"]
    assert opened is wave.open
    assert get_type_hints(package.use) == {"it": wave.Wave_read, "return": wave.Wave_write}


@pytest.mark.parametrize("key", ["", "key"])
def test_a_variable_is_made_late_if_it_can_be(
    make: Make, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Without the key that it needs it is made at once, so that what fails fails as before."""
    monkeypatch.setenv("LATE_KEY", key)
    package = make("from .part import Part\nclient = Part()\ndef use(): return client\n", **PARTS)
    assert _is_imported("part") is not bool(key)
    assert package.use() is package.client
    assert type(package.client) is package.Part


def test_a_changed_source_counts(make: Make, tmp_path: Path) -> None:
    """Python compiles it anew, and nothing is put off."""
    code = "from .part import Part\n"
    make(code, **PARTS)
    _forget()
    (tmp_path / "late_package/__init__.py").write_text(f"{code}new = 1\n")
    package = importlib.import_module("late_package")
    assert package.new == 1
    assert _is_imported("part")
