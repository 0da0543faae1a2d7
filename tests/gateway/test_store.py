"""The answers of one eval, of which memory holds only where they lie."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from runner.gateway.requests import Asked
from runner.gateway.store import Store
from runner.records import answers_index
from runner.records.answers import Answer, AnswersLine, ChangedError, Request, read_line
from runner.records.answers_index import WORTH, path_of_index
from tests.conftest import until
from tests.gateway.desk import Desk, prompt

ASKED = Asked(
    route="openai", method="POST", path="/v1/completions", body=b"{}", content={}, headers={}
)


def paid(name: str, *, key: str = "k", attempt: str = "", status: int = 200) -> Answer:
    """An answer whose line is as long as the others."""
    return Answer(id=name, key=key, attempt=attempt, status=status, body=f"of {name}")


def content(*lines: AnswersLine) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def taken(store: Store, attempt: str, key: str = "k") -> str | None:
    """The text of the answer that an attempt is given."""
    kept = store.exchange.take(key, attempt)
    return None if kept is None else store.read(kept).body


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "e.jsonl"


def test_errors_on_record_are_given_where_all_is(path: Path) -> None:
    """A verification gives them again, a run asks again."""
    path.write_bytes(content(paid("1", status=404), paid("2")))
    assert taken(Store(path), "a") == "of 2"
    assert taken(Store(path, errors=True), "a") == "of 1"


def test_what_was_given_before_a_crash_is_not_given_again(path: Path) -> None:
    """What an attempt gave back since then is, though it is let in twice."""
    path.write_bytes(content(paid("1", attempt="a"), paid("2", attempt="b")))
    store = Store(path)
    store.admit("a")
    assert taken(store, "a") == "of 2"
    assert taken(store, "a") is None
    (kept, _) = store._kept("k")
    store.give_back(kept, "a")
    store.admit("a")
    assert taken(store, "a") == "of 1"


def test_answers_that_have_moved_are_found(path: Path) -> None:
    """Somebody has changed the file under the gateway; all of it is read again."""
    path.write_bytes(content(paid("1"), paid("2"), paid("3", key="l"), paid("4", key="m")))
    store = Store(path)
    one = store.exchange.take("k", "a")
    assert one
    path.write_bytes(content(paid("4", key="m"), paid("5"), paid("3", key="l"), paid("1")))
    assert taken(store, "a", "m") == "of 4"
    assert store.read(one).body == "of 1"
    assert taken(store, "a", "l") == "of 3"
    path.write_bytes(content(paid("6")))
    with pytest.raises(ChangedError):
        store.read(one)


def test_an_answer_is_read_from_where_it_is_now(path: Path) -> None:
    """Another one is in its place, of the same size."""
    path.write_bytes(content(paid("1"), paid("2")))
    store = Store(path)
    one = store.exchange.take("k", "a")
    assert one
    path.write_bytes(content(paid("2"), paid("1")))
    assert store.read(one).body == "of 1"


def test_a_request_is_described_once(path: Path) -> None:
    """Whether this process has done so, or one before it; and again where the file lost it."""

    def described() -> int:
        lines = map(read_line, path.read_bytes().splitlines())
        return sum(isinstance(line, Request) for line in lines)

    def describe(store: Store) -> None:
        # In a thread, because a browser of another test may have a loop in this one.
        with ThreadPoolExecutor() as pool:
            pool.submit(asyncio.run, store.describe("k", ASKED)).result()

    store = Store(path)
    for _ in range(2):
        describe(store)
        describe(Store(path))
        assert described() == 1
    later = Store(path)
    path.write_bytes(content(paid("1")))
    describe(later)
    assert described() == 1


def closed(store: Store) -> None:
    store.close()
    until(lambda: all(thread.name != "index" for thread in threading.enumerate()))
    with pytest.raises(OSError, match="Bad file descriptor"):
        store._file.status()


def test_a_store_that_closes_saves_the_index_of_what_is_new(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If that is much; the next one reads only what follows."""
    store = Store(path)
    store._file.write(paid("1"))
    closed(store)
    assert not path_of_index(path).exists()
    monkeypatch.setattr(answers_index, "WORTH", 1)
    store = Store(path)
    store._file.write(paid("2"))
    closed(store)
    after = Store(path)
    assert after._index.size == after._index.saved == path.stat().st_size
    assert [taken(after, "a"), taken(after, "a"), taken(after, "a")] == ["of 1", "of 2", None]


def test_a_store_that_cannot_save_its_index_closes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is there no more, for example."""
    monkeypatch.setattr(answers_index, "WORTH", 1)
    store = Store(path)
    store._file.write(paid("1"))
    path_of_index(path).mkdir()
    closed(store)


def test_a_gateway_gives_what_one_before_it_has_indexed(alone: Desk) -> None:
    """What was appended since, too; nothing is paid for twice."""
    long = [prompt("x" * (WORTH // 4) + str(number)) for number in range(6)]
    caller = alone.enter("a")
    first = [caller.ask(each).bill for each in long[:5]]
    alone.end()
    assert path_of_index(alone.file()).exists()
    alone.start()
    caller = alone.enter("b")
    first.append(caller.ask(long[5]).bill)
    assert [caller.ask(each).bill for each in long[:5]] == first[:5]
    alone.end()
    alone.start()
    for attempt in "cd":
        caller = alone.enter(attempt)
        assert [caller.ask(each).bill for each in long] == first
    assert alone.billed() == first
    assert alone.enter("a").ask(long[0]).bill not in first, "it had that before"
    assert len(alone.lines("request")) == 6


def test_a_gateways_process_looks_for_garbage_once_it_serves() -> None:
    """Not while it starts, as modules are none."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import gc, runner.gateway.__main__ as gateway\nprint(gc.isenabled())\n"  # noqa: ISC004 - one program
            "gateway._avoid_pauses()\nprint(gc.isenabled())",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "True"]
