import json
import os
from pathlib import Path

import msgspec
import pytest

from tests.branch.desk import make_bare
from tests.conftest import Place
from tests.run.pinned import build, pinned, refused
from tests.run.test_verify_docker import change

pytestmark = pytest.mark.docker


def write(place: Place, text: str, folder: str = "code", package: str = "mine") -> str:
    """Write a package with one module into a folder of code; gives the folder."""
    path = place.folder / folder / package / "__init__.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(place.folder / folder)


def found(place: Place, name: str) -> object:
    """What an eval found that imports a module."""
    return place.reports()[name]["found"]


def test_an_eval_imports_what_it_cannot_change(place: Place) -> None:
    """Its folder is not writable there, and gets no bytecode."""
    code = write(place, "SAYS = 1; import os; SAYS = os.access(__file__, os.W_OK)")
    place.registry("imports.mine")
    assert place.run("--code", code).returncode == 0
    assert found(place, "imports.mine") == ["/code/0/mine/__init__.py", "False"]
    assert sorted(path.name for path in Path(code).rglob("*")) == ["__init__.py", "mine"]


def test_the_top_of_a_repository_is_code_without_what_evals_may_not_see(place: Place) -> None:
    """The progress directory and hidden files are in there, empty for evals, and do not count."""
    top = write(
        place,
        "import os\n"
        "seen = os.listdir('/code/0/progress') + os.listdir('/code/0/.git')\n"
        "SAYS = f\"{len(seen)}{open('/code/0/.env').read()}{'.link' in os.listdir('/code/0')}\"\n",
        folder=".",
    )
    (place.folder / ".git").mkdir()
    (place.folder / ".git/config").write_text("token")
    (place.folder / ".env").write_text("OPENAI_API_KEY=sk-none")
    (place.folder / ".link").symlink_to("/nowhere")
    place.registry("imports.mine", "fail.1")
    assert place.run("--code", top, "--dry-run").returncode == 0
    assert place.run("--code", top).returncode == 1
    assert found(place, "imports.mine") == ["/code/0/mine/__init__.py", "0True"]
    again = place.run("--code", top)
    assert again.returncode == 1
    assert "different conditions" not in again.stderr
    assert place.finished() == ["imports.mine"]


def test_nothing_is_imported_on_the_host(place: Place) -> None:
    """Not to plan, to run, to record, or to verify."""
    mark = place.folder / "it-ran"
    leave = f"try:\n    pathlib.Path({str(mark)!r}).write_text('')\nexcept OSError:\n    pass\n"
    code = write(place, f"import pathlib\n{leave}SAYS = 1\n")
    for name in ("sitecustomize", "usercustomize", "conftest", "setup"):
        (Path(code) / f"{name}.py").write_text(f"import pathlib\n{leave}")
    place.registry("imports.mine")
    assert place.run("--code", code, "--dry-run").returncode == 0
    assert place.run("--code", code).returncode == 0
    change(place, lambda line: line.update(spending={"requests": 0}))
    line = ("--registry-path", str(place.folder / "registry"), "--code", code)
    assert "imports.mine" in place.ask("verify", "m", "s", *line).stdout
    assert not mark.exists()


def test_an_eval_without_it_does_not_find_it(place: Place) -> None:
    """Nor has it the variable."""
    place.registry("imports.mine", "look")
    assert place.run("--no-exit-on-error").returncode == 1
    environment = place.reports()["look"]["environment"]
    assert isinstance(environment, dict)
    assert "PYTHONPATH" not in environment
    assert place.finished() == ["look"]


@pytest.mark.parametrize("way", ["option", "variable", "file", "project"])
def test_several_folders_come_from_any_source_of_options(place: Place, way: str) -> None:
    """In their order; a folder that is named twice counts once."""
    one, two = write(place, "SAYS = 1", "one", "a"), write(place, "SAYS = 2", "two", "b")
    place.registry("imports.a", "imports.b")
    match way:
        case "option":
            ended = place.run("--code", one, "--code", two, "--code", one)
        case "variable":
            ended = place.run(EVALSET_CODE=f"{one}{os.pathsep}{two}")
        case "file":
            (place.folder / "evalset.toml").write_text('code = ["one", "two"]')
            ended = place.run()
        case _:
            project = '[project]\nname = "x"\n[tool.evalset]\ncode = ["one", "two"]'
            (place.folder / "pyproject.toml").write_text(project)
            ended = place.run()
    assert ended.returncode == 0, ended
    assert found(place, "imports.a") == ["/code/0/a/__init__.py", "1"]
    assert found(place, "imports.b") == ["/code/1/b/__init__.py", "2"]


def test_a_registry_folder_may_be_a_folder_of_code_as_well(place: Place) -> None:
    """As where both are at the top of a repository; it is mounted once."""
    place.registry("imports.mine")
    code = write(place, "SAYS = 1", "registry")
    assert place.run("--code", code).returncode == 0
    assert found(place, "imports.mine") == ["/registry/0/mine/__init__.py", "1"]


def test_a_rule_gives_single_evals_their_code(place: Place) -> None:
    """Its paths start at the registry folder, and its folders come after those of the run."""
    write(place, "SAYS = 1", "one", "a")
    code = write(place, "SAYS = 2", "two", "b")
    place.registry("imports.a", "imports.b", containers={"*.a": {"code": ["../one"]}})
    assert place.run("--code", code).returncode == 0
    assert found(place, "imports.a") == ["/code/1/a/__init__.py", "1"]
    assert found(place, "imports.b") == ["/code/0/b/__init__.py", "2"]
    write(place, "SAYS = 3", "one", "a")
    line = refused(place, "--code", code)
    assert "code of imports.a: " in line
    assert "imports.b" not in line


