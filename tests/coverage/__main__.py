"""`make coverage` measures what each eval needs; `make docs` only writes the page anew."""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from runner.registry import needs as reader
from runner.registry.needs import read_needs
from tests.coverage.measure import (
    askers,
    attempts_of,
    classes,
    outcomes,
    outcomes_in,
    run,
    with_outcomes,
)
from tests.coverage.page import PAGE, page

NEEDS = Path(reader.__file__).with_name("needs.json")


def measure(folder: Path, evals: Sequence[str]) -> None:
    """Import every class, run evals, and keep what came of it.

    Args:
        folder: where the run's files go.
        evals: names or patterns; the others keep the outcome that they had. Without any, all run.
    """
    before = read_needs()
    known = outcomes_in(before) if evals else {}
    needs = classes()
    if evals:  # the others were measured in images of before
        needs = msgspec.structs.replace(needs, recipes=before.recipes)
    _keep(needs)  # by which the runner chooses images
    layout = run(evals or ["*"], folder)
    found = outcomes(attempts_of(layout), layout, askers(layout))
    _keep(with_outcomes(needs, known | found))


def _keep(needs: object) -> None:
    NEEDS.write_text(json.dumps(msgspec.to_builtins(needs), indent=1) + "\n")


def main() -> None:
    """Measure, unless only the page is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.coverage", description=__doc__)
    parser.add_argument("evals", nargs="*", help="run these alone; the others stay as measured")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--folder", type=Path, help="where the run's files stay")
    given = parser.parse_args()
    if not given.page:
        with tempfile.TemporaryDirectory() as temporary:
            measure(given.folder or Path(temporary), given.evals)
    PAGE.write_text(page(read_needs()))


if __name__ == "__main__":
    main()
