"""What the tests of pins ask of a place."""

from pathlib import Path

import yaml

from runner.plan.pins import RunFile
from runner.records.run_file import read_run_file
from tests.conftest import Place, engine_api
from tests.images import build_image

Evals = dict[str, dict[str, object]]


def pinned(place: Place) -> RunFile:
    found = read_run_file(place.layout.run)
    assert found is not None
    return found


def write_evals(place: Place, **evals: str) -> None:
    """Write a registry with these evals, `fail_1` for `fail.1`, each with its data."""
    names = {name.replace("_", "."): data for name, data in evals.items()}
    folder = place.registry(*names)
    specs: Evals = {
        name: {"class": "a:B", "args": {"samples_jsonl": f"{name}.jsonl"}} for name in names
    }
    (folder / "evals/all.yaml").write_text(yaml.safe_dump(specs))
    (folder / "data").mkdir(exist_ok=True)
    for name, data in names.items():
        (folder / f"data/{name}.jsonl").write_text(data)


def recorded(place: Place) -> dict[Path, bytes]:
    """All files of the runs so far; a killed one's lock is no record."""
    paths = [*place.layout.kept, *place.layout.evallogs.glob("*")]
    return {path: path.read_bytes() for path in paths if path.exists()}


def refused(place: Place, *options: str, **variables: str) -> str:
    """Run, and give the one line of a run that refused and wrote nothing."""
    before = recorded(place)
    ended = place.run(*options, **variables)
    assert (ended.returncode, ended.stdout) == (2, ""), ended
    assert recorded(place) == before
    assert ended.stderr.count("\n") == 1
    return ended.stderr


def build(name: str, text: str, **labels: str) -> str:
    """Build an image, each time anew; gives its id."""
    return build_image(engine_api(), name, text, labels=labels, anew=True)
