"""Runs in the container, as its `sitecustomize`, before any code of the image.

The container has nothing of evalset, so that this imports the standard library alone. While data
are fetched (EVALSET_DATA_FETCH) it directs requests to the pinned revisions, notes which hosts
cannot be reached, and ends the eval when it would ask a model. In a run it serves the files that
were fetched from addresses, and keeps nltk from asking for newer ones.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

FETCH = "EVALSET_DATA_FETCH"
PINS = "EVALSET_DATA_PINS"
KEPT = "EVALSET_DATA_KEPT"
PROBLEMS = "EVALSET_DATA_PROBLEMS"

# The host of every model while data are fetched; no name server knows it.
MODEL_HOST = "model.invalid"

# The parts of an address of the hub: a repository, what is asked for, and the revision.
HUB = re.compile(
    r"(?P<before>.*?/(?:api/)?)(?P<repo>(?:datasets|models|spaces)/[^/]+(?:/[^/]+)??)"
    r"(?:/(?P<what>revision|resolve|tree|paths-info|raw)/(?P<ref>[^/?]+)(?P<after>[/?].*)?)?$"
)


ADDRESS = re.compile(r"(?:/.*/data/)?(?P<scheme>https?|gs|az):/+(?P<rest>.+)")


def address_of(path: object) -> str:
    """The address that a path was made from; empty for a path of this machine.

    Upstream puts the registry's folder before every value of `samples_jsonl`: an address becomes
    `/registry/0/data/https:/host/file`.
    """
    found = ADDRESS.fullmatch(str(path))
    return f"{found['scheme']}://{found['rest']}" if found else ""


def pinned(url: str, pins: dict[str, dict[str, str]]) -> str:
    """The address of the pinned revision, if `url` asks the hub for a branch.

    Args:
        url: without a query.
        pins: commits, by repository (`datasets/OWNER/NAME`) and branch.
    """
    found = HUB.match(url)
    if found is None or found["repo"] not in pins:
        return url
    commit = pins[found["repo"]].get(found["ref"] or "main")
    if commit is None or (found["what"] is None and "/api/" not in found["before"]):
        return url
    what = found["what"] or "revision"
    return f"{found['before']}{found['repo']}/{what}/{commit}{found['after'] or ''}"


def note(problem: str) -> None:
    """Write a line into the file that evalset reads afterwards."""
    with open(os.environ[PROBLEMS], "a", encoding="utf-8") as file:  # noqa: PTH123 - short
        file.write(" ".join(problem.split()) + "\n")


def watched(host: str, send: Callable[[], Any]) -> Any:  # noqa: ANN401 - a library's response
    """Send a request; note a host that cannot be reached, and a revision that is gone."""
    if host == MODEL_HOST:
        sys.stdout.flush()
        os._exit(0)  # from here on the eval asks its model, and has its data
    try:
        response = send()
    except Exception as error:
        if not hasattr(error, "code"):  # else it is urllib's error for an answer
            note(f"away {host}: {error}")
        raise
    headers = getattr(response, "headers", None)
    if headers is not None and headers.get("X-Error-Code") == "RevisionNotFound":
        note(f"gone {getattr(response, 'url', host)}")
    return response


def watch_client(module: ModuleType) -> None:
    """Direct the requests of httpx, or of its successor, to what is pinned."""
    pins = json.loads(os.environ.get(PINS, "{}"))
    send = module.Client.send

    def sent(self: Any, request: Any, **settings: Any) -> Any:  # noqa: ANN401 - httpx's own
        url = request.url
        path = url.raw_path.decode().partition("?")[0]
        if (other := pinned(path, pins)) != path:
            query = url.query
            request.url = url.copy_with(raw_path=other.encode() + (b"?" + query if query else b""))
        return watched(url.host, lambda: send(self, request, **settings))

    module.Client.send = sent


def watch_requests(module: ModuleType) -> None:
    """The same for requests."""
    pins = json.loads(os.environ.get(PINS, "{}"))
    send = module.Session.send

    def sent(self: Any, request: Any, **settings: Any) -> Any:  # noqa: ANN401 - requests' own
        url, mark, query = request.url.partition("?")
        request.url = pinned(url, pins) + mark + query
        return watched(urlsplit(url).hostname or "", lambda: send(self, request, **settings))

    module.Session.send = sent


def watch_urllib(module: ModuleType) -> None:
    """The same for urllib, which nltk uses."""
    opened = module.OpenerDirector.open

    def open_(self: Any, fullurl: Any, *args: Any, **named: Any) -> Any:  # noqa: ANN401 - as above
        url = fullurl if isinstance(fullurl, str) else fullurl.full_url
        host = urlsplit(url).hostname or ""
        return watched(host, lambda: opened(self, fullurl, *args, **named))

    module.OpenerDirector.open = open_


def watch_nltk(module: Any) -> None:  # noqa: ANN401 - a module of its own making
    """Note what nltk could not get, because it only prints that and lets the eval start."""
    download = module.Downloader.download

    def downloaded(self: Any, info_or_id: Any = None, *args: Any, **named: Any) -> bool:  # noqa: ANN401 - nltk's own
        done = bool(download(self, info_or_id, *args, **named))
        if not done:
            note(f"missing nltk's {info_or_id}")
        return done

    module.Downloader.download = downloaded
    module.download = module._downloader.download  # noqa: SLF001 - as nltk itself does


def keep_nltk(module: Any) -> None:  # noqa: ANN401 - as above
    """Let nltk take what was fetched to be the newest version."""

    def download(*_: object, **__: object) -> bool:
        return True

    module.download = download
    module.Downloader.download = download


def name_owners(module: Any) -> None:  # noqa: ANN401 - as above
    """Let `datasets` load what upstream names without an owner, as older names of the hub are.

    The hub redirects such a name to the one with an owner, but newer clients refuse to ask for it.
    The name that it redirects to is kept with the data.
    """
    load = module.load_dataset
    file = Path(os.environ[KEPT]) / "owners.json"

    def owned(name: object) -> object:
        is_old = isinstance(name, str) and re.fullmatch(r"[\w.-]+", name)
        if not is_old or name in module._PACKAGED_DATASETS_MODULES or Path(str(name)).exists():  # noqa: SLF001 - as datasets itself does
            return name
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if name not in known and FETCH in os.environ:
            from huggingface_hub import HfApi  # noqa: PLC0415 - of the image

            known[name] = HfApi().dataset_info(name).id
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(known), encoding="utf-8")
        return known.get(name, name)

    def load_dataset(path: object, *args: Any, **named: Any) -> Any:  # noqa: ANN401 - datasets' own
        return load(owned(path), *args, **named)

    module.load_dataset = load_dataset


class Addresses:
    """The files that were fetched from addresses, below a folder.

    Args:
        folder: of the files.
        module: blobfile.
        fetching: whether to fetch what is missing.
    """

    def __init__(self, folder: Path, module: ModuleType, *, fetching: bool) -> None:
        self._folder = folder
        self._file = module.BlobFile
        self._isdir = module.isdir
        self._listdir = module.listdir
        self._fetching = fetching

    def _place(self, address: str) -> Path:
        return self._folder / hashlib.sha256(address.encode()).hexdigest()

    def _answer(self, address: str, what: str, ask: Callable[[], Any]) -> Any:  # noqa: ANN401 - JSON
        place = self._place(address).with_suffix(f".{what}.json")
        if self._fetching and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps({"url": address, what: ask()}), encoding="utf-8")
        if not place.exists():
            raise FileNotFoundError(f"{address} is not among the data that were fetched")
        return json.loads(place.read_text(encoding="utf-8"))[what]

    def isdir(self, path: Any) -> bool:  # noqa: ANN401 - a text or a path
        """Whether it is a folder; a web page is not."""
        address = address_of(path)
        if not address:
            return bool(self._isdir(path))
        if is_web(address):
            return False
        return bool(self._answer(address, "isdir", lambda: self._isdir(address)))

    def listdir(self, path: Any, **named: Any) -> Iterator[str]:  # noqa: ANN401 - as above
        """The names in a folder."""
        address = address_of(path)
        if not address:
            return iter(self._listdir(path, **named))
        return iter(self._answer(address, "listdir", lambda: list(self._listdir(address))))

    def open(self, path: Any, mode: str = "r", **named: Any) -> Any:  # noqa: ANN401 - a file
        """Open a file; of an address, the one that was fetched from it."""
        address = address_of(path)
        if not address or "r" not in mode:
            return self._file(path, mode, **named)
        place = self._place(address)
        if self._fetching and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            unfinished = place.with_suffix(".incomplete")
            with self._remote(address) as source, unfinished.open("wb") as target:
                shutil.copyfileobj(source, target)
            unfinished.rename(place)
        if not place.exists():
            raise FileNotFoundError(f"{address} is not among the data that were fetched")
        return self._file(str(place), mode, **named)

    def _remote(self, address: str) -> Any:  # noqa: ANN401 - as above
        if is_web(address):
            import urllib.request  # noqa: PLC0415 - few evals need it

            try:
                return urllib.request.urlopen(address)  # noqa: S310 - a web address, as checked
            except urllib.error.HTTPError as error:
                note(f"missing {address}: {error}")
                raise
        try:
            return self._file(address, "rb")
        except Exception as error:
            note(f"away {address}: {error}")
            raise


def is_web(address: str) -> bool:
    """Whether it is a web address other than one of Azure, which blobfile reads itself."""
    parts = urlsplit(address)
    azure = (parts.hostname or "").endswith(".blob.core.windows.net")
    return parts.scheme in {"http", "https"} and not azure


def keep_addresses(module: Any) -> None:  # noqa: ANN401 - as above
    """Let blobfile read the file that was fetched instead of the address."""
    found = Addresses(Path(os.environ[KEPT]), module, fetching=FETCH in os.environ)
    module.BlobFile, module.isdir, module.listdir = found.open, found.isdir, found.listdir


ALWAYS: dict[str, Callable[[ModuleType], None]] = {
    "blobfile": keep_addresses,
    "datasets.load": name_owners,
}

FETCHING: dict[str, Callable[[ModuleType], None]] = {
    "httpx": watch_client,
    "httpx2": watch_client,
    "requests.sessions": watch_requests,
    "urllib.request": watch_urllib,
    "nltk.downloader": watch_nltk,
}

RUNNING: dict[str, Callable[[ModuleType], None]] = {"nltk.downloader": keep_nltk}


class Finder:
    """Finds the modules above as Python would, and changes them once they are imported."""

    changes = ALWAYS | (FETCHING if FETCH in os.environ else RUNNING)

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec that the other finders give a module to be changed; None for other modules."""
        change = cls.changes.get(name)
        if change is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                change(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign] # for this one module
        return spec


def run_the_next(name: str = "sitecustomize") -> None:
    """Run the image's own `sitecustomize`, which this one replaces."""
    here = Path(__file__).parent
    others = [path for path in sys.path if Path(path or ".").resolve() != here]
    spec = PathFinder.find_spec(name, others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(ModuleType(name))


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, Finder)
    run_the_next()
