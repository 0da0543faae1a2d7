from typing import Any

import msgspec
import pytest

from runner.errors import UsageError
from runner.model import Command
from runner.plan.plan import Past, Plan, Shard, Success, make_plan
from tests.outcomes import SETTINGS, asked

SEED = ("--seed", "1")
EVALS = ("a.dev.v0", "b.dev.v0", "c.dev.v0", "c.test.v0")
DONE = Command(("oaieval", "m", "a.dev.v0", *SEED))


def plan(
    evals: tuple[str, ...] = EVALS,
    *,
    done: tuple[Command | str, ...] = (),
    past: dict[Command, Past] | None = None,
    names: dict[str, tuple[str, ...]] | None = None,
    shard: Shard | None = None,
    **changes: Any,  # noqa: ANN401 - any option
) -> Plan:
    return make_plan(
        asked(passed_through=SEED, **changes),
        evals=evals,
        settings=lambda _: SETTINGS,
        done=done,
        past=past,
        names=names,
        shard=shard,
    )


def keys(found: Plan) -> list[str]:
    """The evals of a plan."""
    return [job.eval for job in found.jobs]


def test_nothing_on_record_leaves_all_to_do() -> None:
    """Jobs come in the order of the evals, with upstream's commands."""
    found = plan()
    assert keys(found) == list(EVALS)
    assert found.todo == found.jobs
    assert found.done == ()
    assert len(found.whole) == 4
    assert found.jobs[0].command == ("oaieval", "m", "a.dev.v0", "--seed", "1")
    assert set(found.why.values()) == {"not run yet"}


def test_what_cannot_run_is_neither_done_nor_to_do() -> None:
    """It stays in the plan, with its reason; what is finished needs to run no more."""
    found = make_plan(
        asked(passed_through=SEED),
        evals=EVALS,
        settings=lambda _: SETTINGS,
        done=[DONE],
        obstacles={"a.dev.v0": "x", "b.dev.v0": "no module `y`", "not.in.it": "z"},
    )
    assert [job.eval for job in found.done] == ["a.dev.v0"]
    assert [job.eval for job in found.unable] == ["b.dev.v0"]
    assert [job.eval for job in found.todo] == ["c.dev.v0", "c.test.v0"]
    assert keys(found) == list(EVALS)
    assert found.why[found.unable[0].key] == "cannot run: no module `y`"


def test_each_job_has_the_settings_of_its_eval() -> None:
    """They are asked for by the resolved key."""
    given = {key: msgspec.structs.replace(SETTINGS, memory=len(key)) for key in EVALS}
    found = make_plan(asked(passed_through=SEED), evals=EVALS, settings=given.__getitem__)
    assert [job.settings for job in found.jobs] == [given[key] for key in EVALS]


def test_finished_commands_are_done_whatever_their_format() -> None:
    """An argv counts, and so does the older format's text."""
    found = plan(
        done=(
            DONE,
            "oaieval m b.dev.v0 --seed 1",
            Command(("oaieval", "m", "c.dev.v0", "--seed", "2")),
            Command(("oaieval", "other", "c.dev.v0", "--seed", "1")),
        )
    )
    assert [job.eval for job in found.done] == ["a.dev.v0", "b.dev.v0"]
    assert [job.eval for job in found.todo] == ["c.dev.v0", "c.test.v0"]
    unknown = "finished; no attempt of it is on record"
    assert {job.eval: found.why[job.key] for job in found.jobs} == {
        "a.dev.v0": unknown,
        "b.dev.v0": unknown,
        "c.dev.v0": "not run yet; finished with other arguments: --seed 2; "
        "`oaieval other c.dev.v0 --seed 1`",
        "c.test.v0": "not run yet",
    }


@pytest.mark.parametrize("as_typed", [True, False])
@pytest.mark.parametrize(
    "recorded",
    [
        ("--registry_path", "/registry/0", "--registry_path", "/registry/1"),
        ("--registry_path", "x", "--registry_path", "y"),
        ("--registry_path", "x", "y"),
    ],
)
def test_registry_paths_in_any_recorded_form_count(
    recorded: tuple[str, ...], *, as_typed: bool
) -> None:
    """What `evalset`, the drop-in or upstream finished is finished for each of them."""
    found = plan(
        ("a.dev.v0",),
        registry_paths=("x", "y"),
        as_typed=as_typed,
        done=(Command((*DONE, *recorded)),),
    )
    assert found.todo == ()


def test_only_the_drop_ins_commands_carry_host_paths() -> None:
    """What runs in the container has the container's paths, either way."""
    ours = plan(registry_paths=("/home/me/r",)).jobs[0]
    assert ours.command == ours.argv
    assert ours.argv[-2:] == ("--registry_path", "/registry/0")
    theirs = plan(registry_paths=("/home/me/r",), as_typed=True).jobs[0]
    assert theirs.command[-1] == "/home/me/r"
    assert theirs.argv == ours.argv


