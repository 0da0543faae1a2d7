from pathlib import Path

import pytest

from runner.errors import EnvironmentFault, UsageError
from runner.registry.entries import folder_problem, misnamed, read_folder


def put(folder: Path, name: str, content: bytes = b"a: {class: x}\n") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_files_come_by_kind_and_then_by_name(tmp_path: Path) -> None:
    """The order does not depend on the file system, and nothing but YAML files is read."""
    for name in ("evals/b.yaml", "evals/a.yaml", "eval_sets/z.yaml", "containers/c.yaml"):
        put(tmp_path, name)
    for name in ("evals/notes.txt", "evals/deeper/d.yaml", "data/a.yaml", "modelgraded/m.yaml"):
        put(tmp_path, name, b"\xff")
    found = read_folder(tmp_path)
    assert [(Path(file.path).name, file.kind) for file in found] == [
        ("z.yaml", "eval_sets"),
        ("a.yaml", "evals"),
        ("b.yaml", "evals"),
        ("c.yaml", "containers"),
    ]
    assert found[0].text == "a: {class: x}\n"


def test_files_that_end_otherwise_are_named(tmp_path: Path) -> None:
    """Those that look like a registry's, and no others."""
    for name in ("evals/b.yml", "modelgraded/m.yml", "evals/a.yaml", "data/d.yml", "x.yml"):
        put(tmp_path, name)
    assert misnamed(tmp_path) == [tmp_path / "evals/b.yml", tmp_path / "modelgraded/m.yml"]


def test_files_next_to_the_folders_are_named(tmp_path: Path) -> None:
    """Where a folder has nothing but them."""
    put(tmp_path, "mine.yaml")
    assert str(folder_problem(tmp_path)) == (
        f"the registry folder {tmp_path} has mine.yaml in it directly, where no registry looks; "
        "put files of evals into a folder `evals` in it, those of eval sets into `eval_sets`"
    )
    put(tmp_path, "evals/mine.yaml")
    assert folder_problem(tmp_path) is None


def test_a_kind_may_be_a_single_file(tmp_path: Path) -> None:
    """Upstream allows it."""
    path = put(tmp_path, "evals")
    assert [(file.path, file.kind) for file in read_folder(tmp_path)] == [(str(path), "evals")]


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """The message names it and the option."""
    assert str(folder_problem(tmp_path / "none")) == (
        f"the registry folder {tmp_path}/none does not exist; check --registry-path"
    )
    assert read_folder(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("content", "line"), [(b"\xe4: 1\n\n\n", 1), (b"a: 1\nb: \xe4\n", 2), (b"\n\nb: \xe4", 3)]
)
def test_a_file_that_is_no_utf8_is_named_with_its_line(
    tmp_path: Path, content: bytes, line: int
) -> None:
    """The message says what to do."""
    path = put(tmp_path, "evals/a.yaml", content)
    with pytest.raises(UsageError) as caught:
        read_folder(tmp_path)
    assert str(caught.value) == f"{path}, line {line}: this is not UTF-8; save it as UTF-8"


def test_a_folder_that_is_named_like_a_file_is_named(tmp_path: Path) -> None:
    """The message says what to do."""
    (tmp_path / "evals/a.yaml").mkdir(parents=True)
    with pytest.raises(EnvironmentFault, match="it is a folder; move it away"):
        read_folder(tmp_path)


def test_a_named_folder_without_anything_of_a_registry_is_refused(tmp_path: Path) -> None:
    """Any of a registry's folders is enough."""
    assert "has none of a registry's folders" in str(folder_problem(tmp_path))
    (tmp_path / "data").mkdir()
    assert folder_problem(tmp_path) is None


def test_a_file_is_no_registry_folder(tmp_path: Path) -> None:
    """The line says that it is one."""
    file = tmp_path / "afile"
    file.write_text("")
    assert str(folder_problem(file)) == (
        f"the registry folder {file} is a file, not a folder; check --registry-path"
    )
