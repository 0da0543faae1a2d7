"""The program: it reads a question and prints what evals' own loader would refuse, both as JSON.

runner/image/look_inside.py writes the question; runner/plan/obstacles.py has the answer's form.
The loader is asked, so that an entry counts as wrong only where an eval would fail of it.
"""

from __future__ import annotations

import base64
import importlib
import importlib.util
import json
import os
import re
import sys
import time
import zlib
from pathlib import Path

from .arguments import DATA, LOCAL, elsewhere, pairs, parsed, path_problem, texts
from .classes import Children, told

TYPE_CHECKING = False  # typing's own would cost some milliseconds
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import Any

    from .classes import Finding, Owners

PROVIDER = re.compile(r"evals\.solvers\.providers\.(\w+)")

ADDRESS = re.compile(r"(\w+)://")

# The image's `oaieval` asks for a key when it is imported. Somebody else says that it is missing.
KEY = "OPENAI_API_KEY"


class Entries:
    """Evals and models of a registry, as evals' own code reads them.

    Args:
        registry: evals' own.
        question: as the program got it.

    Attributes:
        refused: what every eval fails of.
        found: what one eval or model fails of, by its name; a model's begins with a slash.
    """

    def __init__(self, registry: Any, question: dict[str, Any]) -> None:  # noqa: ANN401 - evals' own
        self._registry = registry
        self._question = question
        self.refused: list[Finding] = []
        self.found: dict[str, list[Finding]] = {}
        self._files: dict[tuple[str, str], str] = {}
        self._classes: Owners = {}

    def look(self, args: argparse.Namespace, children: Children) -> None:
        """Look at all entries that the question names, with these arguments of `oaieval`."""
        if args.registry_path:
            self._registry.add_registry_paths(args.registry_path)
        self._remember_files()
        if not self._loads("evals"):
            return
        for key in self._question["evals"]:
            self._look_at_eval(key, pairs(args.extra_eval_params))
        self._look_at_models(pairs(args.completion_args))
        for reference, result in children.results(self._classes):
            problem, refusals = result["problem"], result["refusals"]
            for owner, _ in self._classes[reference]:
                if problem:
                    self._note(owner, {**problem, "cls": reference})
                elif owner in refusals:
                    said = refusals[owner]
                    self._note(owner, {"kind": "takes", "cls": reference, "said": said})

    def _note(self, owner: str, finding: Finding, entry: str = "") -> None:
        """Add what was found about an eval, or about a model, whose name begins with a slash.

        It is about the entry of that name, or about another one that this entry uses.
        """
        kind = "completion_fns" if owner.startswith("/") else "evals"
        entry = entry or owner.lstrip("/")
        about = {"entry": entry, "file": self._files.get((kind, entry), "")}
        found = self.found.setdefault(owner, [])
        # nobody reads more about one entry, but doubts must leave room for what is sure
        if len(found) < (10 if finding.get("sure", True) else 5):
            found.append({**about, **finding})

    def _note_elsewhere(self, owner: str, args: Any, entry: str = "") -> None:  # noqa: ANN401 - YAML's
        for name, value in texts(args):
            if finding := elsewhere(name, value):
                self._note(owner, finding, entry)

    def _remember_files(self) -> None:
        """Make the loader tell which file and entry it is reading."""
        load = self._registry._load_file  # noqa: SLF001 - there is no other way in
        self._at = ("", "", None)

        def load_file(path: Any) -> Iterator[tuple[str, Any, Any]]:  # noqa: ANN401 - evals' own
            self._at = (str(path), "", None)
            kind = Path(path).parent.name
            kind = "completion_fns" if kind == "solvers" else kind
            for name, where, spec in load(path):
                self._at = (str(path), str(name), spec)
                self._files[kind, str(name)] = str(path)
                yield name, where, spec

        self._registry._load_file = load_file  # noqa: SLF001 - as above

    def _loads(self, kind: str, owner: str = "") -> bool:
        """Whether the registry takes its entries of a kind; if not, the reason is noted."""
        self._at = ("", "", None)
        try:
            getattr(self._registry, f"_{kind}")
        except Exception as error:  # noqa: BLE001 - whatever a loader raises
            path, name, spec = self._at
            about = {"kind": "entry", "file": path, "entry": name, **told(error)}
            about["shape"] = type(spec).__name__
            about["alias"] = spec[:200] if isinstance(spec, str) else ""
            if owner:
                self._note(owner, about)
            else:
                self.refused.append(about)
            return False
        return True

    def _look_at_eval(self, key: str, extra: dict[str, Any]) -> None:
        try:
            spec = self._registry.get_eval(key)
        except Exception as error:  # noqa: BLE001 - as above
            self._note(key, {"kind": "spec", **told(error)})
            return
        if spec is None:
            self._note(key, {"kind": "unknown"})
            return
        if "." not in key:
            self._note(key, {"kind": "name"})
        args = {**(spec.args or {}), **extra}
        self._look_at_data(key, spec, args)
        nested = {name: it for name, it in args.items() if not isinstance(it, str)}
        self._note_elsewhere(key, nested)
        if str(spec.cls).startswith("evals.elsuite.modelgraded."):
            self._look_at_graders(key, args.get("modelgraded_spec"))
        if key in self._question["tested"] and not extra:
            return
        given = {
            "completion_fns": [],
            "seed": 0,
            "name": key,
            "eval_registry_path": spec.registry_path,
            "registry": self._registry,
        }
        self._want(spec.cls, key, {**args, **given})
        for reference, _ in _nested(args):
            self._want(reference, key, None)

    def _want(self, reference: Any, owner: str, given: dict[str, Any] | None) -> None:  # noqa: ANN401 - YAML's
        self._classes.setdefault(str(reference), []).append((owner, given))

    def _look_at_graders(self, key: str, name: Any) -> None:  # noqa: ANN401 - as above
        if not self._loads("modelgraded_specs", key) or not isinstance(name, str):
            return
        if name not in self._registry._modelgraded_specs:  # noqa: SLF001 - there is no other way in
            self._note(key, {"kind": "grader", "said": name})

    def _look_at_data(self, key: str, spec: Any, args: dict[str, Any]) -> None:  # noqa: ANN401 - evals' own
        ours = str(spec.cls).startswith("evals.")
        bases = [Path(spec.registry_path), *self._registry._registry_paths]  # noqa: SLF001 - as above
        for name, value in args.items():
            if not isinstance(value, str) or not value:
                continue
            about = {"argument": name, "said": value[:500]}
            if LOCAL.search(value):
                # where every eval gets the argument, `arguments.py` says it, once
                if (spec.args or {}).get(name) == value:
                    self._note(key, {"kind": "localhost", "sure": False, **about})
            elif address := ADDRESS.match(value):
                if address[1] == "hf" or DATA.search(name):
                    self._note(key, {"kind": "loads", **about})
            elif finding := path_problem(name, value, bases, ours=ours):
                self._note(key, {**about, **finding})

    def _look_at_models(self, extra: dict[str, Any]) -> None:
        is_known = getattr(sys.modules["evals.registry"], "is_chat_model", lambda _: False)
        ahead = [
            each for each in self._question["models"] if each != "dummy" and not is_known(each)
        ]
        if not all(
            self._loads(kind, f"/{name}")
            for name in ahead
            for kind in ("completion_fns", "solvers")
        ):
            return
        entries = {**self._registry._completion_fns, **self._registry._solvers}  # noqa: SLF001 - as above
        seen: set[str] = set()
        for first in ahead:
            owner, names = f"/{first}", [first]
            while names:
                name = names.pop()
                if name in seen or name not in entries:
                    continue
                seen.add(name)
                names += self._look_at_model(owner, name, extra)

    def _look_at_model(
        self,
        owner: str,
        name: str,
        extra: dict[str, Any],
    ) -> list[str]:
        """Note what is wrong with a completion function; give what may be names of others."""
        try:
            spec = self._registry.get_completion_fn(name)
        except Exception as error:  # noqa: BLE001 - as above
            self._note(owner, {"kind": "spec", **told(error)})
            return []
        given = {key: it for key, it in (spec.args or {}).items() if key not in extra}
        self._note_elsewhere(owner, given, name)
        args = {**given, **extra, "registry": self._registry}
        self._want(spec.cls, owner, args)
        nested = list(_nested(spec.args))
        for reference in (spec.cls, *(each for each, _ in nested)):
            if provider := PROVIDER.match(str(reference)):
                self._note(owner, {"kind": "provider", "said": provider[1]})
        for reference, _ in nested:
            self._want(reference, owner, None)
        values = [value for _, args in [("", args), *nested] for value in args.values()]
        return [value for value in values if isinstance(value, str)]


def _nested(value: Any, depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ANN401 - YAML's
    """The classes that arguments name, with their arguments, as solvers name others."""
    if depth > 10:  # noqa: PLR2004 - an anchor around itself
        return
    if isinstance(value, dict):
        reference = value.get("class")
        if isinstance(reference, str) and ":" in reference:
            args = value.get("args")
            yield reference, args if isinstance(args, dict) else {}
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _nested(each, depth + 1)


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
