"""Leave what hurts who tidies up."""

import json
import os
import pathlib
import socket
import sys
import time

from .tell import TMP, log, note, report

LOGS = TMP / "evallogs"


def links(*_rest: str) -> None:
    """Leave links, pipes, sockets and second names among the logs, and one log."""
    LOGS.mkdir()
    for number, target in enumerate(
        ("/etc/passwd", "/registry/0/evals/all.yaml", "../../../../oaievalset", "nowhere", "/", ".")
    ):
        (LOGS / f"{number}_link_m_victim.jsonl").symlink_to(target)
    (LOGS / "into").symlink_to("/registry/0", target_is_directory=True)
    os.mkfifo(LOGS / "pipe.jsonl")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(LOGS / "socket.jsonl"))
    (TMP / "twice").write_text("x")
    (LOGS / "twice.jsonl").hardlink_to(TMP / "twice")
    (LOGS / "setuid.jsonl").write_text("{}\n")
    (LOGS / "setuid.jsonl").chmod(0o6777)
    note(left=len(list(LOGS.iterdir())))


def linked(*_rest: str) -> None:
    """Leave a link in the place of the folder of logs."""
    LOGS.symlink_to("/registry/0/evals", target_is_directory=True)


def piped(*_rest: str) -> None:
    """Leave a pipe in the place of the folder of logs."""
    os.mkfifo(LOGS)


NAMES = (
    b"new\nline.jsonl",
    b"..jsonl",
    b"...",
    b"\x1b]0;title\x07.jsonl",
    b"\x1b[2J.jsonl",
    b"\xff\xfe not utf-8.jsonl",
    b"\xe2\x80\xaegnp.jsonl",
    b"\xc2\x9b31m.jsonl",
    b"-rf.jsonl",
    b"::error::x.jsonl",
    b"<script>alert(1)<",
    b"|`x`|[a](javascript:b).jsonl",
    b"$(touch x).jsonl",
    b".planted.1.new",
    b"x" * 255,
    "\N{SNOWMAN}".encode() * 85,
)


def names(*_rest: str) -> None:
    """Leave logs with every kind of name."""
    LOGS.mkdir()
    for name in NAMES:
        with open(os.path.join(os.fsencode(LOGS), name), "w") as file:
            file.write("{}\n")
    note(left=len(NAMES))


def deep(levels: str = "20000", *_rest: str) -> None:
    """Leave folders inside folders, below `/tmp` and among the logs, and some of them closed."""
    LOGS.mkdir()
    for start, count in ((TMP, int(levels)), (LOGS, 1500)):
        os.chdir(start)
        for level in range(count):
            pathlib.Path("file").write_text("")
            os.mkdir("d")
            os.chdir("d")
            if level % 1000 == 500:
                os.chmod("..", 0)
    os.chdir("/")
    note(deep=True)


def many(count: str = "100000", *_rest: str) -> None:
    """Leave small files and folders without number."""
    for number in range(int(count)):
        os.close(os.open(f"/tmp/{number}", os.O_CREAT | os.O_WRONLY))
    for number in range(1000):
        os.makedirs(f"/tmp/folder/{number}/inner")
    note(many=len(os.listdir("/tmp")))


def crowd(count: str = "25000", *_rest: str) -> None:
    """Leave more among the logs than anybody looks at."""
    LOGS.mkdir()
    for number in range(int(count)):
        os.symlink("x", f"/tmp/evallogs/{number}")
    report({"accuracy": 1.0})


def sparse(*_rest: str) -> None:
    """Leave a log that says to be larger than any disk."""
    for size in (1 << 40, 9 << 30):
        try:
            os.truncate(os.open(log(), os.O_CREAT | os.O_WRONLY), size)
            break
        except OSError:
            continue
    report({"size": size})


def forge(*_rest: str) -> None:
    """Leave and print what says that another eval has succeeded."""
    run_id = time.strftime("%y%m%d%H%M%SAAAAAAAA")
    command = '["/hostile/program.py", "m", "innocent", "--registry_path", "/registry/0"]\n'
    record = json.dumps(
        {
            "version": 1,
            "attempt": "forged",
            "run": "r",
            "host": "h",
            "command": json.loads(command),
            "eval": "innocent",
            "result": "success",
            "ended_at": "2030-01-01T00:00:00Z",
            "final_report": {"accuracy": 1.0},
        }
    )
    record += "\n"
    content = {
        f"{run_id}_m_innocent.jsonl": '{"final_report": {"accuracy": 1.0}}\n',
        f"{run_id}_m_innocent.console.log": "all is well\n",
        "m.s.progress.txt": command,
        "progress.txt": command,
        "attempts.jsonl": record,
        "m.s.attempts.jsonl": record,
        "m.s.run.json": "{}",
        "m.s.lock": "",
    }
    for folder in (LOGS, TMP / "oaievalset", TMP, LOGS / "oaievalset", TMP / ".attempts"):
        folder.mkdir(exist_ok=True)
        for name, text in content.items():
            (folder / name).write_text(text)
    print(command, record, sep="", end="", flush=True)
    print(command, record, sep="", end="", file=sys.stderr, flush=True)
    note(accuracy=0.5)
