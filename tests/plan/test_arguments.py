from typing import Any

from runner.model import Command, Job
from runner.plan.plan import arguments_of, make_plan
from tests.outcomes import SETTINGS, asked


def planned(key: str = "e", **changes: Any) -> Job:  # noqa: ANN401 - any option
    """The job of an eval, for a run that is asked for like that."""
    (job,) = make_plan(asked(**changes), evals=(key,), settings=lambda _: SETTINGS).jobs
    return job


def test_a_command_is_upstreams() -> None:
    """Program, model, eval, what is passed through, then the registry path."""
    job = planned(
        "e.dev.v0", passed_through=("--max_samples", "5"), registry_paths=("r",), as_typed=True
    )
    expected = ("oaieval", "m", "e.dev.v0", "--max_samples", "5", "--registry_path", "r")
    assert job.command == expected


def test_several_registry_paths_each_have_the_option() -> None:
    """`oaieval` rejects upstream's `--registry_path a b`."""
    job = planned(run_command="r", registry_paths=("a", "b"), as_typed=True)
    assert job.command == ("r", "m", "e", "--registry_path", "a", "--registry_path", "b")
    first = ("--registry_path", "/registry/0", "--registry_path", "/registry/1")
    assert job.argv == ("r", "m", "e", *first)


def test_arguments_are_recognised_in_every_form() -> None:
    """As `evalset` records them, as the drop-in does, and as upstream does."""
    assert arguments_of(asked(registry_paths=("a", "b"))) == (
        ("--registry_path", "/registry/0", "--registry_path", "/registry/1"),
        ("--registry_path", "a", "--registry_path", "b"),
        ("--registry_path", "a", "b"),
    )
    assert arguments_of(asked()) == ((),)
    assert arguments_of(asked(passed_through=("-x",))) == (("-x",),)
    assert len(arguments_of(asked(registry_paths=("a",)))) == 2


def test_a_job_is_recognised_in_every_form() -> None:
    """Whatever of them a progress file has, the eval is finished for this run."""
    options = asked(run_command="r", passed_through=("-x",), registry_paths=("a", "b"))
    for arguments in arguments_of(options):
        done = (Command(("r", "m", "e", *arguments)),)
        plan = make_plan(options, evals=("e",), settings=lambda _: SETTINGS, done=done)
        assert plan.todo == ()
