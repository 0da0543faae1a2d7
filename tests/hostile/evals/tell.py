"""How an eval tells the test what it saw: in a log as oaieval's, as the final report."""

import json
import os
import pathlib
import sys
import time

TMP = pathlib.Path("/tmp")
FACTS: dict[str, object] = {}


def note(**facts: object) -> None:
    """Hand facts to the test."""
    FACTS.update(facts)


def log(ending: str = "") -> pathlib.Path:
    """Where the log goes, with a name of the form that upstream gives it."""
    model, name = sys.argv[1:3]
    path = TMP / f"evallogs/{time.time_ns()}{os.urandom(2).hex()}_{model}_{name}{ending}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def report(facts: object) -> None:
    """Write a log as oaieval does."""
    with log().open("w") as file:
        file.write(json.dumps({"sample_id": "a.0", "type": "match"}) + "\n")
        file.write(json.dumps({"final_report": facts}) + "\n")


def victim(*_rest: str) -> None:
    """Behave well."""
    note(accuracy=0.25)


def innocent(*_rest: str) -> None:
    """Fail."""
    print("I failed")
    sys.exit(1)
