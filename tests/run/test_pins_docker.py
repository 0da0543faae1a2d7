import json
import random
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

from runner.data.cache import DataCache, keys_of, remove
from runner.data.lock import lock_of
from runner.image.image import FINGERPRINT, find_image, own_fingerprint
from runner.options import DEFAULT_IMAGE
from runner.records.run_file import read_run_file
from runner.registry.entries import read_folder
from tests.conftest import Place, engine_api
from tests.run.pinned import build, pinned, refused, write_evals

pytestmark = pytest.mark.docker


def test_another_image_is_refused_until_it_is_allowed(place: Place, other_image: str) -> None:
    """The line shows both; with `--repin` what is finished stays, and the new image is pinned."""
    place.registry("succeed.a", "fail.1")
    place.run()
    line = refused(place, EVALSET_IMAGE=other_image)
    assert re.fullmatch(
        "Error: finished evals of m s were started under different conditions: "
        rf"image: {place.image} \((id|digest) [0-9a-f]{{12}}\) before, "
        rf"{other_image} \(id {find_image(engine_api(), other_image).id[7:19]}\) now; "
        "`--repin` continues and keeps the finished evals, `--no-resume` starts over\n",
        line,
    )
    ended = place.run("--repin", EVALSET_IMAGE=other_image)
    assert ended.returncode == 1
    assert "finished evals are kept, the others run under the new conditions" in ended.stdout
    assert sorted(record.eval for record in place.records()) == ["fail.1", "fail.1", "succeed.a"]
    assert pinned(place).image == other_image
    again = place.run(EVALSET_IMAGE=other_image)
    assert "different conditions" not in again.stdout + again.stderr
    assert again.returncode == 1


def test_images_that_were_built_alike_are_the_same(place: Place, other_image: str) -> None:
    """Their fingerprint says so, though two hosts give them two ids."""
    recipe = f"FROM {place.image}\n"
    first = build(other_image, recipe, **{FINGERPRINT: "f" * 64})
    place.registry("succeed.a", "fail.1")
    place.run(EVALSET_IMAGE=other_image)
    second = build(other_image, recipe + "ENV X=1\n", **{FINGERPRINT: "f" * 64})
    assert place.run(EVALSET_IMAGE=other_image).returncode == 1
    assert first != second
    assert pinned(place).image_id == second


def test_an_image_on_top_of_ours_does_not_pass_for_it(
    place: Place, other_image: str, image_on_top: str
) -> None:
    """It inherits the label, but has other content."""
    place.registry("succeed.a", "fail.1")
    place.run(EVALSET_IMAGE=other_image)
    found = find_image(engine_api(), image_on_top)
    assert found.fingerprint == "f" * 64
    assert own_fingerprint(engine_api(), found) is None
    assert "(fingerprint ffffffffffff) before" in refused(place, EVALSET_IMAGE=image_on_top)


def test_changed_data_of_a_finished_eval_is_refused_until_it_is_allowed(place: Place) -> None:
    """Also where nothing is left to do: else old results would pass for those of the new data."""
    write_evals(place, succeed_a="one")
    place.run()
    ((key, old),) = (pinned(place).registry or {}).items()
    write_evals(place, succeed_a="two")
    line = refused(place)
    assert f"registry content of succeed.a: {old} before, " in line
    ended = place.run("--repin")
    assert ended.returncode == 0
    assert "nothing to run" in ended.stdout
    assert (pinned(place).registry or {})[key] != old
    assert place.run().stdout.splitlines()[0] == "nothing to run; finished: 1 eval"


