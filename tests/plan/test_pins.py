from typing import Any

import msgspec
import pytest

from runner.plan.pins import RunFile, differences

PINS = RunFile(
    run="r1",
    model="m",
    eval_set="s",
    image="evals:1",
    image_id="sha256:" + "1" * 64,
    commands=(),
    limits={"memory": 4 * 2**30, "cpus": 2.0, "pids_limit": 100, "timeout": 60.0},
    network="evalset",
    registry={"k1": "aa", "k2": "bb"},
    settings={},
)
FINISHED = {"k1": "a.dev.v0"}


def pins(**changes: Any) -> RunFile:  # noqa: ANN401 - any field
    return msgspec.structs.replace(PINS, **changes)


def limited(**limits: float) -> RunFile:
    """Another run by its own limits."""
    return pins(limits={**PINS.limits, **limits})


def compare(before: RunFile, now: RunFile) -> tuple[str, ...]:
    return differences(before, now, finished=FINISHED)


def test_the_same_run_differs_in_nothing() -> None:
    """Nor does one under another name for the same image."""
    assert compare(PINS, PINS) == ()
    assert compare(PINS, pins(image="also:2")) == ()


@pytest.mark.parametrize(
    "before",
    [
        {"image_fingerprint": "f"},
        {"image_digest": "here/evals@sha256:aa"},
        {"image_fingerprint": "f", "image_digest": "here/evals@sha256:aa"},
    ],
)
def test_an_image_is_the_same_by_digest_or_fingerprint(before: dict[str, str]) -> None:
    """Its id differs between hosts that built alike, and its name between image registries."""
    now = pins(
        image="there/evals",
        image_id="sha256:2",
        image_fingerprint="f",
        image_digest="there/evals@sha256:aa",
    )
    assert compare(pins(**before), now) == ()


def test_another_image_is_shown_with_what_tells_it_from_the_old() -> None:
    """Digest, else fingerprint, else id."""
    built = pins(image="evals:2", image_id="sha256:22", image_fingerprint="ff")
    pulled = pins(image="evals:3", image_id="sha256:3", image_digest="r/evals@sha256:dd")
    assert compare(PINS, built) == (
        "image: evals:1 (id 111111111111) before, evals:2 (fingerprint ff) now",
    )
    assert compare(built, pulled) == (
        "image: evals:2 (fingerprint ff) before, evals:3 (digest dd) now",
    )


def test_network_and_gpus_count() -> None:
    """Both are shown under the names of their options."""
    assert compare(PINS, pins(network="none", gpus="all")) == (
        "--network: evalset before, none now",
        "--gpus: none before, all now",
    )


def test_a_lower_limit_counts_and_a_higher_one_does_not() -> None:
    """An eval that needed more gets more, as the messages for such a failure say."""
    higher = {"memory": 8 * 2**30, "pids_limit": 200, "timeout": 90.0}
    lower = {"memory": 1536 * 2**20, "pids_limit": 99, "timeout": 1.5}
    assert compare(PINS, limited(**higher)) == ()
    assert compare(PINS, limited(**lower)) == (
        "--memory: 4g before, 1536m now",
        "--pids-limit: 100 before, 99 now",
        "--timeout: 1m before, 1.5s now",
    )
    assert compare(PINS, limited(memory=4 * 2**30 - 1)) == ("--memory: 4g before, 4294967295 now",)
    assert compare(PINS, limited(pids_limit=1)) == ("--pids-limit: 100 before, 1 now",)


def test_no_limit_is_not_a_lower_one() -> None:
    """Docker takes 0 for none."""
    assert compare(PINS, limited(pids_limit=0)) == ()


def test_changed_content_counts_for_finished_evals_alone() -> None:
    """An eval that is to run may change, and one that was never pinned cannot have."""
    assert compare(PINS, pins(registry={"k1": "aa", "k2": "cc", "k3": "dd"})) == ()
    assert compare(PINS, pins(registry={"k1": "cc"})) == (
        "registry content of a.dev.v0: aa before, cc now",
    )


def test_other_data_count_where_both_runs_had_some() -> None:
    """Data that nobody fetched are not known, and an eval that is finished needs none."""
    before = pins(data={"k1": "a" * 64, "k2": "b" * 64})

    assert compare(before, pins(data={"k1": "c" * 64, "k2": "d" * 64})) == (
        f"data of a.dev.v0: {'a' * 12} before, {'c' * 12} now",
    )
    for other in ({"k2": "b" * 64}, {}, None):
        assert compare(before, pins(data=other)) == ()
        assert compare(pins(data=other), before) == ()


