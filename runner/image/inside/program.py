"""Where the program starts: it reads a question and prints the answer, both as JSON.

runner/image/look.py writes the question, and runner/plan/findings.py has the form of the answer.
"""

from __future__ import annotations

import base64
import importlib
import importlib.util
import json
import os
import sys
import time
import zlib

from .arguments import parsed
from .classes import Children
from .entries import Entries
from .errors import told

TYPE_CHECKING = False  # typing's own would cost some milliseconds
if TYPE_CHECKING:
    from typing import Any

# The image's `oaieval` asks for a key when it is imported. Somebody else says that it is missing.
KEY = "OPENAI_API_KEY"


def main() -> None:
    """Read the question, answer it, and end; nothing else is printed on stdout."""
    out = os.dup(1)
    os.dup2(2, 1)
    if sys.path[:1] == [""]:
        del sys.path[0]  # the current folder, where `oaieval` itself does not look for modules
    question = json.loads(zlib.decompress(base64.b64decode("".join(sys.argv[1:]))))
    os.environ.setdefault(KEY, "none")
    os.write(out, json.dumps(answer(question, out)).encode() + b"\n")
    os._exit(0)  # no thread or exit handler of a library may change the answer


def answer(question: dict[str, Any], out: int) -> dict[str, Any]:
    """What a run would fail of in this image.

    Args:
        question: `arguments` of `oaieval` behind its eval, `models`, `evals`, those of them whose
            classes are `tested`, `seconds` that one class may take, and `seconds_in_all`.
        out: a descriptor that no child process may have.
    """
    children = Children(out, time.monotonic() + question["seconds_in_all"], question["seconds"])
    if importlib.util.find_spec("evals") is None:
        return {"looked": False}
    try:
        oaieval = importlib.import_module("evals.cli.oaieval")
        registry = importlib.import_module("evals.registry").Registry()
    except BaseException as error:  # noqa: BLE001 - a user's module may shadow any of evals'
        return {"looked": True, "refused": [{"kind": "start", **told(error)}]}
    args, refused = parsed(oaieval, question)
    entries = Entries(registry, question)
    if args is not None:
        entries.look(args, children)
    return {"looked": True, "refused": [*refused, *entries.refused], "evals": entries.found}
