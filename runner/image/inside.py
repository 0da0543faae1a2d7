"""Runs in an eval image, on the Python of its `oaieval`, and tells what that would refuse.

It gets a question as JSON, packed, in its arguments, and prints an answer as one line of JSON;
`runner.plan.obstacles` has the form of both. The image's own parser and registry loader are asked;
each class is imported in a forked child, because what it does when it is imported is unknown.
Users' images have older Pythons than ours, so it keeps to what 3.9 has.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import importlib
import importlib.util
import inspect
import io
import json
import os
import re
import select
import signal
import sys
import time
import traceback
import zlib
from functools import partial
from pathlib import Path

TYPE_CHECKING = False  # typing's own would cost some milliseconds
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    Finding = dict[str, Any]
    # By class, who wants it and the arguments that it gets; None where nobody knows them.
    Owners = dict[str, list[tuple[str, dict[str, Any] | None]]]

# The image's `oaieval` asks for a key at import; that one is missing is said elsewhere.
KEY = "OPENAI_API_KEY"

# Arguments of evals that name data, by how their names end.
DATA = re.compile(r"(_jsonl|_path|logpath|_file|_dir|_directory)$")
SAMPLES = re.compile(r"_jsonl$")

PROVIDER = re.compile(r"evals\.solvers\.providers\.(\w+)")

ADDRESS = re.compile(r"(\w+)://")

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

# Events of an import that reaches for a network.
REACHES = frozenset(
    {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyname_ex"}
)

# What an import raises that reaches for a network which is not there.
NO_NETWORK = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ECONNREFUSED, errno.ETIMEDOUT}
)
UNREACHED = frozenset(
    {
        "APIConnectionError",
        "ClientConnectorError",
        "ConnectError",
        "ConnectTimeout",
        "ConnectionError",
        "LocalEntryNotFoundError",
        "MaxRetryError",
        "NewConnectionError",
        "OfflineModeIsEnabled",
        "gaierror",
    }
)


def main() -> None:
    """Read the question, answer it, and end without a word of anybody else on stdout."""
    out = os.dup(1)
    os.dup2(2, 1)
    if sys.path[:1] == [""]:
        del sys.path[0]  # the current folder, which the program itself does not look into
    question = json.loads(zlib.decompress(base64.b64decode("".join(sys.argv[1:]))))
    os.environ.setdefault(KEY, "none")
    answer = Look(question, out).answer()
    os.write(out, json.dumps(answer).encode() + b"\n")
    os._exit(0)  # no thread or exit handler of a library may change what was said


class Look:
    """One look at what a run would do in this image.

    Args:
        question: `arguments` of `oaieval` behind its eval, `models`, `evals`, those of them whose
            classes are `tested`, and the seconds that one class may take, and all of them.
        out: where the answer goes, which no child may reach.
    """

    def __init__(self, question: dict[str, Any], out: int) -> None:
        self._question = question
        self._out = out
        self._until = time.monotonic() + question["seconds_in_all"]
        self._refused: list[Finding] = []
        self._found: dict[str, list[Finding]] = {}
        self._files: dict[tuple[str, str], str] = {}
        self._classes: Owners = {}

    def answer(self) -> dict[str, Any]:
        """Everything that can be told."""
        if importlib.util.find_spec("evals") is None:
            return {"looked": False}
        try:
            oaieval = importlib.import_module("evals.cli.oaieval")
            registry = importlib.import_module("evals.registry").Registry()
        except BaseException as error:  # noqa: BLE001 - a user's module may shadow any of evals'
            return {"looked": True, "refused": [{"kind": "start", **_told(error)}]}
        args = self._parsed(oaieval)
        if args is not None:
            self._look(registry, args)
        return {"looked": True, "refused": self._refused, "evals": self._found}

    def _parsed(self, oaieval: Any) -> Any:  # noqa: ANN401 - evals' own
        said = io.StringIO()
        line = [",".join(self._question["models"]), "eval", *self._question["arguments"]]
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                args = oaieval.get_parser().parse_args(line)
        except SystemExit:
            text = " ".join(said.getvalue().split()).partition(" error: ")[2]
            self._refused.append({"kind": "arguments", "said": text or "it prints its help"})
            return None
        for option in "extra_eval_params", "completion_args":
            about = {"entry": f"--{option}"}
            for pair in filter(None, (getattr(args, option, "") or "").split(",")):
                name, _, value = pair.partition("=")
                if pair.count("=") != 1:
                    self._refused.append({"kind": "pairs", **about, "said": pair})
                elif (finding := _elsewhere(name, value)) and (
                    # paths among the arguments of evals are looked at with theirs
                    option == "completion_args" or finding["kind"] == "localhost"
                ):
                    self._refused.append({**about, **finding})
        if getattr(args, "http_run", False) and not args.http_run_url:
            self._refused.append({"kind": "http"})
        if log := getattr(args, "log_to_file", None):
            place = os.path.normpath(Path.cwd() / log)
            kept = place.startswith("/tmp/evallogs/")  # noqa: S108 - inside the container
            usable = place.startswith("/tmp/") and Path(place).parent.is_dir()  # noqa: S108 - as above
            if not kept:
                self._refused.append({"kind": "log", "said": log, "sure": not usable})
        return None if any(each.get("sure", True) for each in self._refused) else args

    def _look(self, registry: Any, args: argparse.Namespace) -> None:  # noqa: ANN401 - evals' own
        if args.registry_path:
            registry.add_registry_paths(args.registry_path)
        self._remember_files(registry)
        if not self._loads(registry, "evals"):
            return
        for key in self._question["evals"]:
            self._look_at_eval(registry, key, _pairs(args.extra_eval_params))
        self._look_at_models(registry, _pairs(args.completion_args))
        children = Children(self._out, self._until, self._question["seconds"])
        for reference, problem, refusals in children.results(self._classes):
            for owner, _ in self._classes[reference]:
                if problem:
                    self._note(owner, {**problem, "cls": reference})
                elif owner in refusals:
                    said = refusals[owner]
                    self._note(owner, {"kind": "takes", "cls": reference, "said": said})

    def _note(self, owner: str, finding: Finding, entry: str = "") -> None:
        """Add what was found of an eval; of a model its name begins with a slash.

        It is about the entry of that name, or another one that this asks for.
        """
        kind = "completion_fns" if owner.startswith("/") else "evals"
        entry = entry or owner.lstrip("/")
        about = {"entry": entry, "file": self._files.get((kind, entry), "")}
        found = self._found.setdefault(owner, [])
        # nobody reads more of one, but a doubt must not keep what is sure out
        if len(found) < (10 if finding.get("sure", True) else 5):
            found.append({**about, **finding})

    def _note_elsewhere(self, owner: str, args: Any, entry: str = "") -> None:  # noqa: ANN401 - YAML's
        for name, value in _texts(args):
            if finding := _elsewhere(name, value):
                self._note(owner, finding, entry)

    def _remember_files(self, registry: Any) -> None:  # noqa: ANN401 - evals' own
        """Let the loader tell which file and entry it is at."""
        load = registry._load_file  # noqa: SLF001 - there is no other way in
        self._at = ("", "", None)

        def load_file(path: Any) -> Iterator[tuple[str, Any, Any]]:  # noqa: ANN401 - evals' own
            self._at = (str(path), "", None)
            kind = Path(path).parent.name
            kind = "completion_fns" if kind == "solvers" else kind
            for name, where, spec in load(path):
                self._at = (str(path), str(name), spec)
                self._files[kind, str(name)] = str(path)
                yield name, where, spec

        registry._load_file = load_file  # noqa: SLF001 - as above

    def _loads(self, registry: Any, kind: str, owner: str = "") -> bool:  # noqa: ANN401 - evals' own
        """Whether the registry takes its entries of a kind; why not is noted."""
        self._at = ("", "", None)
        try:
            getattr(registry, f"_{kind}")
        except Exception as error:  # noqa: BLE001 - whatever a loader raises
            path, name, spec = self._at
            about = {"kind": "entry", "file": path, "entry": name, **_told(error)}
            about["shape"] = type(spec).__name__
            about["alias"] = spec[:200] if isinstance(spec, str) else ""
            if owner:
                self._note(owner, about)
            else:
                self._refused.append(about)
            return False
        return True

    def _look_at_eval(self, registry: Any, key: str, extra: dict[str, Any]) -> None:  # noqa: ANN401 - evals' own
        try:
            spec = registry.get_eval(key)
        except Exception as error:  # noqa: BLE001 - as above
            self._note(key, {"kind": "spec", **_told(error)})
            return
        if spec is None:
            self._note(key, {"kind": "unknown"})
            return
        if "." not in key:
            self._note(key, {"kind": "name"})
        args = {**(spec.args or {}), **extra}
        self._look_at_data(registry, key, spec, args)
        nested = {name: it for name, it in args.items() if not isinstance(it, str)}
        self._note_elsewhere(key, nested)
        if str(spec.cls).startswith("evals.elsuite.modelgraded."):
            self._look_at_graders(registry, key, args.get("modelgraded_spec"))
        if key in self._question["tested"] and not extra:
            return
        given = {
            "completion_fns": [],
            "seed": 0,
            "name": key,
            "eval_registry_path": spec.registry_path,
            "registry": registry,
        }
        self._want(spec.cls, key, {**args, **given})
        for reference, _ in _nested(args):
            self._want(reference, key, None)

    def _want(self, reference: Any, owner: str, given: dict[str, Any] | None) -> None:  # noqa: ANN401 - YAML's
        self._classes.setdefault(str(reference), []).append((owner, given))

    def _look_at_graders(self, registry: Any, key: str, name: Any) -> None:  # noqa: ANN401 - as above
        if not self._loads(registry, "modelgraded_specs", key) or not isinstance(name, str):
            return
        if name not in registry._modelgraded_specs:  # noqa: SLF001 - there is no other way in
            self._note(key, {"kind": "grader", "said": name})

    def _look_at_data(self, registry: Any, key: str, spec: Any, args: dict[str, Any]) -> None:  # noqa: ANN401 - evals' own
        ours = str(spec.cls).startswith("evals.")
        bases = [Path(spec.registry_path), *registry._registry_paths]  # noqa: SLF001 - as above
        for name, value in args.items():
            if not isinstance(value, str) or not value:
                continue
            about = {"argument": name, "said": value[:500]}
            if LOCAL.search(value):
                # of the arguments of all evals it is said once
                if (spec.args or {}).get(name) == value:
                    self._note(key, {"kind": "localhost", "sure": False, **about})
            elif address := ADDRESS.match(value):
                if address[1] == "hf" or DATA.search(name):
                    self._note(key, {"kind": "loads", **about})
            elif finding := _path_problem(name, value, bases, ours=ours):
                self._note(key, {**about, **finding})

    def _look_at_models(self, registry: Any, extra: dict[str, Any]) -> None:  # noqa: ANN401 - as above
        is_known = getattr(sys.modules["evals.registry"], "is_chat_model", lambda _: False)
        ahead = [
            each for each in self._question["models"] if each != "dummy" and not is_known(each)
        ]
        if not all(
            self._loads(registry, kind, f"/{name}")
            for name in ahead
            for kind in ("completion_fns", "solvers")
        ):
            return
        entries = {**registry._completion_fns, **registry._solvers}  # noqa: SLF001 - as above
        seen: set[str] = set()
        for first in ahead:
            owner, names = f"/{first}", [first]
            while names:
                name = names.pop()
                if name in seen or name not in entries:
                    continue
                seen.add(name)
                names += self._look_at_model(registry, owner, name, extra)

    def _look_at_model(
        self,
        registry: Any,  # noqa: ANN401 - as above
        owner: str,
        name: str,
        extra: dict[str, Any],
    ) -> list[str]:
        """Note what is wrong with a completion function; give what may be names of others."""
        try:
            spec = registry.get_completion_fn(name)
        except Exception as error:  # noqa: BLE001 - as above
            self._note(owner, {"kind": "spec", **_told(error)})
            return []
        given = {key: it for key, it in (spec.args or {}).items() if key not in extra}
        self._note_elsewhere(owner, given, name)
        args = {**given, **extra, "registry": registry}
        self._want(spec.cls, owner, args)
        nested = list(_nested(spec.args))
        for reference in (spec.cls, *(each for each, _ in nested)):
            if provider := PROVIDER.match(str(reference)):
                self._note(owner, {"kind": "provider", "said": provider[1]})
        for reference, _ in nested:
            self._want(reference, owner, None)
        values = [value for _, args in [("", args), *nested] for value in args.values()]
        return [value for value in values if isinstance(value, str)]


def _pairs(text: str | None) -> dict[str, str]:
    return dict(pair.split("=") for pair in (text or "").split(",") if pair)


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


def _texts(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - YAML's
    """All texts in arguments, with the nearest name above each."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, (dict, list)) and depth <= 10:  # noqa: PLR2004 - an anchor around itself
        pairs = value.items() if isinstance(value, dict) else ((name, each) for each in value)
        for key, each in pairs:
            yield from _texts(each, str(key), depth + 1)