def test_many_changed_evals_are_counted() -> None:
    """The message stays one line that can be read."""
    finished = {str(number): f"e{number}" for number in range(5)}
    before = pins(registry={key: f"a{key}" for key in finished})
    now = pins(registry={key: f"b{key}" for key in finished})
    found = differences(before, now, finished=finished)
    assert len(found) == 4
    assert found[-1] == "registry content of 2 more evals"
    first = dict(list(finished.items())[:3])
    assert differences(before, now, finished=first) == tuple(
        f"registry content of e{number}: a{number} before, b{number} now" for number in range(3)
    )


def test_what_an_earlier_version_did_not_write_never_counts() -> None:
    """Files of before do not say what single jobs got; the image is the run's."""
    old = pins(settings=None, registry=None)
    now = pins(network="none", gpus="all", limits={"memory": 1}, registry={"k1": "x"})
    assert compare(old, now) == ()
    assert compare(msgspec.structs.replace(old, registry={"k1": "y"}), now) == ()
    assert compare(old, pins(image="b", image_id="sha256:2")) == (
        "image: evals:1 (id 111111111111) before, b (id 2) now",
    )


def test_what_a_rule_gave_counts_and_not_what_the_run_gives_others() -> None:
    """The same is the same, from a rule or an option; the numbers are those that the eval had."""
    ruled = pins(settings={"k1": {"memory": 2**30, "network": "none", "image": "mine"}})
    same: dict[str, str | int] = {"memory": 2**30, "network": "none", "image": "mine"}
    by_options = msgspec.structs.replace(limited(memory=2**30), network="none", image="mine")
    assert compare(ruled, by_options) == ()
    assert compare(ruled, pins(settings={"k1": {**same, "memory": 2**31}})) == ()
    assert compare(ruled, pins(settings={"k1": {**same, "memory": 2**29, "image": "x"}})) == (
        "image: mine before, x now",
        "--memory: 1g before, 512m now",
    )
    assert compare(ruled, PINS) == (
        "image: mine before, evals:1 now",
        "--network: none before, evalset now",
    )


def test_evals_are_named_where_not_all_have_changed() -> None:
    """Those that have changed alike together."""
    finished = {str(number): f"e{number}" for number in range(8)}
    registry = dict.fromkeys(finished, "aa")
    settings = {str(number): {"network": "none"} for number in range(4)}
    more = {str(number): {"network": f"n{number}"} for number in range(4, 8)}
    before = pins(registry=registry)
    now = pins(registry=registry, settings=settings)
    assert differences(before, now, finished=finished) == (
        "--network of e0, e1, e2 and 1 more: evalset before, none now",
    )
    three = dict(list(settings.items())[:3])
    assert differences(before, pins(registry=registry, settings=three), finished=finished) == (
        "--network of e0, e1, e2: evalset before, none now",
    )
    now = pins(registry=registry, settings=settings | more)
    found = differences(before, now, finished=finished)
    assert found[1:] == (
        "--network of e4: evalset before, n4 now",
        "--network of e5: evalset before, n5 now",
        "--network of 2 more evals",
    )


def test_settings_that_may_differ_do_not_count() -> None:
    """As the network of a rerun, which has none."""
    now = pins(network="none", gpus="all")
    assert differences(PINS, now, finished=FINISHED, ignored={"network"}) == (
        "--gpus: none before, all now",
    )


def test_after_a_run_with_other_arguments_the_image_counts_by_its_name() -> None:
    """That run did not finish what this one takes as finished, but kept what that got."""
    now = pins(image_id="sha256:2", registry={"k1": "cc"})
    assert differences(PINS, now, finished=FINISHED, same_arguments=False) == (
        "registry content of a.dev.v0: aa before, cc now",
    )
    other = pins(image="b", image_id="sha256:2")
    assert differences(PINS, other, finished=FINISHED, same_arguments=False) == (
        "image: evals:1 before, b now",
    )
    unknown = pins(registry={})
    assert differences(unknown, other, finished=FINISHED, same_arguments=False) == ()
    two = {"k0": "unknown", "k1": "a.dev.v0"}
    assert differences(PINS, other, finished=two, same_arguments=False) == (
        "image of a.dev.v0: evals:1 before, b now",
    )


def test_settings_of_jobs_are_kept_where_they_are_not_those_of_the_run() -> None:
    """And only of jobs whose registry content is known, because no other can be compared."""
    found = PINS.with_settings(
        {"k1": PINS.own | {"memory": 1, "gpus": "all"}, "k2": PINS.own, "k3": {"memory": 1}}
    )
    assert found.settings == {"k1": {"gpus": "all", "memory": 1}}
    assert found.settings_of("k1") == {**PINS.own, "gpus": "all", "memory": 1}
    assert found.settings_of("k2") == PINS.own
    assert found.settings_of("k3") is None
