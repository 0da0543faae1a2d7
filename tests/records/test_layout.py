from pathlib import Path

import pytest

from runner.model import Command
from runner.records.layout import Layout, scan


def layout(model: str = "gpt-4", eval_set: str = "test-basic") -> Layout:
    return Layout(root=Path("/p"), model=model, eval_set=eval_set)


def test_files_lie_where_upstream_would_put_them() -> None:
    """Below the progress directory everything is as it is below upstream's /tmp."""
    assert layout().progress == Path("/p/oaievalset/gpt-4.test-basic.progress.txt")
    assert layout().attempts == Path("/p/oaievalset/gpt-4.test-basic.attempts.jsonl")
    assert layout().run == Path("/p/oaievalset/gpt-4.test-basic.run.json")
    assert layout().evallogs == Path("/p/evallogs")
    assert layout().private("42") == Path("/p/.attempts/42")


@pytest.mark.parametrize("others", [["--max_samples", "5"], ["--max_samples=5"]])
@pytest.mark.parametrize("arguments", [[], ["--seed", "7"]])
def test_evals_share_their_answers_whatever_the_number_of_samples(
    arguments: list[str], others: list[str]
) -> None:
    """Other arguments may change what is asked, or how often on purpose; so may another model."""
    path = layout().answers_of(Command(("oaieval", "m", "e", *arguments)))
    assert path.parent == Path("/p/answers/gpt-4.test-basic")
    for same in ([*arguments, *others], [*others, *arguments], [*others, *arguments, *others]):
        assert layout().answers_of(Command(("oaieval", "m", "e", *same))) == path
    for other in (("m", "e", "--seed", "8"), ("m", "e2", *arguments), ("m2", "e", *arguments)):
        assert layout().answers_of(Command(("oaieval", *other, *others))) != path


def test_a_slash_in_a_models_name_makes_a_subfolder() -> None:
    """It does in upstream, for the progress file and for the logs alike."""
    found = layout("openai/gpt-4")
    assert found.progress == Path("/p/oaievalset/openai/gpt-4.test-basic.progress.txt")
    assert found.console_log("42", "a.b.v0") == Path(
        "/p/evallogs/42_openai/gpt-4_a.b.v0.console.log"
    )


def test_scan_finds_every_model_and_set_with_progress(tmp_path: Path) -> None:
    """A model may have slashes and dots; what is next to the files of a run is passed over."""
    folder = tmp_path / "oaievalset"
    (folder / "org/team").mkdir(parents=True)
    for name in (
        "gpt-3.5.test.progress.txt",
        "gpt-3.5.test.attempts.jsonl",
        "p.set.progress.txt",
        "org/team/m.demo.run.json",
        "b.set.attempts.jsonl",
        "gone.set.progress.txt.20250101T000000.000000Z",
        "torn.set.progress.txt.torn",
        "locked.set.lock",
    ):
        (folder / name).touch()
    assert scan(tmp_path) == [
        Layout(root=tmp_path, model=model, eval_set=eval_set)
        for model, eval_set in (
            ("b", "set"),
            ("gpt-3.5", "test"),
            ("org/team/m", "demo"),
            ("p", "set"),
        )
    ]


def test_scan_of_a_folder_without_progress_finds_nothing(tmp_path: Path) -> None:
    """Neither an empty nor a missing progress directory is an error."""
    assert scan(tmp_path) == []
    assert scan(tmp_path / "none") == []
