"""What an eval tries at the gateway, which is all that it reaches."""

import json
import os
import pathlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from .tell import note

SOCKET = "/evalset/api.sock"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "one"}], "max_tokens": 9})
LENGTH = f"Content-Length: {len(BODY)}\r\n"
CHAT = "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
INNER = f"{CHAT}{LENGTH}\r\n{BODY}"

# None of these may be sent on.
FORBIDDEN = {
    "files": f"POST /openai/v1/files HTTP/1.1\r\nHost: x\r\n{LENGTH}\r\n{BODY}",
    "batches": f"POST /openai/v1/batches HTTP/1.1\r\nHost: x\r\n{LENGTH}\r\n{BODY}",
    "fine-tuning": f"POST /openai/v1/fine_tuning/jobs HTTP/1.1\r\nHost: x\r\n{LENGTH}\r\n{BODY}",
    "organization": "GET /openai/v1/organization/admin_api_keys HTTP/1.1\r\nHost: x\r\n\r\n",
    "detour": f"POST /openai/v1/models/../files HTTP/1.1\r\nHost: x\r\n{LENGTH}\r\n{BODY}",
    "elsewhere": f"POST http://192.0.2.1/v1/chat/completions HTTP/1.1\r\n{LENGTH}\r\n{BODY}",
    "tunnel": "CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n",
    "provider": f"POST /nobody/v1/chat/completions HTTP/1.1\r\nHost: x\r\n{LENGTH}\r\n{BODY}",
    "two lengths": f"{CHAT}{LENGTH}Content-Length: 0\r\n\r\n{BODY}",
    "two codings": f"{CHAT}{LENGTH}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{INNER}",
    "no number": f"{CHAT}Content-Length: -1\r\n\r\n{INNER}",
    "a split line": f"GET /openai/v1/models\r\n\r\n{INNER}",
    "the run's own": f"POST /end HTTP/1.1\r\nHost: x\r\n{LENGTH}\r\n{BODY}",
}


def ask(*_rest: str) -> None:
    """Ask for what is not allowed, in ways that might get through, then once for what is."""
    began = time.monotonic()
    while not pathlib.Path(SOCKET).exists() and time.monotonic() - began < 20:
        time.sleep(0.02)  # the gateway may take longer to start than this does
    with ThreadPoolExecutor(len(FORBIDDEN)) as pool:
        heard = dict(zip(FORBIDDEN, pool.map(_said, FORBIDDEN.values()), strict=True))
    for _ in range(300):
        _said(os.urandom(200), wait=0.05)
    idle = [_open() for _ in range(300)]
    allowed = _said(f"{CHAT}Connection: close\r\n{LENGTH}\r\n{BODY}", wait=20)
    for each in idle:
        each.close()
    around = sorted(str(path) for path in pathlib.Path("/evalset").rglob("*"))
    note(heard=heard, allowed=allowed, around=around, written=_written(around))


def _open() -> socket.socket:
    out = socket.socket(socket.AF_UNIX)
    out.settimeout(5)
    out.connect(SOCKET)
    return out


def _said(text: str | bytes, wait: float = 3) -> str:
    heard = b""
    with _open() as out:
        out.settimeout(wait)
        try:
            out.sendall(text.encode() if isinstance(text, str) else text)
            while more := out.recv(65536):
                heard += more
        except OSError:
            pass
    return heard.decode(errors="replace")


def _written(paths: list[str]) -> list[str]:
    written = []
    for path in [*paths, "/evalset/new"]:
        try:
            with pathlib.Path(path).open("ab"):
                written.append(path)
        except OSError:
            pass
    return written
