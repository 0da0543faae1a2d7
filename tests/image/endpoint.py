"""A stand-in for OpenAI's endpoint, and `oaieval` with and without the hook."""

import json
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-upstream/bin/python"


@dataclass(frozen=True)
class Request:
    """What the endpoint was asked.

    Attributes:
        connection: the client's port.
        headers: by names in lower case.
    """

    path: str
    headers: dict[str, str]
    connection: int


@dataclass
class Endpoint:
    """Answers chat completions: yes or no, by the length of the prompt."""

    address: str
    requests: list[Request] = field(default_factory=list)


@contextmanager
def answering() -> Iterator[Endpoint]:
    """An endpoint on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            endpoint.requests.append(Request(self.path, headers, self.client_address[1]))
            answer = json.dumps(_answer(body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        endpoint = Endpoint(f"http://127.0.0.1:{server.server_port}/v1")
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield endpoint
        finally:
            server.shutdown()
            thread.join()


def _answer(body: dict[str, object]) -> dict[str, object]:
    text = "yes" if len(json.dumps(body["messages"])) % 3 else "no"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
    }


def upstream(
    code: str, *arguments: str, cwd: Path | None = None, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run code in the Python that has openai/evals; it finds `hook` and `patches`."""
    begin = f"import sys; sys.path.insert(0, {str(ROOT / 'runner/image')!r})\n"
    return subprocess.run(
        [PYTHON, "-c", begin + textwrap.dedent(code), *arguments],
        cwd=cwd,
        env={"OPENAI_API_KEY": "none", "HOME": "/nonexistent", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
