"""Runs inside the eval image: the solver for Anthropic asks a server of this process."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

ANSWER = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": "fine"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 1},
}


class Provider(BaseHTTPRequestHandler):
    """Prints what it is asked, and answers."""

    def do_POST(self) -> None:
        """As `/v1/messages`."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        print(json.dumps(asked["messages"]))
        content = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing more."""


server = HTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["ANTHROPIC_API_KEY"] = "none"
os.environ["ANTHROPIC_BASE_URL"] = f"http://127.0.0.1:{server.server_port}"

from evals.solvers.providers.anthropic import anthropic_solver  # type: ignore[import-not-found] # noqa: E402
from evals.task_state import Message, TaskState  # type: ignore[import-not-found] # noqa: E402

anthropic_solver.record_sampling = lambda **_: None  # there is no recorder here
solver = anthropic_solver.AnthropicSolver(model_name="claude")
print(solver(TaskState("be brief", [Message("user", "how are you?")])).output)
