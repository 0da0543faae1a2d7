"""The arguments that are passed through: what the image's own parser refuses, and what they name.

They are those of every eval, so that nothing can run if one of them is refused.
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

from .values import KEPT, elsewhere

TYPE_CHECKING = False  # typing's own would cost some milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .errors import Finding


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
