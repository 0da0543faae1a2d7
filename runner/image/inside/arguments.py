"""Arguments, those of entries and those that are passed through: what is wrong with their texts.

They may name what a container cannot see or does not keep: data files, paths of the host, its
loopback address, and places that are thrown away. What is passed through is for every eval, so that
nothing can run if evals' own parser refuses it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path

TYPE_CHECKING = False  # typing's own would cost some milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .classes import Finding

# Arguments of evals that name data, by how their names end.
DATA = re.compile(r"(_jsonl|_path|logpath|_file|_dir|_directory)$")
SAMPLES = re.compile(r"_jsonl$")

# This host, with a scheme or without; at 8470 of it the gateway is reached.
LOCAL = re.compile(
    r"(^|//|@)(localhost|127\.\d+\.\d+\.\d+|\[::1\]|0\.0\.0\.0)(?!:8470(/|$))(:\d|/|$)"
)

# Where people keep files on a host; other texts that begin like a path may be anything.
HOST = re.compile(r"(~|/(home|Users|root|mnt|media|srv|scratch))/\S+$")

# Arguments that name what an eval writes, and where that is kept.
WRITTEN = re.compile(r"^(output|results?|logs?)(_|$|path|dir|file)|_(output|results?|logs?)_")
KEPT = "/tmp/evallogs"  # noqa: S108 - inside the container

# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
POINTER = b"version https://git-lfs.github.com/spec/"


def texts(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - YAML's
    """All texts in arguments, with the nearest name above each."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, (dict, list)) and depth <= 10:  # noqa: PLR2004 - an anchor around itself
        pairs = value.items() if isinstance(value, dict) else ((name, each) for each in value)
        for key, each in pairs:
            yield from texts(each, str(key), depth + 1)


def elsewhere(name: str, value: str) -> Finding | None:
    """What is wrong with a text that may name something of the host."""
    about = {"sure": False, "argument": name, "said": " ".join(value.split())[:500]}
    if LOCAL.search(value):
        return {"kind": "localhost", **about}
    if HOST.match(value) and not os.path.exists(value):  # noqa: PTH110 - raises nothing
        return {"kind": "outside", **about}
    return None


def path_problem(name: str, value: str, bases: list[Path], *, ours: bool) -> Finding | None:
    """What is wrong with an argument of an eval that may be a path."""
    if not WRITTEN.search(name):
        sure = ours and DATA.search(name) is not None
        return _data_problem(value, bases, sure=sure, samples=bool(SAMPLES.search(name)))
    place = os.path.normpath(Path.cwd() / value)
    places = [place, *(str(base / "data" / value) for base in bases)]
    is_path = DATA.search(name) is not None or "/" in value
    is_read = any(os.path.isfile(each) for each in places)  # noqa: PTH113 - raises nothing
    if not is_path or is_read or f"{place}/".startswith(f"{KEPT}/"):
        return None
    return {"kind": "written", "sure": False}


def _data_problem(value: str, bases: list[Path], *, sure: bool, samples: bool) -> Finding | None:
    """What is wrong with what may be a path of data, as upstream looks for it."""
    try:
        places = [Path(value), *(base / "data" / value for base in bases)]
        found = next((place for place in places if place.exists()), None)
        if found is not None and found.is_file():
            with found.open("rb") as file:
                if file.read(len(POINTER)) == POINTER:
                    return {"kind": "pointer", "path": str(found)}
    except PermissionError:
        return {"kind": "unreadable", "sure": sure}
    except (OSError, ValueError):  # no such path can be
        return None
    if found is not None:
        return None
    if value.startswith(("/", "~/")):
        return {"kind": "absolute", "sure": sure or samples} if value.count("/") > 1 else None
    return {"kind": "data", "sure": sure} if sure or samples else None


def parsed(oaieval: Any, question: dict[str, Any]) -> tuple[Any, list[Finding]]:  # noqa: ANN401 - evals' own
    """What evals' parser makes of them, or None if all evals would fail, and what is wrong."""
    said = io.StringIO()
    line = [",".join(question["models"]), "eval", *question["arguments"]]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            args = oaieval.get_parser().parse_args(line)
    except SystemExit:
        text = " ".join(said.getvalue().split()).partition(" error: ")[2]
        return None, [{"kind": "arguments", "said": text or "it prints its help"}]
    refused = list(_refused(args))
    return None if any(each.get("sure", True) for each in refused) else args, refused


def pairs(text: str | None) -> dict[str, str]:
    """The values in `NAME=VALUE,...`, by name."""
    return dict(pair.split("=") for pair in (text or "").split(",") if pair)


def _refused(args: Any) -> Iterator[Finding]:  # noqa: ANN401 - evals' own
    for option in "extra_eval_params", "completion_args":
        about = {"entry": f"--{option}"}
        for pair in filter(None, (getattr(args, option, "") or "").split(",")):
            name, _, value = pair.partition("=")
            if pair.count("=") != 1:
                yield {"kind": "pairs", **about, "said": pair}
            elif (finding := elsewhere(name, value)) and (
                # paths among the arguments of evals are looked at with each eval's own
                option == "completion_args" or finding["kind"] == "localhost"
            ):
                yield {**about, **finding}
    if getattr(args, "http_run", False) and not args.http_run_url:
        yield {"kind": "http"}
    if log := getattr(args, "log_to_file", None):
        place = os.path.normpath(Path.cwd() / log)
        usable = place.startswith("/tmp/") and Path(place).parent.is_dir()  # noqa: S108 - inside the container
        if not place.startswith(f"{KEPT}/"):
            yield {"kind": "log", "said": log, "sure": not usable}
