"""A runner and evals that use a gateway, each a process that can be killed, forked from this one.

It reads one `Part` a line, and prints the number of its process. A runner follows the file `wanted`
in its folder: it lets the attempt ask that stands there, and writes that into `entered`. An eval
asks, and writes down what it was answered.
"""

import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import msgspec

from runner.gateway import client
from runner.gateway.messages import Config
from runner.records.layout import Layout
from tests.gateway.desk import Caller, job, prompt

PROMPTS = 30
THREADS = 8


class Wanted(msgspec.Struct, frozen=True):
    """The attempt that may ask; an empty one ends the runner."""

    attempt: str
    eval: str


class Part(msgspec.Struct, frozen=True):
    """A process to be: an eval if an attempt is given, else a runner.

    Attributes:
        folder: where its files are.
        config: for the runner's gateway.
        module: what the gateway's process is.
        socket: the folder of the attempt's socket.
    """

    folder: str
    config: Config
    module: str = client.MODULE
    attempt: str = ""
    eval: str = ""
    socket: str = ""


def body_of(eval_key: str, number: int) -> dict[str, object]:
    """What an eval asks; a third of it twice."""
    return prompt(f"{eval_key} {number % (PROMPTS * 2 // 3)}")


def layout_in(folder: Path) -> Layout:
    """Where the files of all evals lie."""
    return Layout(root=folder / "progress", model="m", eval_set="s")


def put(path: Path, content: object) -> None:
    """Write a file so that nobody reads half of it."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_bytes(msgspec.json.encode(content))
    new.replace(path)


def be_runner(part: Part) -> None:
    """Keep the gateway, and let attempts come and go."""
    folder = Path(part.folder)
    client.MODULE = part.module
    gateway = client.Gateway(
        layout_in(folder), part.config, lambda *told: print(*told, file=sys.stderr)
    )
    gateway.start()
    now = Wanted("", "")
    while True:
        wanted = msgspec.json.decode((folder / "wanted").read_bytes(), type=Wanted)
        if wanted != now:
            if now.attempt:
                gateway.leave(now.attempt)
            if not wanted.attempt:
                gateway.end()
                return
            gateway.enter(job(wanted.eval), wanted.attempt)
            put(folder / "entered", wanted)
            now = wanted
        time.sleep(0.005)


def be_eval(part: Part) -> None:
    """Ask everything, again after an error, and say so at the end."""
    folder = Path(part.folder)
    caller = Caller(Path(part.socket), part.attempt)
    log = os.open(folder / f"{part.attempt}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def ask(number: int) -> None:
        while True:
            with suppress(OSError, HTTPException, AssertionError):
                answer = caller.ask(body_of(part.eval, number))
                if answer.status == 200:
                    os.write(log, json.dumps([number, answer.bill]).encode() + b"\n")
                    return
            time.sleep(0.02)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(ask, range(PROMPTS)))
    put(folder / f"{part.attempt}.done", "done")


def main() -> None:
    """Fork what is wanted until nobody wants anything any more."""
    client.LOOK = 0.1
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin.buffer:
        part = msgspec.json.decode(line, type=Part)
        if process := os.fork():
            print(process, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        (be_eval if part.attempt else be_runner)(part)
        os._exit(0)


if __name__ == "__main__":
    main()
