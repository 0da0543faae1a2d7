"""A hub of data sets on this machine: the part of Hugging Face's API that its clients ask."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class Repository:
    """A data set: its files at each commit, and where `main` is."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, bytes]] = {}
        self.main = ""

    def commit(self, files: Mapping[str, bytes]) -> str:
        """Make these files the newest; gives the commit."""
        content = dict(files)
        text = repr(sorted((name, hashlib.sha1(data).hexdigest()) for name, data in files.items()))  # noqa: S324 - as Git does
        self.main = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324 - as above
        self.commits[self.main] = content
        return self.main

    def at(self, ref: str) -> str | None:
        """The commit that a name of one stands for."""
        commit = self.main if ref == "main" else ref
        return commit if commit in self.commits else None


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324 - as Git does


class Hub:
    """Answers like the hub, and writes down what it was asked.

    Attributes:
        address: where it answers, `http://...`.
        repositories: by name, `OWNER/NAME`.
        renamed: new names of repositories by their old ones.
        files: further files that it serves, by path.
        log: requests, `GET /path`, oldest first.
        may_answer: while it is not set, nobody gets an answer.
    """

    def __init__(self) -> None:
        self.address = ""
        self.repositories: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}
        self.files: dict[str, bytes] = {}
        self.log: list[str] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def repository(self, name: str) -> Repository:
        """A data set, made where it is missing."""
        return self.repositories.setdefault(name, Repository())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - Python's own name
        """Print nothing."""

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self._answer()

    def do_POST(self) -> None:
        """Answer a question that is too long for an address."""
        self._answer()

    def _answer(self) -> None:
        hub = self.server.hub
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        hub.log.append(f"{self.command} {path}")
        hub.may_answer.wait()
        if path in hub.files:
            self._file(hub.files[path], {})
            return
        words = path.strip("/").split("/")
        is_api = words[0] == "api"
        kind, *words = words[is_api:]
        if words and words[0] in hub.renamed:
            parts = ["api"] * is_api + [kind, hub.renamed[words[0]], *words[1:]]
            self._error(307, "", {"Location": "/" + "/".join(parts)})
            return
        name = "/".join(words[:2])
        if name not in hub.repositories:
            name = words[0] if words else ""
        if kind != "datasets" or name not in hub.repositories:
            self._error(404, "RepoNotFound" if kind == "datasets" else "EntryNotFound")
            return
        words = words[name.count("/") + 1 :] or ["revision"]
        what, ref, below = words[0], (words[1:2] or ["main"])[0], "/".join(words[2:])
        repository = hub.repositories[name]
        commit = repository.at(ref)
        if commit is None:
            self._error(404, "RevisionNotFound")
        elif what == "resolve":
            self._resolve(repository.commits[commit], below, commit)
        else:
            about = {"name": name, "commit": commit}
            self._about(what, below, body, repository.commits[commit], about)

    def _resolve(self, files: Mapping[str, bytes], name: str, commit: str) -> None:
        if name in files:
            about = {"X-Repo-Commit": commit, "ETag": f'"{_blob(files[name])}"'}
            self._file(files[name], about)
        else:
            self._error(404, "EntryNotFound", {"X-Repo-Commit": commit})

    def _about(
        self, what: str, below: str, body: bytes, files: Mapping[str, bytes], repo: dict[str, str]
    ) -> None:
        if what == "revision":
            names = [{"rfilename": each} for each in sorted(files)]
            about = {
                "id": repo["name"],
                "sha": repo["commit"],
                "private": False,
                "gated": False,
                "tags": [],
            }
            counts = {"_id": repo["commit"][:24], "disabled": False, "downloads": 0, "likes": 0}
            self._json({**about, **counts, "siblings": names})
        elif what == "tree":
            query = parse_qs(urlsplit(self.path).query)
            recursive = query.get("recursive", ["false"])[0].lower() in {"true", "1"}
            self._tree(files, below, recursive=recursive)
        elif what == "paths-info":
            if self.headers.get("Content-Type", "").startswith("application/json"):
                asked = json.loads(body)["paths"]
            else:
                asked = parse_qs(body.decode()).get("paths", [])
            self._json([each for path in asked for each in _entries(files, path)])
        else:
            self._error(404, "EntryNotFound")

    def _tree(self, files: Mapping[str, bytes], below: str, *, recursive: bool) -> None:
        start = f"{below}/" if below else ""
        inside = [name for name in sorted(files) if name.startswith(start)]
        if below and not inside:
            self._error(404, "EntryNotFound")
            return
        found: dict[str, dict[str, Any]] = {}
        for name in inside:
            above = name[len(start) :].split("/")[:-1]
            for depth in range(1, len(above) + 1):
                folder = start + "/".join(above[:depth])
                if depth == 1 or recursive:
                    found[folder] = {
                        "type": "directory",
                        "path": folder,
                        "oid": "0" * 40,
                        "size": 0,
                    }
            if not above or recursive:
                found[name] = _entries(files, name)[0]
        self._json(list(found.values()))

    def _file(self, data: bytes, headers: Mapping[str, str]) -> None:
        start = 0
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
        whole, data = len(data), data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _json(self, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _error(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()


def _entries(files: Mapping[str, bytes], path: str) -> list[dict[str, Any]]:
    """What the hub says of a file or folder; nothing where it has none."""
    if path in files:
        data = files[path]
        return [{"type": "file", "path": path, "oid": _blob(data), "size": len(data)}]
    if any(name.startswith(f"{path}/") for name in files):
        return [_folder(path)]
    return []


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub


@contextmanager
def serving(hub: Hub, address: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve a hub; gives its address, `http://...`."""
    with _Server((address, port), _Handler) as server:
        server.hub = hub
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{address}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
