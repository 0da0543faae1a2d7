from typing import Any

import msgspec
import pytest

from runner.plan.pins import Pins, differences

PINS = Pins(
    image="evals:1",
    image_id="sha256:" + "1" * 64,
    image_digest=None,
    image_fingerprint=None,
    network="evalset",
    gpus="",
    limits={"memory": 4 * 2**30, "cpus": 2.0, "pids_limit": 100, "timeout": 60.0},
    registry={"k1": "aa", "k2": "bb"},
)
FINISHED = {"k1": "a.dev.v0"}


def pins(**changes: Any) -> Pins:  # noqa: ANN401 - any field
    return msgspec.structs.replace(PINS, **changes)


def compare(before: Pins, now: Pins) -> tuple[str, ...]:
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
    """An eval that needed more gets more, as the messages for such a failure say; CPUs are free."""
    higher = {"memory": 8 * 2**30, "cpus": 8.0, "pids_limit": 200, "timeout": 90.0}
    lower = {"memory": 1536 * 2**20, "cpus": 1.0, "pids_limit": 99, "timeout": 1.5}
    assert compare(PINS, pins(limits=higher)) == ()
    assert compare(PINS, pins(limits=lower)) == (
        "--memory: 4g before, 1536m now",
        "--pids-limit: 100 before, 99 now",
        "--timeout: 60s before, 1.5s now",
    )
    assert compare(PINS, pins(limits={"memory": 4 * 2**30 - 1})) == (
        "--memory: 4g before, 4294967295 now",
    )


def test_changed_content_counts_for_finished_evals_alone() -> None:
    """An eval that is to run may change, and one that was never pinned cannot have."""
    assert compare(PINS, pins(registry={"k1": "aa", "k2": "cc", "k3": "dd"})) == ()
    assert compare(PINS, pins(registry={"k1": "cc"})) == (
        "registry content of a.dev.v0: aa before, cc now",
    )


def test_many_changed_evals_are_counted() -> None:
    """The message stays one line that can be read."""
    finished = {str(number): f"e{number}" for number in range(5)}
    found = differences(
        pins(registry=dict.fromkeys(finished, "aa")),
        pins(registry=dict.fromkeys(finished, "bb")),
        finished=finished,
    )
    assert len(found) == 4
    assert found[-1] == "that of 2 more evals"


def test_what_an_earlier_version_did_not_write_never_counts() -> None:
    """Files of before have no network, no GPUs and no registry."""
    old = pins(network=None, gpus=None, limits={"memory": None}, registry=None)
    assert compare(old, pins(network="none", gpus="all", registry={"k1": "x"})) == ()


def test_a_run_with_other_arguments_tells_of_the_registry_alone() -> None:
    """It did not finish what this one takes as finished, but kept what that was pinned to."""
    now = pins(image_id="sha256:2", network="none", registry={"k1": "cc"})
    assert differences(PINS, now, finished=FINISHED, alike=False) == (
        "registry content of a.dev.v0: aa before, cc now",
    )
