import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

KEY = "sk-a-key-for-the-test-only"


class Api(BaseHTTPRequestHandler):
    """Answers chat completions as OpenAI's API does today, with token counts in groups."""

    keys: set[str] = set()  # noqa: RUF012 - what was seen, for the test

    def do_POST(self) -> None:
        """Answer a chat completion."""
        self.keys.add(self.headers["Authorization"])
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": asked["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": "once upon a time"},
                }
            ],
            "usage": {
                "prompt_tokens": 5,
                "completion_tokens": 3,
                "total_tokens": 8,
                "completion_tokens_details": {"reasoning_tokens": 1},
            },
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def api_address() -> Iterator[str]:
    """An API on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


@pytest.mark.docker
def test_a_chat_model_is_evaluated_over_its_api(
    api_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key and the address reach the container, token counts the report, the key no file."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", api_address)
    line = ["run", "gpt-3.5-turbo", "test-basic", "--select", "test-match", "--network", "host"]
    done = subprocess.run(
        [sys.executable, "-m", "runner", *line],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    attempts = (
        tmp_path / "progress/oaievalset/gpt-3.5-turbo.test-basic.attempts.jsonl"
    ).read_text()
    report = json.loads(attempts)["final_report"]
    assert report["usage_total_tokens"] == 24
    assert report["usage_completion_tokens_details_reasoning_tokens"] == 3
    assert Api.keys == {f"Bearer {KEY}"}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in done.stdout + done.stderr
