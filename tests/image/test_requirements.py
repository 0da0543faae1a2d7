import importlib.util
import json
from pathlib import Path

import pytest

from runner.errors import EnvironmentFault, UsageError
from runner.image.pip import Ground, Platform, resolve
from runner.image.requirements import read_requirements
from tests.wheel import write_source, write_wheel

PLATFORM = Platform(python="3.12", machine="x86_64", glibc=36)
GROUND = Ground(python="3.12.4", platform=PLATFORM, packages={"there": "1.0"})


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder of packages, which is all that pip can reach."""
    folder = tmp_path / "index"
    write_wheel(folder, "there", "1.0")
    write_wheel(folder, "there", "2.0")
    write_wheel(folder, "plain", "1.0")
    write_wheel(folder, "plain", "1.5", requires=["there", 'late; python_version >= "3.12"'])
    write_wheel(folder, "late", "0.1")
    write_wheel(folder, "newer", "1.0", requires=["there>=2"])
    write_wheel(folder, "binary", "1.0", tag="cp312-cp312-manylinux_2_17_x86_64")
    setup = f"import pathlib; pathlib.Path({str(tmp_path / 'it-ran')!r}).write_text('')"
    write_source(folder, "source", "1.0", setup)
    return folder


def file(index: Path, *lines: str) -> str:
    path = index.parent / "asked.txt"
    path.write_text("\n".join(["--no-index", "--find-links index", *lines, ""]))
    return str(path)


def chosen(index: Path, *lines: str) -> list[str]:
    text = resolve(read_requirements(file(index, *lines)), GROUND, tell=lambda _: None)
    return [line.partition(" --hash=sha256:")[0] for line in text.splitlines()]


def refused(index: Path, *lines: str) -> str:
    with pytest.raises(UsageError) as raised:
        chosen(index, *lines)
    assert "\n" not in str(raised.value)
    assert not (index.parent / "it-ran").exists()
    return str(raised.value).removeprefix(f"{index.parent}/")


def test_the_lock_has_what_is_added_for_the_images_python(index: Path) -> None:
    """Not what the image has, nor what only the host's Python would need or would not."""
    assert chosen(index, "plain", "binary>=1") == ["binary==1.0", "late==0.1", "plain==1.5"]
    assert chosen(index, "there") == []


def test_files_that_a_file_names_count(index: Path) -> None:
    """Relative to it, with comments, lines that continue, and a wheel that is named directly."""
    more = index.parent / "more"
    write_wheel(more, "direct", "3.0")
    (more / "base.txt").write_text(
        "plain  # a comment\n-c upper.txt\n./direct-3.0-py3-none-any.whl"
    )
    (more / "upper.txt").write_text("plain \\\n  <1.5\n")
    assert chosen(index, "# all", "-r more/base.txt") == ["direct==3.0", "plain==1.0"]


def test_hashes_of_a_file_are_held_to(index: Path) -> None:
    """Where one is given, no other wheel is taken."""
    line = refused(index, f"plain==1.0 --hash=sha256:{'0' * 64}")
    assert line.startswith("asked.txt: the wheel of plain 1.0 has none of the hashes")