def test_a_path_of_the_image_or_of_the_user_comes_first(place: Place, other_image: str) -> None:
    """It says what they want, and the folders are found behind it."""
    build(
        other_image,
        f"FROM {place.image}\nENV PYTHONPATH=/own\nRUN mkdir /own && echo 'SAYS=0' > /own/its.py\n",
    )
    code = write(place, "SAYS = 1")
    place.registry("imports.its", "imports.mine", "look")
    assert place.run("--code", code, EVALSET_IMAGE=other_image).returncode == 0
    assert found(place, "imports.its") == ["/own/its.py", "0"]
    assert found(place, "imports.mine") == ["/code/0/mine/__init__.py", "1"]
    place.run(
        "--code", code, "--select", "look", "--no-resume", "-e", "PYTHONPATH", PYTHONPATH="/x:/y"
    )
    environment = place.reports()["look"]["environment"]
    assert isinstance(environment, dict)
    assert environment["PYTHONPATH"] == "/x:/y:/code/0"


def test_changed_code_is_refused_until_it_is_allowed(place: Place) -> None:
    """As changed content of a registry; where the folder is does not count."""
    code = write(place, "SAYS = 1")
    place.registry("imports.mine", "fail.1")
    place.run("--code", code)
    (before,) = set(pinned(place).code.values())
    assert place.run("--code", write(place, "SAYS = 1", "elsewhere")).returncode == 1
    changed = write(place, "SAYS = 2")
    line = refused(place, "--code", changed)
    assert f": code: {before} before, " in line
    assert f": code: {before} before, none now (give --code again); `" in refused(place)
    ended = place.run("--code", changed, "--repin")
    assert "finished evals are kept, the others run under the new conditions" in ended.stdout
    assert set(pinned(place).code.values()).isdisjoint({before})
    assert "different conditions" not in place.run("--code", changed).stdout
    assert place.finished() == ["imports.mine"]


def test_code_that_comes_later_is_another_condition(place: Place) -> None:
    """A finished eval ran without it."""
    place.registry("succeed.a")
    place.run()
    assert "code: none before, " in refused(place, "--code", write(place, "SAYS = 1"))


def test_a_dry_run_tells_of_changed_code(place: Place) -> None:
    """It warns, and starts nothing."""
    place.registry("imports.mine")
    place.run("--code", write(place, "SAYS = 1"))
    ended = place.run("--dry-run", "--code", write(place, "SAYS = 2"))
    assert ended.returncode == 0
    assert "warning: finished evals of m s were started under different" in ended.stderr
    assert "code: " in ended.stderr


def test_verify_takes_the_code_and_knows_it(place: Place) -> None:
    """With other code, or none, nobody can tell; nothing is run then."""
    code = write(place, "SAYS = 1")
    place.registry("imports.mine")
    place.run("--code", code)
    change(place, lambda line: line.update(spending={"requests": 0}))
    line = ("verify", "m", "s", "--registry-path", str(place.folder / "registry"))
    assert "cannot tell  imports.mine: code: " in place.ask(*line).stdout
    ended = place.ask(*line, "--code", code)
    # its report has the time
    assert ended.stdout.startswith("differs      imports.mine  (1 sample, 0 answers)"), ended
    assert "final report, found" not in ended.stdout


def test_another_host_is_held_to_the_same_code(place: Place, tmp_path: Path) -> None:
    """It knows from the branch what the first one ran with."""
    hub = make_bare(tmp_path / "hub.git")
    snapshot = ("--snapshot", "--remote", str(hub))
    place.registry("imports.mine", "fail.1")
    place.run(*snapshot, "--code", write(place, "SAYS = 1"))
    other = msgspec.structs.replace(place, folder=tmp_path / "other")
    other.registry("imports.mine", "fail.1")
    write(other, "SAYS = 2")
    ended = other.run(*snapshot, "--code", str(other.folder / "code"))
    assert ended.returncode == 2
    assert ": code: " in ended.stderr
    ended = other.run(*snapshot, "--code", write(other, "SAYS = 1"))
    assert ended.returncode == 1
    assert other.finished() == ["imports.mine"]
    assert other.leftovers() == []


@pytest.mark.parametrize("model", ["mine:Fn", "mine:Fn,m,mine:Other"])
def test_a_class_is_a_model(place: Place, model: str) -> None:
    """`oaieval` gets a registry that defines it under its own name, and knows no difference."""
    code = write(place, "SAYS = 1")
    place.registry("look")
    line = place.line("--code", code)
    line[line.index("m")] = model
    ended = place._ended(line, place.environ())
    assert ended.returncode == 0, ended
    attempts = place.progress / f"oaievalset/{model}.s.attempts.jsonl"
    report = json.loads(attempts.read_text())["final_report"]
    assert report["arguments"][1] == model
    assert report["arguments"][-2:] == ["--registry_path", "/classes"]
    command = json.loads(attempts.read_text())["command"]
    assert command == ["/bin/program", model, "look", "--registry_path", "/registry/0"]


def test_a_module_that_python_itself_has_is_told(place: Place) -> None:
    """Whoever replaces it by mistake wonders why evals fail."""
    place.registry("succeed.a")
    ended = place.run("--code", write(place, "", package="json"))
    assert (
        f"evals import `json` from {place.folder / 'code'}, and not from the image" in ended.stdout
    )