@pytest.mark.parametrize(
    "path", ["registry/modelgraded/own.yaml", "registry/solvers/own.yaml", ".evals/completion_fns"]
)
def test_a_changed_grader_or_model_is_refused(place: Place, path: str) -> None:
    """In a folder that was named or in `~/.evals`, in many files or in one."""
    write_evals(place, succeed_a="one")
    specs = {"succeed.a": {"class": "a:B", "args": {"modelgraded_spec": "mine"}}}
    (place.folder / "registry/evals/all.yaml").write_text(yaml.safe_dump(specs))
    changing = place.folder / path
    changing.parent.mkdir(parents=True, exist_ok=True)
    name = "mine" if "modelgraded" in path else "m"
    changing.write_text(f"{name}: {{class: 'x:Y', prompt: one}}")
    place.run()
    changing.write_text(f"other: {{class: 'x:Y'}}\n{name}: {{class: 'x:Y', prompt: one}}")
    assert place.run().returncode == 0
    changing.write_text(f"{name}: {{class: 'x:Y', prompt: two}}")
    assert "registry content of succeed.a" in refused(place)


def test_an_eval_that_is_not_finished_may_change(place: Place) -> None:
    """It runs as it is now; a new eval next to it stops nobody either."""
    write_evals(place, succeed_a="one", fail_1="one")
    place.run()
    write_evals(place, succeed_a="one", fail_1="two", succeed_new="one")
    ended = place.run("--no-exit-on-error")
    assert (ended.returncode, place.finished()) == (1, ["succeed.a", "succeed.new"])


def test_an_eval_that_runs_without_its_data_is_pinned_to_none(place: Place) -> None:
    """With `--repin`; a finished eval had its data, and stays pinned to them."""
    folder = place.registry("succeed.a", "fail.1")
    own = {"/registry/0": read_folder(folder)}
    cache = DataCache(place.cache / "evalset")
    hashes = {}
    for name, key in keys_of(["succeed.a", "fail.1"], own).items():
        passing = cache.unfinished(name, key) / "data"
        passing.mkdir(parents=True)
        (passing / "file").write_text(name)
        hashes[name] = cache.put(lock_of(passing, name, key), passing).lock.sha256
    place.run()
    assert sorted((pinned(place).data or {}).values()) == sorted(hashes.values())
    remove(cache.root)

    assert "pinned to data of fail.1 that are not on this host" in refused(place)
    assert place.run("--repin").returncode == 1

    assert list((pinned(place).data or {}).values()) == [hashes["succeed.a"]]


def test_another_shard_is_held_to_the_same(place: Place, other_image: str) -> None:
    """Its own evals may all be to do: results of one eval set must not come from two images."""
    place.registry("succeed.a", "succeed.b")
    place.run("--shard", "1/2")
    assert other_image in refused(place, "--shard", "2/2", EVALSET_IMAGE=other_image)


def test_with_nothing_finished_anything_may_change(place: Place, other_image: str) -> None:
    """There is nothing that would not match."""
    place.registry("fail.1")
    place.run()
    assert place.run(EVALSET_IMAGE=other_image).returncode == 1
    assert pinned(place).image == other_image


def test_a_fresh_start_is_held_to_nothing(place: Place, other_image: str) -> None:
    """What was finished is set aside, and all runs in the new image."""
    place.registry("succeed.a")
    place.run()
    assert place.run("--no-resume", EVALSET_IMAGE=other_image).returncode == 0
    assert len(place.records()) == 1


def test_other_arguments_are_a_run_of_their_own(place: Place, other_image: str) -> None:
    """The last run did not finish what this one leaves out; the registry stays pinned."""
    write_evals(place, succeed_a="one")
    place.run()
    place.run("--seed", "1", EVALSET_IMAGE=other_image)
    assert place.run().returncode == 0
    write_evals(place, succeed_a="two")
    assert "registry content of succeed.a" in refused(place)


def test_a_container_that_was_left_is_held_to_it_as_well(place: Place, other_image: str) -> None:
    """It runs what the killed run gave it; nothing of it is lost by the refusal."""
    place.registry("wait")
    with place.running() as process:
        place.until_running(1)
        process.kill()
        process.wait()
    assert other_image in refused(place, EVALSET_IMAGE=other_image)
    place.let_go()
    assert place.run().returncode == 0
    assert len(place.records()) == 1