def _elsewhere(name: str, value: str) -> Finding | None:
    """What is wrong with a text that may name something of the host."""
    about = {"sure": False, "argument": name, "said": " ".join(value.split())[:500]}
    if LOCAL.search(value):
        return {"kind": "localhost", **about}
    if HOST.match(value) and not os.path.exists(value):  # noqa: PTH110 - raises nothing
        return {"kind": "outside", **about}
    return None


def _path_problem(name: str, value: str, bases: list[Path], *, ours: bool) -> Finding | None:
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


def _told(error: BaseException) -> Finding:
    """The last line of a traceback, and where it was raised."""
    lines = traceback.format_exception_only(type(error), error)
    said = " ".join(lines[-1].split()) if lines else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    where = f"{last.filename}:{last.lineno}" if last and last.filename[:1] == "/" else ""
    return {"said": said[:500], "where": where}


def _import_problem(error: BaseException, reference: str) -> Finding:
    told = _told(error)
    if isinstance(error, SystemExit):
        return {"kind": "exits", **told}
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        own = package == re.split("[.:]", reference)[0] != "evals"
        return {"kind": "own_module" if own else "module", "module": error.name, **told}
    cause: BaseException | None = error
    for _ in range(20):
        if cause is None:
            break
        names = {each.__name__ for each in type(cause).__mro__}
        if names & UNREACHED or (isinstance(cause, OSError) and cause.errno in NO_NETWORK):
            return {"kind": "network", **told}
        cause = cause.__cause__ or cause.__context__
    return {"kind": "import", **told}


