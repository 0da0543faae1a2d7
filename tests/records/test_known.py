from runner.records.progress import Finished
from runner.records.run_file import RunFile
from runner.records.state import known_commands
from tests.outcomes import failure, job

PLANNED, DONE = ("oaieval", "dummy", "a"), ("oaieval", "dummy", "b")
RUN = RunFile(
    run="r", model="dummy", eval_set="s", image="i", image_id="1", commands=(PLANNED,), limits={}
)


def test_commands_are_known_from_the_plan_then_the_finished_then_the_attempts() -> None:
    """Each once, in the older format, too."""
    attempted = msgspec.structs.replace(failure(job("d")), run="r", host="h")
    finished = Finished(commands=(DONE, PLANNED), lines=("oaieval dummy  c", " ".join(DONE)))
    assert known_commands(RUN, finished, (attempted, attempted)) == [
        PLANNED,
        DONE,
        ("oaieval", "dummy", "", "c"),
        ("oaieval", "dummy", "d"),
    ]


def test_without_a_plan_what_is_on_record_is_known() -> None:
    """A set that upstream ran has none."""
    assert known_commands(None, Finished(commands=(DONE,)), ()) == [DONE]
    assert known_commands(None, Finished(), ()) == []
