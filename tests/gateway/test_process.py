"""The gateway as a process: killed, stopped, taken over, without room on the disk."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from http.client import HTTPException
from pathlib import Path

import msgspec
import pytest

from runner.gateway import client
from runner.gateway.messages import PROTOCOL
from tests.conftest import until
from tests.faults.small_disk import SmallDisk, small_disk
from tests.gateway.desk import Answer, Caller, Connection, Desk, desk, prompt
from tests.provider import Provider

pytestmark = pytest.mark.timeout(120)


def opened(pid: int, path: Path) -> int:
    """How often a process has a file open."""
    found = 0
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            found += each.readlink() == path
    return found


def persistent(caller: Caller, body: object) -> Answer:
    """Ask again until there is an answer, as evals does after an error of the connection."""
    while True:
        with suppress(OSError, HTTPException):
            answer = caller.ask(body)
            if answer.status < 500:
                return answer
        time.sleep(0.05)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that ask."""
    with ThreadPoolExecutor(8) as found:
        yield found


def bills(answers: list["Future[Answer]"]) -> list[int]:
    """Numbers of the bills that the answers name, in order."""
    return sorted(each.result(60).bill for each in answers)


def test_a_killed_gateway_is_started_again(alone: Desk, pool: ThreadPoolExecutor) -> None:
    """Who waited is answered; what was recorded is not paid for again, the rest once more."""
    caller = alone.enter("a")
    for number in range(3):
        caller.ask(prompt(str(number)))
    alone.stub.behave(delay=1)
    asked = [pool.submit(persistent, caller, prompt(f"late {number}")) for number in range(4)]
    until(lambda: len(alone.lines("sent")) == 7)
    killed = alone.standing().pid
    os.kill(killed, signal.SIGKILL)
    found = bills(asked)
    assert alone.standing().pid != killed
    assert len(set(found)) == 4
    assert len(alone.billed()) <= 3 + 2 * 4
    other = alone.enter("b")
    assert sorted(other.ask(prompt(f"late {number}")).bill for number in range(4)) == found


def test_a_gateway_outlives_its_run_and_is_taken_over(
    alone: Desk, pool: ThreadPoolExecutor
) -> None:
    """The next one finds the process, the attempt and what is under way."""
    alone.stub.behave(delay=1)
    caller = alone.enter("a")
    asked = pool.submit(caller.ask, prompt())
    until(lambda: alone.lines("sent"))
    pid = alone.standing().pid
    alone.abandon()
    gateway = alone.start()
    assert alone.enter("a").folder == caller.folder
    assert alone.standing().pid == pid
    assert asked.result().bill == alone.billed()[0]
    assert gateway.account("a").spending.requests == 1
    assert len(alone.billed()) == 1


def test_a_gateway_that_died_alone_is_started_by_the_next_run(alone: Desk) -> None:
    """Its attempts are admitted again, and its files read."""
    caller = alone.enter("a")
    first = caller.ask(prompt())
    alone.abandon()
    os.kill(alone.standing().pid, signal.SIGKILL)
    assert alone.gateway._process
    alone.gateway._process.wait()
    alone.start()
    assert alone.enter("a").folder == caller.folder
    assert persistent(caller, prompt()).bill != first.bill
    assert alone.enter("b").ask(prompt()).bill == first.bill


@pytest.mark.parametrize("adopted", [False, True])
def test_a_gateway_that_hangs_is_replaced(
    alone: Desk, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, *, adopted: bool
) -> None:
    """Whether this run started it or another one did."""
    monkeypatch.setattr(client, "HANGS", 1.0)
    caller = alone.enter("a")
    caller.ask(prompt())
    if adopted:
        alone.abandon()
        alone.start()
        alone.enter("a")
    stopped = alone.standing().pid
    os.kill(stopped, signal.SIGSTOP)
    asked = pool.submit(persistent, caller, prompt("two"))
    assert asked.result(60).bill == alone.billed()[1]
    assert alone.standing().pid != stopped
    assert alone.enter("b").ask(prompt()).bill == alone.billed()[0]


