import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.commands import doctor
from runner.commands.doctor import _disk, _progress_dir
from runner.errors import EnvironmentFault
from runner.host import USUAL_NAMES
from runner.image.image import FINGERPRINT

pytestmark = pytest.mark.docker


def evalset(folder: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run `evalset` in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | variables,
    )


def checks(ended: "subprocess.CompletedProcess[str]") -> dict[str, dict[str, Any]]:
    """What `evalset doctor --json` found, by name."""
    return {check["name"]: check for check in json.loads(ended.stdout)}


def test_a_healthy_machine_has_nothing_to_cure(tmp_path: Path) -> None:
    """Each thing is named with what was found, and the exit code is 0."""
    ended = evalset(tmp_path, "doctor", OPENAI_API_KEY="set")
    assert ended.returncode == 0
    for name in ("Docker engine", "eval image", "registry", "progress directory", "disk", "Git"):
        assert f"ok   {name}: " in ended.stdout
    assert "FAIL" not in ended.stdout


def test_a_machine_without_an_engine_is_told_what_to_do(tmp_path: Path) -> None:
    """What needs it is not looked at, the rest is nevertheless, and the exit code is 3."""
    ended = evalset(tmp_path, "doctor", "--json", DOCKER_HOST="unix:///nowhere")
    assert ended.returncode == 3
    found = checks(ended)
    assert not found["Docker engine"]["ok"]
    assert "no Docker engine answers at unix:///nowhere" in found["Docker engine"]["found"]
    assert "scripts/engine" in found["Docker engine"]["cure"]
    assert found.keys() & {"eval image", "registry"} == set()
    assert found["disk"]["ok"]


def test_a_missing_image_is_told_how_to_build(tmp_path: Path) -> None:
    """The engine is fine, the image and the registry in it are not."""
    ended = evalset(tmp_path, "doctor", "--image", "127.0.0.1:1/none:1", "--json")
    assert ended.returncode == 3
    found = checks(ended)
    assert found["Docker engine"]["ok"]
    assert "127.0.0.1:1/none:1 is not here" in found["eval image"]["found"]


def test_git_that_is_not_installed_is_asked_for(tmp_path: Path) -> None:
    """Everything else does not need it."""
    ended = evalset(tmp_path, "doctor", "--json", PATH="/nowhere")
    assert ended.returncode == 3
    assert "install Git" in checks(ended)["Git"]["cure"]


def test_a_progress_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    """Another one is to be chosen."""
    (tmp_path / "progress").write_text("")
    ended = evalset(tmp_path, "doctor", "--json")
    assert ended.returncode == 3
    assert "choose another --progress-dir" in checks(ended)["progress directory"]["cure"]


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least that should be free is more than there is."""
    monkeypatch.setattr(doctor, "LEAST_FREE", 2**70)
    with pytest.raises(EnvironmentFault, match="GiB free where the progress directory is; free"):
        _disk(tmp_path)


def test_without_a_provider_only_models_that_ask_none_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, and is no failure."""
    for name in USUAL_NAMES:
        monkeypatch.delenv(name, raising=False)
    ended = evalset(tmp_path, "doctor", "--json")
    assert ended.returncode == 0
    assert "export OPENAI_API_KEY, or" in checks(ended)["providers"]["cure"]


@pytest.mark.parametrize(
    ("variables", "options", "found"),
    [
        ({"ANTHROPIC_API_KEY": "k"}, [], "anthropic at https://api.anthropic.com;"),
        ({"OPENAI_BASE_URL": "http://localhost:8000/v1"}, [], "openai at http://localhost:8000/v1"),
        ({}, ["--upstream", "groq=https://groq.example/v1"], "groq at https://groq.example/v1;"),
    ],
)
def test_any_provider_will_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    options: list[str],
    found: str,
) -> None:
    """Each that a run would ask is named, with its address and without its key."""
    for name in USUAL_NAMES:
        monkeypatch.delenv(name, raising=False)
    ended = evalset(tmp_path, "doctor", "--json", *options, **variables)
    check = checks(ended)["providers"]
    assert check["found"].startswith(found)
    assert check["cure"] == ""


def test_an_address_that_is_none_is_named(tmp_path: Path) -> None:
    """A run would refuse it."""
    ended = evalset(tmp_path, "doctor", "--json", OPENAI_BASE_URL="localhost:8000")
    assert ended.returncode == 3
    assert not checks(ended)["providers"]["ok"]
    assert "OPENAI_BASE_URL is not the address" in checks(ended)["providers"]["found"]