def test_a_dry_run_warns_and_plans(place: Place) -> None:
    """It says that the run would stop, and writes nothing."""
    write_evals(place, succeed_a="one", fail_1="one")
    place.run()
    write_evals(place, succeed_a="two", fail_1="one")
    before = place.layout.run.read_bytes()
    ended = place.run("--dry-run")
    assert ended.returncode == 0
    assert ended.stderr.startswith(
        "warning: finished evals of m s were started under different conditions: "
    )
    assert ended.stderr.endswith("now; without `--repin` the run stops here\n")
    assert "to do (1):" in ended.stdout
    assert place.layout.run.read_bytes() == before
    assert "the run stops" not in place.run("--dry-run", "--repin").stderr


def test_pins_hold_at_another_place(place: Place, tmp_path: Path) -> None:
    """Another progress directory and registry folder, as another clone has them, match."""
    write_evals(place, succeed_a="one", fail_1="one")
    place.run()
    elsewhere = msgspec.structs.replace(place, folder=tmp_path / "elsewhere")
    write_evals(elsewhere, succeed_a="one", fail_1="one")
    place.progress.rename(elsewhere.progress)
    try:
        assert elsewhere.run().returncode == 1
        write_evals(elsewhere, succeed_a="two", fail_1="one")
        assert "registry content of succeed.a" in refused(elsewhere)
    finally:
        assert not elsewhere.leftovers()


def test_the_drop_in_warns_and_goes_on(place: Place, other_image: str) -> None:
    """As upstream, which knows of no images."""
    folder = place.registry("succeed.a", "fail.1")
    code = "from runner.oaievalset import main; main()"

    def said(image: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-c", code, "m", "s", "--registry_path", str(folder)],
            capture_output=True,
            text=True,
            check=False,
            cwd=place.folder,
            env=place.environ(EVALSET_IMAGE=image, EVALSET_PROGRESS_DIR=str(place.progress)),
            timeout=60,
        )
        assert (ended.returncode, ended.stderr) == (1, "")
        return ended.stdout

    said(place.image)
    assert "started under different conditions: image" in said(other_image)
    assert "different conditions" not in said(other_image)
    assert pinned(place).image == other_image


def test_a_repin_holds_though_another_hosts_clock_is_ahead(
    place: Place, other_image: str, tmp_path: Path
) -> None:
    """Ids begin with the time; what a run found on the branch is older all the same."""
    code = (
        "from runner.commands import run; real = run.new_id; "
        "run.new_id = lambda: '99' + real()[2:]; from runner import cli; cli.main()"
    )
    repository = tmp_path / "progress.git"
    subprocess.run(["git", "init", "--quiet", "--bare", repository], check=True)
    snapshot = ("--snapshot", "--snapshot-repo", str(repository), "--remote", "none")
    ahead = msgspec.structs.replace(place, folder=tmp_path / "ahead", program=("-c", code))
    for each in (ahead, place):
        each.registry("succeed.a", "fail.1")
    assert ahead.run(*snapshot).returncode == 1
    assert place.run(*snapshot, EVALSET_IMAGE=other_image).returncode == 2
    assert place.run(*snapshot, "--repin", EVALSET_IMAGE=other_image).returncode == 1
    assert place.run(*snapshot, EVALSET_IMAGE=other_image).returncode == 1
    assert not ahead.leftovers()