def test_a_gateway_of_another_version_is_replaced(
    alone: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would not understand what it is asked."""
    old = alone.standing().pid
    alone.abandon()
    monkeypatch.setattr(client, "PROTOCOL", PROTOCOL + 1)
    alone.config = msgspec.structs.replace(alone.config)
    alone.start()
    assert alone.standing().pid != old
    assert alone.enter("a").ask(prompt()).status == 200


def test_no_process_but_a_gateway_is_killed(alone: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the file says that its number is that of the gateway, which it was once."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as innocent:
        alone.abandon()
        running = alone.standing().pid
        (alone.layout.gateway / "pid").write_text(f"{innocent.pid}\n")
        os.kill(running, signal.SIGSTOP)
        monkeypatch.setattr(client, "START", 0.5)
        assert not client.end_process(alone.layout.gateway)
        assert innocent.poll() is None
        os.kill(running, signal.SIGCONT)
        (alone.layout.gateway / "pid").write_text(f"{running}\n")
        innocent.kill()


def test_two_gateways_do_not_work_in_one_folder(alone: Desk) -> None:
    """The second one ends by itself, and the first serves on."""
    second = client.Gateway(alone.layout, alone.config, lambda *_: None)
    second._launch()
    assert second._process
    assert second._process.wait(30) == 0
    assert alone.gateway._process
    assert alone.standing().pid == alone.gateway._process.pid
    assert alone.enter("a").ask(prompt()).status == 200


def test_an_attempt_that_is_let_in_twice_at_once_is_let_in_once(alone: Desk) -> None:
    """As by a run and its watch; else one of the two would keep its file open for ever."""
    caller = alone.enter("a")
    admission = alone.gateway._admitted["a"]
    alone.leave("a")
    caller.folder.mkdir()
    body = msgspec.json.encode(admission)
    pid = alone.standing().pid
    with ExitStack() as stack:
        asked = [
            stack.enter_context(closing(Connection(alone.layout.gateway, "control.sock", 30)))
            for _ in range(32)
        ]
        os.kill(pid, signal.SIGSTOP)
        for each in asked:
            each.request("POST", "/attempts", body)
        os.kill(pid, signal.SIGCONT)
        assert {each.getresponse().status for each in asked} == {200}
    assert caller.ask(prompt()).status == 200
    assert opened(pid, alone.file()) == 1
    alone.leave("a")
    until(lambda: opened(pid, alone.file()) == 0)


def test_a_run_knows_soon_that_its_gateway_serves(tmp_path: Path, stub: Provider) -> None:
    """An attempt that was let in before that need not wait for the next look."""
    with desk(tmp_path / "progress", stub) as here:
        here.end()
        gateway = client.Gateway(here.layout, here.config, lambda *_: None)
        here.gateways.append(gateway)
        gateway.start()
        caller = here.enter("a")
        standing = until(gateway._standing)
        began = time.monotonic()
        assert caller.ask(prompt()).status == 200
        assert "a" in standing.attempts or time.monotonic() - began < client.LOOK / 2


def test_a_gateway_that_cannot_start_is_told(
    tmp_path: Path, stub: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its last words; it is retried all the same."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "empty"))
    broken = tmp_path / "empty" / "runner"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no such luck')\n")
    here = Desk(tmp_path / "progress", stub)
    gateway = client.Gateway(here.layout, here.config, here._tell)
    gateway.start()
    try:
        assert "no such luck" in until(lambda: here.told.get("gateway"))
    finally:
        gateway.end()
        assert gateway._process
        gateway._process.wait()


def test_its_path_may_be_long(tmp_path: Path, stub: Provider) -> None:
    """That of a socket may have 108 bytes."""
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    with desk(folder, stub) as here:
        assert here.enter("a").ask(prompt()).bill == here.billed()[0]


def test_answers_that_were_set_aside_are_not_given(alone: Desk) -> None:
    """`evalset reset` moves them while a gateway of a killed run may still have them open."""
    alone.enter("a").ask(prompt())
    alone.abandon()
    alone.layout.answers.rename(alone.layout.answers.with_name("aside"))
    alone.start()
    assert alone.enter("b").ask(prompt()).bill == alone.billed()[1]
    assert len(alone.lines("answer")) == 1


# A disk without room.


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    """One of a megabyte."""
    with small_disk(tmp_path / "small", 2**20) as found:
        yield found


def fill(folder: Path, answers: Path) -> Path:
    """Take all room, that at the end of a file's last page too; gives the file that has it."""
    path = folder / "ballast"
    with answers.open("ab") as file:
        file.write(b"\n" * (-answers.stat().st_size % 4096))
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return path


def test_without_room_nothing_is_sent(
    small: SmallDisk, stub: Provider, pool: ThreadPoolExecutor
) -> None:
    """The run is told, and what is on record has to wait, too; with room all are answered."""
    with desk(small.folder / "progress", stub) as here:
        first = here.enter("a").ask(prompt())
        other = here.enter("b")
        ballast = fill(small.folder, here.file())
        asked = [pool.submit(other.ask, prompt(text)) for text in ("one", "two")]
        assert "full" in until(lambda: here.told.get("disk"))
        assert len(stub.requests()) == 1
        assert not any(each.done() for each in asked)
        ballast.unlink()
        assert bills(asked) == here.billed()
        assert here.billed()[0] == first.bill


def test_an_answer_is_held_until_there_is_room(
    small: SmallDisk, stub: Provider, pool: ThreadPoolExecutor
) -> None:
    """It was paid for; nobody gets it before it is recorded."""
    stub.behave(delay=1, size=50_000)
    with desk(small.folder / "progress", stub) as here:
        caller = here.enter("a")
        asked = pool.submit(caller.ask, prompt())
        until(lambda: here.lines("sent"))
        ballast = fill(small.folder, here.file())
        assert "full" in until(lambda: here.told.get("disk"))
        assert len(here.billed()) == 1
        assert not asked.done()
        ballast.unlink()
        assert asked.result().bill == here.billed()[0]
        assert len(here.lines("answer")) == 1
        assert len(here.billed()) == 1


def test_who_leaves_while_there_is_no_room_takes_nothing_along(
    small: SmallDisk, stub: Provider
) -> None:
    """What it waited for, from the record or from the provider, is there for the next."""
    with desk(small.folder / "progress", stub) as here:
        here.enter("a").ask(prompt())
        stub.behave(delay=0.5, size=50_000)
        caller = here.enter("b")
        ballast = fill(small.folder, here.file())
        with pytest.raises(TimeoutError):
            caller.ask(prompt(), timeout=0.5)  # not when the write is retried
        ballast.unlink()
        assert caller.ask(prompt()).bill == here.billed()[0]
        assert len(here.billed()) == 1
