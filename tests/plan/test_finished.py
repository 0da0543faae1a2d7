from typing import Any

from runner.model import Command
from runner.plan.plan import FinishedCommands
from tests.outcomes import asked

OURS = ("--registry_path", "/registry/0", "--registry_path", "/registry/1")
TYPED = ("--registry_path", "x", "--registry_path", "y")


def finished(*done: tuple[str, ...] | str, **changes: Any) -> FinishedCommands:  # noqa: ANN401 - any option
    """What these lines of a progress file finish, for a run that is asked for like that."""
    lines = (each if isinstance(each, str) else Command(each) for each in done)
    return FinishedCommands(lines, ("a", "b", "c"), asked(**changes))


def test_a_line_too_short_for_a_command_finishes_nothing() -> None:
    """Neither this run's evals nor one with other arguments; those after it count."""
    found = finished(("oaieval", "m"), ("oaieval",), (), ("oaieval", "m", "a"))
    assert found.evals == {"a"}
    assert found.otherwise("") == ""


def test_the_older_format_is_found_in_every_form() -> None:
    """As text, with the registry folders as this run would record them or as they were typed."""
    texts = [" ".join(("oaieval", "m", key, *end)) for key, end in (("a", OURS), ("b", TYPED))]
    found = finished(*texts, "oaieval m c", registry_paths=("x", "y"))
    assert found.evals == {"a", "b"}


def test_registry_folders_of_this_run_are_not_named_among_other_arguments() -> None:
    """They are the same for both: only what differs is told."""
    more = ("--seed", "1")
    found = finished(
        ("oaieval", "m", "a", *more, *OURS),
        ("oaieval", "m", "b", *more, *TYPED),
        ("oaieval", "m", "c", *OURS),
        passed_through=("--seed", "2"),
        registry_paths=("x", "y"),
    )
    assert found.otherwise("a") == "finished with other arguments: --seed 1"
    assert found.otherwise("b") == "finished with other arguments: --seed 1"
    assert found.otherwise("c") == "finished without arguments"


def test_registry_folders_of_another_run_are_named() -> None:
    """Fewer of them, others, or the same ones before the arguments."""
    folder = ("--registry_path", "z")
    found = finished(
        ("oaieval", "m", "a", *folder),
        ("oaieval", "m", "b", *OURS, "--seed", "1"),
        registry_paths=("x", "y"),
    )
    assert found.otherwise("a") == "finished with other arguments: --registry_path z"
    assert found.otherwise("b") == f"finished with other arguments: {' '.join(OURS)} --seed 1"


def test_each_other_way_in_which_an_eval_is_finished_is_told() -> None:
    """In the order of the progress file."""
    found = finished(
        ("oaieval", "m", "a", "--seed", "1"),
        ("oaieval", "m", "a", "--seed", "2"),
        ("oaieval", "gpt", "a"),
        passed_through=("--seed", "3"),
    )
    assert found.otherwise("a") == (
        "finished with other arguments: --seed 1; --seed 2; `oaieval gpt a`"
    )