def test_a_docker_context_is_honoured_and_named(tmp_path: Path) -> None:
    """Its engine is asked, and it is the one that the message is about."""
    name = hashlib.sha256(b"other").hexdigest()
    metadata = tmp_path / "docker/contexts/meta" / name
    metadata.mkdir(parents=True)
    about = {"Name": "other", "Metadata": {}, "Endpoints": {"docker": {"Host": "unix:///other"}}}
    (metadata / "meta.json").write_text(json.dumps(about))
    (tmp_path / "docker/config.json").write_text("{}")
    variables = {"DOCKER_CONFIG": str(tmp_path / "docker"), "DOCKER_CONTEXT": "other"}
    ended = evalset(tmp_path, "doctor", "--json", **variables)
    assert "no Docker engine answers at unix:///other" in checks(ended)["Docker engine"]["found"]


def test_eval_sets_evals_and_models_are_listed(tmp_path: Path) -> None:
    """Each list comes as text and as JSON, and a pattern narrows it."""
    assert "test-basic  (4 evals)\n" in evalset(tmp_path, "list").stdout
    ended = evalset(tmp_path, "list", "evals", "test-match*", "--json")
    assert json.loads(ended.stdout) == [
        {"name": "test-match", "alias_of": "test-match.s1.simple-v0"},
        {"name": "test-match.s1.simple-v0", "alias_of": None},
    ]
    models = json.loads(evalset(tmp_path, "list", "models", "--json").stdout)
    assert {"name": "dummy"} in models
    assert len(models) > 20
    assert evalset(tmp_path, "list", "sets", "no-such*").stdout == "nothing found\n"


def test_a_set_of_ones_own_is_listed(tmp_path: Path) -> None:
    """With its folder; a set that cannot be run is shown with the reason."""
    for kind, text in (
        ("evals", "mine.dev.v0: {class: a:B}"),
        ("eval_sets", "mine-good: {evals: [mine.dev.v0]}\nmine-bad: {evals: [none]}"),
    ):
        (tmp_path / "own" / kind).mkdir(parents=True)
        (tmp_path / "own" / kind / "own.yaml").write_text(text)
    ended = evalset(tmp_path, "list", "sets", "mine-*", "--registry-path", "own", "--json")
    good, bad = json.loads(ended.stdout)
    assert good == {"name": "mine-good", "evals": 1}
    assert bad["name"] == "mine-bad"
    assert "matches no eval" in bad["problem"]


def test_an_image_is_shown_with_what_it_is_made_of(tmp_path: Path) -> None:
    """Two hosts that built alike can tell by the fingerprint."""
    facts = json.loads(evalset(tmp_path, "image", "show", "--json").stdout)
    assert facts["id"].startswith("sha256:")
    assert len(facts["fingerprint"]) == 64
    assert facts["evalset.version.evals"] == "3.0.1.post1"
    assert f"fingerprint: {facts['fingerprint']}\n" in evalset(tmp_path, "image", "show").stdout


def test_an_image_on_top_of_ours_is_shown_without_its_fingerprint(
    tmp_path: Path, other_image: str, image_on_top: str
) -> None:
    """The label that it inherits would have it pass for the image below it."""
    below = json.loads(evalset(tmp_path, "image", "show", "--image", other_image, "--json").stdout)
    assert below["fingerprint"] == below[FINGERPRINT] == "f" * 64
    facts = json.loads(evalset(tmp_path, "image", "show", "--image", image_on_top, "--json").stdout)
    assert facts["fingerprint"] is None
    assert FINGERPRINT not in facts
    found = checks(evalset(tmp_path, "doctor", "--image", image_on_top, "--json"))["eval image"]
    assert found["found"] == f"{image_on_top} ({facts['id'][:19]})"


def test_git_that_is_too_old_for_snapshots_is_named(tmp_path: Path) -> None:
    """With its version, and the one that will do."""
    (tmp_path / "git").write_text("#!/bin/sh\necho git version 2.20.1\n")
    (tmp_path / "git").chmod(0o755)
    ended = evalset(tmp_path, "doctor", "--json", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert "2.20.1" in checks(ended)["Git"]["found"]
    assert "2.29 or later" in checks(ended)["Git"]["cure"]


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not writable is the folder above it, and both are said."""
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(EnvironmentFault) as caught:
        _progress_dir(tmp_path / "new" / "progress")
    assert str(caught.value) == (
        f"{tmp_path} is not writable, so {tmp_path}/new/progress cannot be made; "
        "choose another --progress-dir"
    )