def test_a_job_that_failed_says_how_often_and_why() -> None:
    """The reason is the latest attempt's."""
    first, second, *_ = plan().jobs
    found = plan(
        past={
            first.command: Past(failed=2, last="exit code 1"),
            second.command: Past(failed=1, last="out of memory"),
        }
    )
    assert found.why[first.key] == "failed 2 times, last: exit code 1"
    assert found.why[second.key] == "failed once, last: out of memory"
    assert found.why[found.jobs[2].key] == "not run yet"


def test_shards_do_not_depend_on_progress() -> None:
    """Hosts that know of different progress still cut the plan alike."""
    done = (DONE,)
    for index in (1, 2):
        shard = Shard(index=index, count=2)
        assert keys(plan(shard=shard)) == keys(plan(shard=shard, done=done))
    assert len(plan(shard=Shard(index=1, count=2), done=done).whole) == 4
    assert keys(plan(shard=Shard(index=5, count=5))) == []


def test_a_selection_takes_patterns_of_keys_and_of_aliases() -> None:
    """Several add up, exclusions take away, and the order stays."""
    assert keys(plan(select=("c.*", "a*"))) == ["a.dev.v0", "c.dev.v0", "c.test.v0"]
    assert keys(plan(select=("*.dev.*",), exclude=("b*",))) == ["a.dev.v0", "c.dev.v0"]
    assert keys(plan(exclude=("*.dev.*",))) == ["c.test.v0"]
    assert keys(plan(select=("first",), names={"a.dev.v0": ("a.dev.v0", "first")})) == ["a.dev.v0"]


def test_a_selection_that_matches_nothing_is_refused() -> None:
    """With the closest name, because it is a typing error."""
    with pytest.raises(UsageError, match=r"--select `a\.dev\.v1` matches no eval.*`a\.dev\.v0`"):
        plan(select=("b*", "a.dev.v1"))


def test_an_exclusion_that_matches_nothing_is_a_warning() -> None:
    """It may stand in a configuration file, for other sets."""
    found = plan(exclude=("zzz",))
    assert keys(found) == list(EVALS)
    assert found.warnings == ("--exclude `zzz` matches no eval of the set",)


def test_a_selection_that_leaves_nothing_is_refused() -> None:
    """It would look like a run with all done."""
    with pytest.raises(UsageError, match="leave none of the set's 4 evals"):
        plan(exclude=("*",))


def test_an_eval_twice_is_one_job() -> None:
    """Same command twice: once."""
    assert keys(plan(("a", "b", "a"))) == ["a", "b"]


def test_the_whole_plan_is_known_to_every_shard() -> None:
    """Its commands do not depend on the shard, and neither does what is finished."""
    done = (DONE,)
    second = plan(shard=Shard(index=2, count=2), done=done)
    assert second.commands == plan().commands
    assert keys(second) == ["b.dev.v0", "c.test.v0"]
    assert second.done == ()
    assert second.finished == {"a.dev.v0"}


def test_what_another_selection_finished_is_known_as_finished() -> None:
    """It was run as this run's evals are, but is no job of it."""
    found = plan(select=("b*",), done=(DONE,))
    assert keys(found) == ["b.dev.v0"]
    assert found.finished == {"a.dev.v0"}


def test_an_eval_that_is_finished_with_other_arguments_says_so() -> None:
    """For that is why it runs again; another program or model is named whole."""
    found = plan(
        done=(
            Command(("oaieval", "m", "a.dev.v0", "--max_samples", "5")),
            Command(("oaieval", "m", "a.dev.v0")),
            Command(("other", "m", "b.dev.v0", "--seed", "1")),
        ),
    )
    why = {job.eval: found.why[job.key] for job in found.todo}
    assert why == {
        "a.dev.v0": (
            "not run yet; finished without arguments; "
            "finished with other arguments: --max_samples 5"
        ),
        "b.dev.v0": "not run yet; finished with other arguments: `other m b.dev.v0 --seed 1`",
        "c.dev.v0": "not run yet",
        "c.test.v0": "not run yet",
    }
    assert found.finished == set()


def test_a_done_eval_says_how_it_was_finished_in_any_form() -> None:
    """The drop-in's record, with the paths as typed, is found by `evalset`, and the other way."""
    success = Success(attempt="x1", number=2, host="laptop", ended_at="2025-01-01T00:00:00Z")
    ours = plan(("a",), registry_paths=("/r",)).jobs[0]
    found = plan(
        ("a",),
        registry_paths=("/r",),
        as_typed=True,
        done=(ours.command,),
        past={ours.command: Past(ended=2, failed=1, success=success)},
    )
    assert found.why == {
        found.jobs[0].key: "finished 2025-01-01T00:00:00Z on laptop, attempt 2: x1"
    }


def test_the_drop_in_finds_its_own_record_of_an_attempt() -> None:
    """That has the paths as typed, which are not those that the container sees."""
    (job,) = plan(("a",), registry_paths=("/r",), as_typed=True).jobs
    found = plan(
        ("a",),
        registry_paths=("/r",),
        as_typed=True,
        past={job.command: Past(failed=1, last="exit code 1")},
    )
    assert found.why == {job.key: "failed once, last: exit code 1"}
