from pathlib import Path

import pytest

from runner.data.cache import Data, DataCache, fetched_for, key_of_eval, keys_of
from runner.data.lock import lock_of
from runner.errors import EnvironmentFault
from runner.registry.content import parse_entries
from runner.registry.entries import RegistryFile

EVAL = "words.dev.v0"


def own(text: str) -> dict[str, tuple[RegistryFile, ...]]:
    """A registry folder with one file below `evals/`."""
    return {"/registry/0": (RegistryFile(path="a.yaml", kind="evals", text=text),)}


def put(cache: DataCache, key: str, text: str, *, name: str = EVAL) -> Data:
    """Fetch a file for an eval."""
    passing = cache.unfinished(name, key) / "data"
    passing.mkdir(parents=True)
    (passing / "file").write_text(text)
    return cache.put(lock_of(passing, name, key), passing)


@pytest.fixture
def cache(tmp_path: Path) -> DataCache:
    """An empty one."""
    return DataCache(tmp_path)


def test_what_was_put_is_found_again_and_replaced(cache: DataCache) -> None:
    """Under its eval and key, and under no other."""
    first = put(cache, "k", "one")
    second = put(cache, "k", "two")

    found = cache.get(EVAL, "k")
    assert found == second != first
    assert (second.content / "file").read_text() == "two"
    assert cache.get(EVAL, "other") is None
    assert cache.get("other", "k") is None


@pytest.mark.parametrize("damage", ["size", "gone", "lock", "link"])
def test_damage_that_a_look_shows_ends_a_run(cache: DataCache, damage: str) -> None:
    """A run reads no bytes of the data before it begins, but sees names and sizes."""
    file = put(cache, "k", "one").content / "file"
    match damage:
        case "size":
            file.write_text("longer")
        case "gone":
            file.unlink()
        case "lock":
            (file.parent.parent / "lock.json").write_text("{")
        case "link":
            file.unlink()
            file.symlink_to("/etc/passwd")

    with pytest.raises(EnvironmentFault, match=rf"the fetched data of {EVAL} are damaged"):
        cache.get(EVAL, "k")
    assert cache.intact(EVAL, "k") is None


def test_other_bytes_of_the_same_size_are_found_when_all_are_read(cache: DataCache) -> None:
    """As a fetch does."""
    data = put(cache, "k", "one")
    assert cache.intact(EVAL, "k") == data
    (data.content / "file").write_text("two")

    assert cache.get(EVAL, "k") == data
    assert cache.intact(EVAL, "k") is None


def test_runs_get_what_has_files(cache: DataCache, tmp_path: Path) -> None:
    """An eval that needs none is known to, and is given none."""
    keys = keys_of([EVAL, "none"], {})
    data = put(cache, keys[EVAL], "one")
    cache.put(lock_of(tmp_path / "nowhere", "none", keys["none"]), tmp_path / "nowhere")

    assert cache.intact("none", keys["none"]) is not None
    assert fetched_for(cache, [EVAL, "none", "unknown"], {}, ()) == {EVAL: data}


def test_the_key_is_that_of_what_decides_what_is_loaded() -> None:
    """Another entry, or another argument for it; not what else a run is given."""
    first, other = (
        parse_entries(own(f"{EVAL}: {{class: a:B, args: {{name: {name}}}}}")["/registry/0"])
        for name in ("x", "y")
    )
    keys = [
        key_of_eval(EVAL, {}),
        key_of_eval(EVAL, {"/registry/0": first}),
        key_of_eval(EVAL, {"/registry/0": other}),
        key_of_eval(EVAL, {}, ["--extra_eval_params", "name=x"]),
        key_of_eval(EVAL, {}, ["--extra_eval_params=name=y"]),
    ]

    assert len(set(keys)) == len(keys)
    assert key_of_eval(EVAL, {}, ["--max_samples", "3"]) == keys[0]
    assert key_of_eval(EVAL, {}, ["--extra_eval_params=name=x"]) == keys[3]
