import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runner.commands.new import taken
from runner.engine.engine import Engine
from runner.host import this_host
from runner.image.image import find_image, modules_in
from runner.options import DEFAULT_IMAGE
from runner.records.layout import Layout
from runner.records.progress import read_attempts
from tests.commands.conftest import Here, contents
from tests.wheel import write_wheel


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("evals", "`evals` is a module that evals need; choose one of small letters"),
        ("json", "`json` is a module that evals need"),
        ("x/random", "`random` is a module that evals need"),
        ("openai", "`openai` is a module that evals need"),
        ("huggingface-hub", "`huggingface-hub` is a module that evals need"),
        ("yaml", "`yaml` is a module that evals need"),
        ("torch", "`torch` is a module that evals need"),
        ("My Evals", "`My Evals` cannot be the name of a package; choose one of small letters"),
        ("1st", "`1st` cannot be the name of a package"),
        ("own", "own is already there; choose another name, or remove it"),
        ("gone/mine", "cannot create gone/mine: "),
    ],
)
def test_a_name_that_cannot_be(here: Here, name: str, fact: str) -> None:
    """The line says why, and nothing is written."""
    assert fact in here.refused("new", name, code=3 if "gone" in name else 2)


def test_its_names_are_those_that_were_given(here: Here) -> None:
    """No placeholder of the template is left; a package's name has underscores."""
    assert here.evalset("new", "own/my-evals").returncode == 0
    made = contents(here.folder / "own/my-evals")
    assert not [path for path in made if "MY_" in path]
    assert not [path for path, text in made.items() if text and b"MY_" in text]
    folder = here.folder / "own/my-evals"
    assert (folder / "code/my_evals/addition.py").is_file()
    assert (
        "class: my_evals.addition:Addition" in (folder / "registry/evals/my-evals.yaml").read_text()
    )
    assert (folder / ".gitignore").read_text().splitlines()[0] == "/progress/"


@pytest.mark.docker
def test_no_module_of_the_image_can_be_hidden(here_with_engine: Here) -> None:
    """Private ones aside, Python's for its own tests and setup, and our hooks."""
    engine = Engine()
    modules = modules_in(
        engine, find_image(engine.api, DEFAULT_IMAGE), this_host(here_with_engine.environ)
    )
    public = {name for name in modules if re.fullmatch(r"[a-z][a-z0-9_]*", name)}
    assert "openai" in public
    ours = {name for name in public if name.startswith("evalset_image_")}
    assert public - taken() - ours <= {"test", "sitecustomize", "xxlimited", "xxlimited_35"}


def run(here: Here, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=here.environ | {"EVALSET_IMAGE": DEFAULT_IMAGE},
        timeout=280,
    )


@pytest.mark.docker
def test_what_it_makes_runs_as_it_is(here_with_engine: Here) -> None:
    """With the commands of its page: `dummy` is wrong, and its own model right but for one."""
    here = here_with_engine
    assert here.evalset("new", "my-evals").returncode == 0
    folder = here.folder / "my-evals"
    page = (folder / "README.md").read_text()
    for model, accuracy in [("dummy", 0.0), ("my-evals-calculator", 0.75)]:
        assert f"evalset run {model} my-evals\n" in page
        ended = run(here, folder, "run", model, "my-evals")
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        layout = Layout(root=folder / "progress", model=model, eval_set="my-evals")
        (record,) = read_attempts(layout.attempts).records
        assert record.final_report == {"accuracy": accuracy}
        assert record.samples == 4


@pytest.mark.docker
def test_it_runs_with_a_class_as_the_model_and_a_package_more(here_with_engine: Here) -> None:
    """In the real image, where a package of the user's answers, which the image lacks."""
    here = here_with_engine
    here.evalset("new", "my-evals")
    folder = here.folder / "my-evals"
    write_wheel(folder / "index", "answering", "1.0", files={"answering.py": "ANSWER = '42'\n"})
    (folder / "requirements.txt").write_text("--no-index\n--find-links index\nanswering\n")
    (folder / "code/my_evals/fixed.py").write_text(
        "import answering\nfrom my_evals.calculator import Answer\n\n"
        "class Fixed:\n    def __init__(self, **options):\n        pass\n\n"
        "    def __call__(self, prompt, **options):\n        return Answer(answering.ANSWER)\n"
    )
    line = ("run", "my_evals.fixed:Fixed", "my-evals", "--requirements", "requirements.txt")
    ended = run(here, folder, *line)
    assert ended.returncode == 0, ended
    layout = Layout(root=folder / "progress", model=line[1], eval_set="my-evals")
    (record,) = read_attempts(layout.attempts).records
    assert record.final_report == {"accuracy": 0.25}
    again = run(here, folder, *line)
    assert again.stdout.startswith("nothing to run; finished: 1 eval")


@pytest.mark.docker
def test_its_data_are_fetched_and_it_is_looked_at_with_its_code(here_with_engine: Here) -> None:
    """Its class is in a folder of code; what is missing there is said in JSON, too."""
    here = here_with_engine
    here.evalset("new", "my-evals")
    folder = here.folder / "my-evals"

    fetched = run(here, folder, "data", "fetch", "my-evals-calculator", "my-evals")
    well = run(here, folder, "doctor", "--eval-set", "my-evals", "--json")
    with (folder / "code/my_evals/addition.py").open("a") as file:
        file.write("import answering\n")
    badly = run(here, folder, "doctor", "--eval-set", "my-evals", "--json")

    assert fetched.returncode == 0, fetched
    assert "no data  my-evals.dev.v0 needs none" in fetched.stdout
    assert well.returncode == 0, well
    assert json.loads(well.stdout)[-1]["lines"] == []
    assert badly.returncode == 3
    assert any("answering" in line for line in json.loads(badly.stdout)[-1]["lines"])
