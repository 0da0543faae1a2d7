import subprocess
from pathlib import Path

from runner import __version__
from runner.branch.progress_branch import About, message, parse_trailers

ABOUT = About(
    model="gpt-4", eval_set="test-basic", host="laptop", image="sha256:12", shard="1/3", run="R"
)


def test_a_message_says_what_was_done() -> None:
    """Its first line is the state, and what this snapshot added."""
    text = message(ABOUT, done=12, total=40, added=2)
    assert text.splitlines()[0] == "gpt-4 test-basic 12/40 (+2)"
    assert message(ABOUT, done=12, total=40, added=0).splitlines()[0] == "gpt-4 test-basic 12/40"


def test_the_trailers_are_ones_to_git_and_to_us(tmp_path: Path) -> None:
    """Host, image, shard, run and version of the runner can be read again."""
    text = message(ABOUT, done=1, total=1, added=1)
    line = ["git", "interpret-trailers", "--parse"]
    said = subprocess.run(
        line, input=text, text=True, capture_output=True, check=True, cwd=tmp_path
    )
    assert said.stdout.splitlines() == [
        "Evalset-Host: laptop",
        "Evalset-Image: sha256:12",
        "Evalset-Shard: 1/3",
        "Evalset-Run: R",
        f"Evalset-Runner: {__version__}",
    ]
    expected = {"host": "laptop", "image": "sha256:12", "shard": "1/3", "run": "R"}
    assert parse_trailers(text) == {**expected, "runner": __version__}


def test_a_run_without_a_shard_has_no_trailer_for_it() -> None:
    """An empty trailer would be read as something."""
    about = About(model="m", eval_set="s", host="h")
    assert "Shard" not in message(about, done=0, total=0, added=0)