def test_pins_come_with_the_progress_branch(place: Place, other_image: str, tmp_path: Path) -> None:
    """A host that has nothing but the branch is held to what the first one ran."""
    place.registry("succeed.a", "fail.1")
    repository = tmp_path / "progress.git"
    subprocess.run(["git", "init", "--quiet", "--bare", repository], check=True)
    snapshot = ("--snapshot", "--snapshot-repo", str(repository), "--remote", "none")
    assert place.run(*snapshot).returncode == 1
    elsewhere = msgspec.structs.replace(place, folder=tmp_path / "elsewhere")
    elsewhere.registry("succeed.a", "fail.1")
    dry = elsewhere.run(*snapshot, "--dry-run", EVALSET_IMAGE=other_image)
    assert "without `--repin` the run stops here" in dry.stderr
    ended = elsewhere.run(*snapshot, EVALSET_IMAGE=other_image)
    assert ended.returncode == 2
    assert f"{other_image} (id" in ended.stderr
    assert "`--no-resume --snapshot-branch NEW` starts over\n" in ended.stderr
    assert len(elsewhere.records()) == 2
    assert elsewhere.run(*snapshot).returncode == 1
    assert (elsewhere.finished(), len(elsewhere.records())) == (["succeed.a"], 3)
    fresh = ("--no-resume", "--snapshot-branch", "progress/new")
    assert elsewhere.run(*snapshot, *fresh, EVALSET_IMAGE=other_image).returncode == 1
    assert len(elsewhere.records()) == 2
    assert not elsewhere.leftovers()


def test_seeds_that_were_given_are_on_record(place: Place, other_image: str) -> None:
    """And that of hashes which an image sets; nobody knows what such an image does with others."""
    build(other_image, f"FROM {place.image}\nENV PYTHONHASHSEED=5\n")
    place.registry("succeed.a")
    assert place.run(EVALS_SEED="7").returncode == 0
    assert pinned(place).seeds == {"EVALS_SEED": "7"}
    assert place.run("--no-resume", EVALSET_IMAGE=other_image).returncode == 0
    assert pinned(place).seeds == {"PYTHONHASHSEED": "5"}
    own = ("--no-resume", "--env", "PYTHONHASHSEED")
    assert place.run(*own, EVALSET_IMAGE=other_image, PYTHONHASHSEED="6").returncode == 0
    assert pinned(place).seeds == {"PYTHONHASHSEED": "6"}


# A model that tells the seed of hashes, and one of the first global random numbers.
SEES_SEEDS = """
import os, random

SEEN = f"{os.environ['PYTHONHASHSEED']} {random.random()}"


class Seen:
    def __init__(self, **_):
        pass

    def __call__(self, **_):
        return self

    def get_completions(self):
        return [SEEN]
"""


@pytest.mark.parametrize(
    ("arguments", "variables", "seed"),
    [
        ((), {}, "20220722"),
        (("--seed", "3"), {}, "3"),
        (("--seed", "3"), {"EVALS_SEED": "7"}, "7"),
    ],
)
def test_seeds_of_our_image_are_those_in_effect(
    place: Place, arguments: tuple[str, ...], variables: dict[str, str], seed: str
) -> None:
    """As the model, which is a class, sees them in the container."""
    code = place.folder / "code"
    code.mkdir()
    (code / "seen.py").write_text(SEES_SEEDS)
    select = ("--select", "test-match.s1.simple-v0", "--code", str(code))
    line = [sys.executable, *place.program, "run", "seen:Seen", "test-basic", *select, *arguments]
    ours = {"EVALSET_IMAGE": DEFAULT_IMAGE, "EVALSET_RUN_COMMAND": "oaieval"}
    where = {"EVALSET_MEMORY": "1g", "EVALSET_PROGRESS_DIR": str(place.progress)}
    environ = place.environ(**ours, **where, **variables)
    subprocess.run(line, check=True, cwd=place.folder, env=environ, capture_output=True)
    layout = msgspec.structs.replace(place.layout, model="seen:Seen", eval_set="test-basic")
    (log,) = (place.progress / "evallogs").glob("*_test-match.s1.simple-v0.jsonl")
    events = [json.loads(each) for each in log.read_text().splitlines()]
    (seen,) = {each["data"]["sampled"] for each in events if each.get("type") == "match"}
    hashes, drawn = seen.split()
    file = read_run_file(layout.run)
    assert file
    assert file.seeds
    assert file.seeds.pop("random") == seed
    numbers = random.Random(int(seed))  # noqa: S311 - hides nothing
    # evals makes the id of its run from the first of them.
    assert float(drawn) in [numbers.random() for _ in range(20)]
    assert file.seeds == {"PYTHONHASHSEED": hashes} | variables