def test_dependencies_of_a_project_are_requirements(tmp_path: Path) -> None:
    """Those that it needs itself; where it does not list them, a line says so."""
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\nname = "x"\ndependencies = ["one>=1", "two"]\n')
    assert read_requirements(str(path)).lines == ("one>=1", "two")
    for text, fact in [
        ('[project]\nname = "x"\n', "`[project]` has no list of `dependencies`; add one"),
        ("[tool.poetry]\n", "`[project]` has no list of `dependencies`; add one"),
        ("[project", "this is not valid TOML"),
        ('[project]\ndependencies = ["-e ."]\n', "dependency 1: `-e` cannot be used"),
    ]:
        path.write_text(text)
        with pytest.raises(UsageError) as raised:
            read_requirements(str(path))
        assert fact in str(raised.value)


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("-e .", "line 3: `-e` cannot be used with --requirements; name the package's folder"),
        ("--editable ./x", "line 3: `-e` cannot be used with --requirements; name the package's"),
        (".", "line 3: `.` is not a wheel, and building one would run its code here; name its"),
        ("../x", "line 3: `../x` is not a wheel"),
        ("x.tar.gz", "line 3: `x.tar.gz` is not a wheel"),
        ("git+https://example.org/x", "line 3: `git+https://example.org/x` is not a wheel"),
        ("x @ git+https://example.org/x", "line 3: `git+https://example.org/x` is not a wheel"),
        ("x@https://example.org/x.zip", "line 3: `https://example.org/x.zip` is not a wheel"),
        ("x @ file:///srv/x", "line 3: `file:///srv/x` is not a wheel"),
        ("--no-binary :all:", "line 3: `--no-binary` cannot be used with --requirements"),
        ("x --config-settings a=b", "line 3: evalset supports no option there except --hash"),
        ("-r gone.txt", "line 3: there is no file "),
        ("-c gone.txt", "line 3: there is no file "),
    ],
)
def test_what_would_run_code_on_the_host_is_refused(index: Path, line: str, fact: str) -> None:
    """A package's own code is run where evals are, and nowhere else."""
    assert fact in refused(index, line)


def test_a_file_that_is_not_there_or_none(tmp_path: Path) -> None:
    """The line has the option and the file."""
    for name, what in [("gone.txt", "there is no such file"), ("", "is a folder")]:
        with pytest.raises(UsageError) as raised:
            read_requirements(str(tmp_path / name))
        assert str(raised.value) == f"--requirements {tmp_path / name}: {what}; check its path"


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("gone", "pip cannot fulfil it: No matching distribution found for gone; change the file"),
        ("plain==9", "pip cannot fulfil it: No matching distribution found for plain==9"),
        ("plain=9", "pip cannot fulfil it: Invalid requirement: 'plain=9'"),
        ("source", "source has no wheel for the image (cp312-x86_64-glibc2.36), only source code"),
        ("there>=2", "pip cannot fulfil it: it asks for there>=2, the image has there==1.0"),
        ("newer", "newer 1.0 depends on there>=2, the image has there==1.0; change the file"),
    ],
)
def test_what_pip_cannot_fulfil_is_one_line(index: Path, line: str, fact: str) -> None:
    """In pip's words, with the file; of a package without a wheel no code is run."""
    said = refused(index, line)
    assert said.startswith("asked.txt: ")
    assert fact in said


def test_an_index_that_is_away_is_told_from_a_package_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be back soon, and the file is right."""
    monkeypatch.setenv("PIP_RETRIES", "1")
    path = tmp_path / "asked.txt"
    path.write_text("--index-url http://127.0.0.1:9/simple\nplain\n")
    with pytest.raises(EnvironmentFault) as raised:
        resolve(read_requirements(str(path)), GROUND, tell=lambda _: None)
    assert str(raised.value).startswith(f"pip reached no package index for {path}: ")


def test_another_content_is_another_key_and_another_place_is_not(tmp_path: Path) -> None:
    """So that hosts with the same files take the same packages."""
    contents = []
    for name, lines in [("a", "x\n"), ("b", "# why\nx"), ("c", "x<2\n"), ("d", "-c o.txt\nx\n")]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "o.txt").write_text("y<1\n")
        (tmp_path / name / "r.txt").write_text(lines)
        contents.append(read_requirements(str(tmp_path / name / "r.txt")).content)
    assert contents[0] == contents[1]
    assert len(set(contents)) == 3


def test_the_pip_that_is_asked_knows_the_images_python() -> None:
    """It replaces the function that pip asks for the values of a requirement's markers."""
    found = importlib.util.find_spec("pip._vendor.packaging.markers")
    assert found is not None
    assert found.origin is not None
    assert "def default_environment(" in Path(found.origin).read_text()
    assert json.loads(json.dumps(GROUND.packages)) == {"there": "1.0"}
