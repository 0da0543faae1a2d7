import base64
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from runner.engine.container import ContainerSpec
from runner.gateway.providers import INSIDE
from runner.host import Host
from runner.image import look_inside as looking
from runner.image.inside.arguments import elsewhere, path_problem, texts
from runner.image.inside.classes import Children
from runner.image.look_inside import _FIND_PYTHON, Question, look_inside, program
from runner.model import ContainerSettings
from runner.plan.obstacles import Finding, Look

SAY = "import sys; print(sys.executable, sys.argv)"

SETTINGS = ContainerSettings(
    image="i:1", memory=1, cpus=None, pids_limit=1, gpus=None, timeout=1, network="none"
)
SPEC = ContainerSpec(
    name="",
    image="sha256:0",
    argv=(),
    private=Path(),
    mounts={},
    environment={},
    labels={},
    user="1:1",
    settings=SETTINGS,
)


def asked(folder: Path, content: str | bytes | None) -> "subprocess.CompletedProcess[str]":
    """Ask the Python of an `oaieval` with this content, as a look into an image does."""
    if content is not None:
        program = folder / "oaieval"
        program.write_bytes(content if isinstance(content, bytes) else content.encode())
        program.chmod(0o755)
    return subprocess.run(
        ["/bin/sh", "-c", _FIND_PYTHON, "sh", SAY, "a b", "$c"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{folder}:{Path(sys.executable).parent}:/usr/bin:/bin"},
    )


@pytest.mark.parametrize(
    "content",
    [
        f"#!{sys.executable}\nimport sys\n",
        f"#!{sys.executable} -E\nimport sys\n",
        "#!/usr/bin/env python3\nimport sys\n",
        f"#!{sys.executable}",
        f"#!/bin/sh\n'''exec' {sys.executable} \"$0\" \"$@\"\n' '''\nimport sys\n",
        f"#!/bin/sh\n'''exec' \"{sys.executable}\" \"$0\" \"$@\"\n' '''\nimport sys\n",
    ],
    ids=["path", "option", "env", "no newline", "long path", "path with a blank"],
)
def test_the_python_of_oaieval_is_found(tmp_path: Path, content: str) -> None:
    """However the installer has put it into the program's first lines; arguments arrive whole."""
    ended = asked(tmp_path, content)
    assert ended.stderr == ""
    assert ended.stdout.endswith("['-c', 'a b', '$c']\n")
    assert os.path.basename(ended.stdout.split()[0]).startswith("python")  # noqa: PTH119 - text


@pytest.mark.parametrize(
    "content",
    [None, "#!/bin/sh\necho me\n", b"\x7fELF\x00\x01", "", "#!/usr/bin/perl\n"],
    ids=["none", "a shell's", "a binary", "empty", "another language's"],
)
def test_an_oaieval_that_is_no_python_program_is_told(tmp_path: Path, content: str | None) -> None:
    """As a shell tells of a command that is not there; it is not started."""
    ended = asked(tmp_path, content)
    assert (ended.returncode, ended.stdout) == (127, "")


def test_the_program_needs_no_package_of_ours() -> None:
    """An image has the standard library; whether it has evals is the first thing to find."""
    question = {"seconds": 1, "seconds_in_all": 1}
    packed = base64.b64encode(zlib.compress(json.dumps(question).encode()))
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program(), packed],
        capture_output=True,
        check=False,
    )
    assert (ended.stderr, json.loads(ended.stdout)) == (b"", {"looked": False})


def test_what_no_time_is_left_for_is_said(tmp_path: Path) -> None:
    """It is no class of which nothing is wrong."""
    with (tmp_path / "out").open("wb") as out:
        children = Children(out.fileno(), until=0, seconds=1)
        found = list(children.results({"a:B": [("a.b", None)], "c:D": [("c.d", None)]}))
    unseen = {"problem": {"kind": "unseen", "sure": False}, "refusals": {}}
    assert found == [("a:B", unseen), ("c:D", unseen)]


@pytest.mark.parametrize(
    ("owner", "finding", "again"),
    [
        ("a.b", Finding(kind="unseen", sure=False), ["a.b"]),
        ("a.b", Finding(kind="killed", said="9", sure=False), ["a.b"]),
        ("a.b", Finding(kind="network", said="it waits", sure=False), ["a.b"]),
        ("a.b", Finding(kind="network", said="gaierror"), []),
        ("a.b", Finding(kind="localhost", sure=False), []),
        ("/model", Finding(kind="hangs", sure=False), ["a.b", "c.d"]),
    ],
    ids=lambda value: value.kind if isinstance(value, Finding) else None,
)
def test_what_another_look_may_not_find_is_looked_for_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: str,
    finding: Finding,
    again: list[str],
) -> None:
    """More memory or time may be all that it takes; what was found of the others is kept."""
    asked: list[object] = []

    def ask(*given: object) -> Look:
        asked.append(given[-1])
        return Look(evals={owner: (finding,)})

    monkeypatch.setattr(looking, "_ask", ask)
    host = Host(environ={}, home=tmp_path, cache=tmp_path, name="here", user="1:1")
    question = Question(models=("m",), arguments=(), evals=("a.b", "c.d"), content="")
    for _ in range(2):
        look = look_inside(None, SPEC, question, host)  # type: ignore[arg-type] # nobody is asked
        assert look is not None
        assert look.evals.keys() >= {owner, "a.b", "c.d"}
    assert asked == [["a.b", "c.d"], *([again] if again else [])]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("http://localhost:8000/v1", "localhost"),
        ("http://me@127.0.0.1/v1", "localhost"),
        ("ws://[::1]:80", "localhost"),
        ("localhost:8000", "localhost"),
        ("localhost", "localhost"),
        ("0.0.0.0:80", "localhost"),
        (f"{INSIDE}/openai/v1", None),
        ("http://localhost.example.org", None),
        ("localhost is where you are", None),
        ("notlocalhost:80", None),
        ("/home/me/prompt.txt", "outside"),
        ("~/models/x", "outside"),
        ("/home/me and you", None),
        ("/v1/chat/completions", None),
        (str(Path(__file__)), None),
    ],
)
def test_what_a_container_cannot_see_is_known_by_its_text(value: str, kind: str | None) -> None:
    """The host's loopback, but for the gateway's place there, and the host's folders."""
    found = elsewhere("x", value)
    assert (found and found["kind"]) == kind
    assert not found or not found["sure"]


def test_texts_are_found_at_any_depth_with_the_name_above() -> None:
    """An anchor around itself ends somewhere."""
    value: dict[str, object] = {"a": "1", "b": [{"c": ["2"]}, "3"], "n": 4}
    assert list(texts(value)) == [("a", "1"), ("c", "2"), ("b", "3")]
    value["again"] = value
    assert ("a", "1") in list(texts(value))


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("output_path", "out.json", "written"),
        ("output_dir", "/home/me/out", "written"),
        ("result_file", "x", "written"),
        ("log_path", "/tmp/x.log", "written"),
        ("my_results_dir", "runs/1", "written"),
        ("output_path", "/tmp/evallogs/out.json", None),
        ("log_level", "debug", None),
        ("output_format", "json", None),
        ("log_file", "there.log", None),
        ("login_path", "none", "data"),
        ("rubric_path", "none", "data"),
    ],
)
def test_a_path_that_is_written_is_no_missing_data(
    tmp_path: Path, name: str, value: str, kind: str | None
) -> None:
    """But what is there may be read, and what is kept is kept."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "there.log").touch()
    found = path_problem(name, value, [tmp_path], ours=True)
    assert (found and found["kind"]) == kind
    assert kind != "written" or (found and found["sure"] is False)
