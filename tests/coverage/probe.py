"""Runs inside an image: imports the class of each eval in a process of its own."""

import contextlib
import importlib
import json
import os
import sys
import traceback
from pathlib import Path

import evals.cli.oaieval  # type: ignore[import-not-found] # all evals import it: once is enough
import yaml


def by_class() -> dict[str, list[str]]:
    """The evals of the registry by their class, in registry order."""
    found: dict[str, list[str]] = {}
    for path in sorted(Path(evals.__path__[0], "registry/evals").glob("*.yaml")):
        for name, spec in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).items():
            if "class" in spec:
                found.setdefault(spec["class"], []).append(name)
    return found


def imported(module: str) -> dict[str, object]:
    """What comes of importing a module here."""
    error = ""
    try:
        # what it downloads or says is not ours to pass on
        with contextlib.redirect_stdout(sys.stderr):
            importlib.import_module(module)
    except Exception as raised:  # noqa: BLE001 - whatever it is, it is told
        text = " ".join(traceback.format_exception_only(raised))
        error = " ".join(text.replace("*", " ").split())
    return {"error": error, "starts_containers": "docker" in sys.modules}


def in_a_process(module: str) -> dict[str, object]:
    """The same in a process of its own, so that no module finds what another has imported."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, json.dumps(imported(module)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    found: dict[str, object] = json.loads(said)
    return found


json.dump(
    {
        name: {"evals": names, **in_a_process(name.partition(":")[0])}
        for name, names in by_class().items()
    },
    sys.stdout,
)
