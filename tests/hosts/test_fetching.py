"""What a host says of an attempt's files, and how they get here."""

import os
import threading
from pathlib import Path

import pytest

from runner.engine.attempt import Made
from runner.engine.ending import Ending
from runner.hosts.fetching import LARGEST_CONSOLE, Fetch, is_attempt
from runner.hosts.messages import PIECE, HasEnded, LeftFile, Message, Piece, Read
from runner.model import Command, ContainerSettings, Job
from runner.records.folders import remove_private, remove_unused
from runner.records.layout import Layout

ATTEMPT = "261130061946BWGE5G7E"
COMMAND = Command(("oaieval", "m", "e"))
SETTINGS = ContainerSettings(
    image="i",
    memory=1,
    cpus=1,
    pids_limit=1,
    gpus=None,
    timeout=1,
    network="none",
    tmp_limit=4 * PIECE,
)
JOB = Job(command=COMMAND, argv=COMMAND, settings=SETTINGS)


class Desk:
    """A fetch with all that it asks for and tells."""

    def __init__(self, folder: Path, *files: tuple[str, int]) -> None:
        self.layout = Layout(root=folder, model="m", eval_set="s")
        self.asked: list[Read] = []
        self.told: list[str] = []
        left = tuple(LeftFile(name=name, size=size) for name, size in files)
        made = Made(ending=Ending(exit_code=0))
        ended = HasEnded(attempt=ATTEMPT, job=JOB, made=made, files=left)
        self.fetch = Fetch(ended, self.layout, send=self._asks, done=self.told.append)
        self.fetch.begin()

    def _asks(self, message: Message) -> None:
        assert isinstance(message, Read)
        self.asked.append(message)

    def answer(self, content: dict[str, bytes]) -> None:
        """Give what was asked for, the last first."""
        while self.asked:
            read = self.asked.pop()
            data = content[read.name][read.offset : read.offset + PIECE]
            self.fetch.take(Piece(attempt=ATTEMPT, name=read.name, offset=read.offset, data=data))


def test_files_come_in_pieces_in_any_order(tmp_path: Path) -> None:
    """Few at a time; an empty one needs none."""
    large = os.urandom(3 * PIECE + 5)
    desk = Desk(tmp_path, ("", 4), ("a/log", len(large)), ("empty", 0))
    assert len(desk.asked) == 4
    desk.answer({"": b"said", "a/log": large})
    assert desk.told == [""]
    private = desk.layout.private(ATTEMPT)
    assert (private / "console.log").read_bytes() == b"said"
    assert (private / "evallogs/a/log").read_bytes() == large
    assert (private / "evallogs/empty").read_bytes() == b""


def test_what_was_here_before_is_replaced(tmp_path: Path) -> None:
    """As when a run was killed while it fetched."""
    old = tmp_path / ".attempts" / ATTEMPT / "evallogs"
    old.mkdir(parents=True)
    (old / "other").write_text("old")
    desk = Desk(tmp_path, ("log", 3))
    desk.answer({"log": b"new"})
    assert [path.name for path in old.iterdir()] == ["log"]


def test_a_cleanup_at_the_same_moment_takes_nothing_from_a_fetch(tmp_path: Path) -> None:
    """The thread that records removes the folder of all attempts whenever it finds it empty."""
    over = threading.Event()

    def clean() -> None:
        while not over.is_set():
            remove_unused(tmp_path)

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        for _ in range(300):
            desk = Desk(tmp_path, ("log", 3))
            desk.answer({"log": b"new"})
            assert desk.told == [""]
            remove_private(desk.layout, ATTEMPT)
    finally:
        over.set()
        cleaner.join()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([("../../../etc/cron.d/x", 1)], "left a file '../../../etc/cron.d/x'"),
        ([("/etc/passwd", 1)], "left a file '/etc/passwd'"),
        ([("a//b", 1)], "left a file 'a//b'"),
        ([("a/./b", 1)], "left a file"),
        ([("a\0b", 1)], "left a file"),
        ([("a" * 5000, 1)], "left a file"),
        ([("log", 3 * PIECE), ("more", 2 * PIECE)], "left more than --tmp-limit"),
        ([("log", -1)], "left files of less than no bytes"),
        ([("", LARGEST_CONSOLE + 1)], "printed more than an engine keeps"),
        ([("log", 1), ("log", 1)], "left more files than an eval may"),
        ([(str(number), 0) for number in range(1100)], "left more files than an eval may"),
    ],
)
def test_what_no_host_of_ours_says_is_refused(
    tmp_path: Path, files: list[tuple[str, int]], said: str
) -> None:
    """Nothing is asked for, and nothing written."""
    desk = Desk(tmp_path, *files)
    (told,) = desk.told
    assert said in told
    assert desk.asked == []
    assert list(tmp_path.iterdir()) == []


def test_a_piece_of_another_length_ends_the_fetch(tmp_path: Path) -> None:
    """The rest is not written."""
    desk = Desk(tmp_path, ("log", 10))
    desk.fetch.take(Piece(attempt=ATTEMPT, name="log", offset=0, data=b"x" * 11))
    assert desk.told == ["its host sent 11 bytes of a file in the place of 10"]
    assert (desk.layout.private(ATTEMPT) / "evallogs/log").read_bytes() == b""


def test_pieces_that_nobody_asked_for_are_ignored(tmp_path: Path) -> None:
    """Also those that come twice."""
    desk = Desk(tmp_path, ("log", 3))
    desk.fetch.take(Piece(attempt=ATTEMPT, name="other", offset=0, data=b"x"))
    desk.fetch.take(Piece(attempt=ATTEMPT, name="log", offset=PIECE, data=b"x"))
    desk.answer({"log": b"log"})
    desk.fetch.take(Piece(attempt=ATTEMPT, name="log", offset=0, data=b"LOG"))
    assert desk.told == [""]
    assert (desk.layout.private(ATTEMPT) / "evallogs/log").read_bytes() == b"log"


@pytest.mark.parametrize("name", ["", "..", "../x", ATTEMPT.lower(), ATTEMPT + "A", ATTEMPT[:-1]])
def test_other_names_are_no_attempts(name: str) -> None:
    """Because they become names of folders."""
    assert is_attempt(ATTEMPT)
    assert not is_attempt(name)
