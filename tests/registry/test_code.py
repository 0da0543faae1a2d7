import os
from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.registry.code import (
    CodeDigests,
    check_code,
    classes_of,
    code_problem,
    hidden_in,
    modules_of,
    shadowing,
)


def write(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("")
    return folder


def test_what_python_would_find_is_found(tmp_path: Path) -> None:
    """Modules, packages, and folders that are parts of a namespace; nothing that tools leave."""
    write(
        tmp_path,
        *("one.py", "two/__init__.py", "three/part.py", "four/deep/part.py", "data/file.jsonl"),
        *("five.cpython-311-x86_64-linux-gnu.so", "not-a-name.py", "no-name/x.py", "README.md"),
        *(".hidden/x.py", "__pycache__/one.cpython-311.pyc", "six.egg-info/x.py"),
        *("env/pyvenv.cfg", "env/lib/x.py"),
    )
    assert modules_of(tmp_path) == {"one", "two", "three", "four", "five"}


@pytest.mark.parametrize(
    ("paths", "named", "fact"),
    [
        ([], "none", "none does not exist; check --code"),
        (["file"], "file", "file is a file, not a folder; check --code"),
        (["data/a.jsonl"], "data", "data has no Python package and no module; name the folder"),
        (["p/__init__.py"], "p", "is itself a package, and is not found by its name; name the"),
        (["r/src/p/__init__.py"], "r", "has its packages in src; name {folder}/r/src instead"),
    ],
)
def test_a_folder_that_nothing_can_be_imported_from(
    tmp_path: Path, paths: list[str], named: str, fact: str
) -> None:
    """The line says which one was most likely meant."""
    problem = code_problem(write(tmp_path, *paths) / named)
    assert problem is not None
    assert fact.format(folder=tmp_path) in str(problem)


def test_two_folders_with_the_same_package_are_refused(tmp_path: Path) -> None:
    """Python would find only one; parts of a namespace, and tests, may be in both."""
    one = write(tmp_path / "1", "part/a.py", "tests/__init__.py", "setup.py", "mine/__init__.py")
    two = write(tmp_path / "2", "part/b.py", "tests/__init__.py", "setup.py")
    check_code([one, two])
    write(two, "mine.py")
    with pytest.raises(UsageError) as raised:
        check_code([one, two])
    assert f"two code folders have `mine`: {one} and {two}; " in str(raised.value)


def test_a_module_that_the_image_has_too_is_told(tmp_path: Path) -> None:
    """Whoever replaces it by mistake wonders why evals fail."""
    write(tmp_path, "mine.py", "numpy/__init__.py", "json.py", "tests/__init__.py")
    (line,) = shadowing([tmp_path], ["json", "numpy", "tests", "yaml"])
    assert line.startswith(f"evals import `json`, `numpy` from {tmp_path}, and not from the image")
    assert list(shadowing([tmp_path], ["yaml"])) == []


def digest(*folders: Path) -> str:
    return CodeDigests(folders[0] / "progress" if folders else Path()).of(list(map(str, folders)))


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    """Names and content count, wherever the folder is, and what tools leave there does not."""
    one = write(tmp_path / "1", "p/__init__.py", "p/a.py")
    same = write(
        tmp_path / "2",
        *("p/a.py", "p/__init__.py", "p/__pycache__/a.pyc", ".git/HEAD", "p.egg-info/PKG-INFO"),
        *("venv/pyvenv.cfg", "p/old.pyc", "p/.a.py.swp"),
    )
    assert digest(one) == digest(same)
    assert digest(one, write(tmp_path / "3", "q.py")) == digest(tmp_path / "3", same)
    before = digest(one)
    (one / "p/a.py").write_text("x = 1")
    changed = digest(one)
    (one / "p/a.py").rename(one / "p/b.py")
    assert len({before, changed, digest(one)}) == 3
    assert digest() == ""


def test_what_cannot_be_read_has_a_digest_all_the_same(tmp_path: Path) -> None:
    """A link that leads nowhere, a pipe, or a loop of links stops no run."""
    write(tmp_path, "a.py")
    plain = digest(tmp_path)
    (tmp_path / "nowhere").symlink_to("gone")
    (tmp_path / "around").symlink_to(".")
    os.mkfifo(tmp_path / "pipe")
    assert digest(tmp_path) != plain


@pytest.mark.parametrize(
    ("model", "classes"),
    [
        ("mine:Fn", ("mine:Fn",)),
        ("mine.deep.part:Fn.inner", ("mine.deep.part:Fn.inner",)),
        ("gpt-4,mine:A,mine:B,mine:A", ("mine:A", "mine:B")),
        ("other:Fn", ()),
        ("mine", ()),
        ("mine:", ()),
        ("mine:8b-chat", ()),
        ("ft:gpt-3.5-turbo:acme::abc", ()),
    ],
)
def test_which_models_are_classes(tmp_path: Path, model: str, classes: tuple[str, ...]) -> None:
    """Those whose module is in a folder of code; other names may look alike."""
    write(tmp_path, "mine/__init__.py")
    assert classes_of(model, [tmp_path]) == classes


def test_evals_do_not_see_what_is_hidden_nor_the_results_of_others(tmp_path: Path) -> None:
    """Links lead nowhere in a container, and what is hidden already is not hidden again."""
    write(tmp_path, "a.py", ".git/HEAD", ".env", "a/.kept", "out/progress/x")
    (tmp_path / ".link").symlink_to(tmp_path / "a.py")
    progress = (tmp_path / "out/progress").resolve()
    seen = [(".env", False), (".git", True), ("out/progress", True)]
    assert list(hidden_in(tmp_path, progress)) == seen
    assert list(hidden_in(tmp_path, progress / "later")) == seen[:2]
    assert list(hidden_in(tmp_path, (tmp_path / ".git").resolve())) == seen[:2]
    assert list(hidden_in(tmp_path / "a", progress)) == [(".kept", False)]