class Children:
    """Imports classes in forked children, as many in one as go well.

    Args:
        out: a descriptor that no child may have.
        until: when all has to be over, by `time.monotonic`.
        seconds: that one class may take.
    """

    def __init__(self, out: int, until: float, seconds: float) -> None:
        self._out = out
        self._until = until
        self._seconds = seconds

    def results(self, classes: Owners) -> Iterator[tuple[str, Finding | None, dict[str, str]]]:
        """For each class what is wrong with its import, and for each owner with its arguments."""
        ahead = list(classes)
        again: list[str] = []
        while ahead:
            done = 0
            for reference, result in self._batch(ahead, classes):
                done += 1
                # What others did before it may be why; alone it shows.
                if result.pop("suspect", False) and done > 1:
                    again.append(reference)
                else:
                    yield reference, result["problem"], result["refusals"]
            del ahead[:done]
            if not done:
                break  # there is no time left
        for reference in again:
            alone = list(self._batch([reference], classes))
            if not alone:
                ahead.append(reference)
            for _, result in alone:
                yield reference, result["problem"], result["refusals"]
        for reference in ahead:
            yield reference, {"kind": "unseen", "sure": False}, {}

    def _batch(
        self, references: Sequence[str], classes: Owners
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The results of one child, in order; the last may be that it came to nothing."""
        if time.monotonic() >= self._until:
            return
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            self._work(writer, reader, references, classes)
        os.close(writer)
        lines = Lines(reader)
        try:
            for reference in references:
                limit = min(self._until, time.monotonic() + self._seconds)
                line = lines.next(limit)
                reached = line == Reached.LINE
                if reached:
                    line = lines.next(limit)
                if line is None:
                    problem = _ended(child)
                    if reached and problem["kind"] == "hangs":
                        problem = {"kind": "network", "said": "it waits", "sure": False}
                    yield reference, {"problem": problem, "refusals": {}, "suspect": True}
                    return
                yield reference, json.loads(line)
        finally:
            os.close(reader)
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.waitpid(child, 0)

    def _work(
        self,
        writer: int,
        reader: int,
        references: Sequence[str],
        classes: Owners,
    ) -> None:
        """In the child: import one class after the other, and never return."""
        try:
            os.close(reader)
            os.close(self._out)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nowhere, descriptor)
            reached = Reached(writer)
            sys.addaudithook(reached.hook)
            for reference in references:
                reached.told = False
                result = _tried(reference, classes[reference])
                if reached.told and result["problem"]:
                    result["problem"]["kind"] = "network"
                os.write(writer, json.dumps(result).encode() + b"\n")
        finally:
            os._exit(0)


class Reached:
    """Notices where an import reaches for a network, whatever it makes of not finding one.

    Attributes:
        told: whether the present class did, which was told then.
    """

    LINE = b'"network"'

    def __init__(self, writer: int) -> None:
        self._writer = writer
        self.told = False

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        """Take part in Python's audit events."""
        if self.told or event not in REACHES:
            return
        # an address of another kind is a file on this host
        if event == "socket.connect" and not isinstance(args[1], tuple):
            return
        self.told = True
        os.write(self._writer, self.LINE + b"\n")


def _ended(child: int) -> Finding:
    """Why a child says nothing more."""
    for _ in range(20):  # the pipe may close a moment before the process ends
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if os.WIFSIGNALED(status):
                return {"kind": "killed", "said": str(os.WTERMSIG(status)), "sure": False}
            return {"kind": "exits", "said": f"exit status {os.WEXITSTATUS(status)}"}
        time.sleep(0.01)
    return {"kind": "hangs", "sure": False}


def _tried(reference: str, owners: list[tuple[str, dict[str, Any] | None]]) -> dict[str, Any]:
    """Import one class, and see whether it takes what each owner gives it."""
    module, _, name = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in filter(None, name.split(".")):
            found = getattr(found, part)
    except BaseException as error:  # noqa: BLE001 - whatever a module raises
        problem = _import_problem(error, reference)
        return {"problem": problem, "refusals": {}, "suspect": problem["kind"] != "module"}
    bind = _binding(found)
    refusals = {}
    for owner, given in owners:
        try:
            if bind and given is not None:
                bind(**given)
        except TypeError as error:
            refusals[owner] = " ".join(str(error).split())[:500]
    return {"problem": None, "refusals": refusals}


def _binding(made: Any) -> Callable[..., object] | None:  # noqa: ANN401 - whatever a module has
    """What raises a TypeError for arguments that a class or function does not take, if known.

    A class is asked for its `__init__`: upstream's completion functions inherit a signature that
    is not theirs.
    """
    try:
        found: Any = made
        if not inspect.isclass(made):
            return inspect.signature(made).bind
        ways: list[Any] = [type(made).__call__, made.__new__]
        if ways == [type.__call__, object.__new__]:
            return partial(inspect.signature(found.__init__).bind, made)
    except (TypeError, ValueError):
        pass
    return None


class Lines:
    """Whole lines of a pipe, whoever else may hold its other end."""

    def __init__(self, reader: int) -> None:
        self._reader = reader
        self._rest = b""

    def next(self, until: float) -> bytes | None:
        """The next line; None if none comes in time, or no more can come."""
        while b"\n" not in self._rest:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._reader], [], [], left)[0]:
                return None
            read = os.read(self._reader, 65536)
            if not read:
                return None
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        return line


if __name__ == "__main__":
    main()
