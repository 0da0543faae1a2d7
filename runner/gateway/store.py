import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from runner.errors import EnvironmentFault
from runner.gateway.exchange import Exchange
from runner.gateway.requests import Asked
from runner.model import Problem
from runner.records.answers import (
    Answer,
    AnswersFile,
    AnswersLine,
    ChangedError,
    Given,
    Kept,
    Request,
    Returned,
    Stopped,
    damage,
)
from runner.records.answers_index import Index, is_worth_saving, read_index

# Seconds after which a write to a full disk is retried.
PAUSE = 1.0

# Statuses from here on are errors.
ERROR = 400

Found = TypeVar("Found")


def utc(moment: datetime | None = None) -> str:
    """A moment in UTC, or else now, as the lines of answers files have it."""
    moment = moment or datetime.now(UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Store:
    """The answers of one eval, on disk and indexed in memory.

    Args:
        errors: whether to give errors on record as well.

    Attributes:
        stopped: why attempts were refused an answer for good, by attempt: the kind, and one line.
        damaged: a message for each line of the file that could not be read.
        problem: why nothing can be written at the moment; empty if it can.
        users: how many attempts, clients and requests under way need it to be open.
    """

    def __init__(self, path: Path, *, errors: bool = False) -> None:
        self.path = path
        self._errors = errors
        self._file = AnswersFile(path)
        self._index = read_index(self._file)
        self._described: set[str] = set()
        self._admitted: set[str] = set()
        self.exchange = Exchange(self._kept)
        self.stopped = dict(self._index.stopped)
        self.damaged = damage(str(path), self._index.damaged, self._index.newer)
        self.problem = ""
        self.users = 0
        self._next: asyncio.Future[None] | None = None
        self._syncing: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Close the file; if much of it is new, a thread saves its index first."""
        if is_worth_saving(self._file, self._index):
            threading.Thread(target=self._save_and_close, name="index").start()
        else:
            self._file.close()

    def _save_and_close(self) -> None:
        with self._file, suppress(EnvironmentFault):
            read_index(self._file, self._index)

    def _look(self, find: Callable[[Index], Found]) -> Found:
        """Look into the index, which is made again if the file does not fit it any more."""
        try:
            return find(self._index)
        except ChangedError:
            self._index = read_index(self._file, Index())
            return find(self._index)

    def _kept(self, key: str) -> list[Kept]:
        kept = self._look(lambda index: index.kept(key, self._file.line))
        return [each for each in kept if self._errors or each.status < ERROR]

    def is_current(self) -> bool:
        """Whether its file still has its name; `evalset reset` moves it."""
        return self._file.is_in_place()

    def admit(self, attempt: str) -> None:
        """Prepare for an attempt; it is not given again what it was given before a crash."""
        if attempt not in self._admitted:  # else what it gave back would count again
            self._admitted.add(attempt)
            self.exchange.was_given(attempt, self._index.given_to(attempt))

    async def stop(self, attempt: str, why: Problem, reason: str) -> None:
        """Put on record, durably, that an attempt is refused an answer for good."""
        if attempt not in self.stopped:
            self.stopped[attempt] = why, reason
            await self.write(Stopped(attempt=attempt, why=why, reason=reason))
            await self.durable()

    async def describe(self, key: str, asked: Asked) -> None:
        """Append a request and its key, unless the file has it already."""
        if key in self._described:
            return
        self._described.add(key)
        if self._look(lambda index: index.describes(key, self._file.line)):
            return
        await self.write(
            Request(
                key=key,
                route=asked.route,
                method=asked.method,
                path=asked.path,
                body=asked.content,
            )
        )

    async def write(self, line: AnswersLine) -> tuple[int, int]:
        """Append a line as soon as the disk has room; return its place as `Kept` has it."""
        while True:
            try:
                place = self._file.write(line)
            except EnvironmentFault as fault:
                self.problem = str(fault)
                await asyncio.sleep(PAUSE)
            else:
                self.problem = ""
                return place

    async def durable(self) -> None:
        """Wait until what was written before is durable; many callers share one sync."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._syncing is None:
            self._syncing = asyncio.create_task(self._sync())
        await asyncio.shield(self._next)

    async def _sync(self) -> None:
        while (batch := self._next) is not None:
            self._next = None
            while not await asyncio.to_thread(self._is_synced):  # noqa: ASYNC110 - a disk has no event
                await asyncio.sleep(PAUSE)
            batch.set_result(None)
        self._syncing = None

    def _is_synced(self) -> bool:
        try:
            self._file.sync()
        except EnvironmentFault as fault:
            self.problem = str(fault)
            return False
        return True

    async def add(self, answer: Answer, waits: Callable[[], str]) -> Kept:
        """Put an answer on record, durably, and give it to the attempt that waits.

        Args:
            answer: with the attempt that waits for it now.
            waits: returns the attempt that waits for it, empty for none; it may change meanwhile.
        """
        start, size = await self.write(answer)
        await self.durable()
        owner = answer.attempt
        while owner != (now := waits()):
            if owner:
                await self.write(Returned(id=answer.id, attempt=owner, at=utc()))
            if now:
                await self.write(Given(id=answer.id, attempt=now, at=utc()))
            owner = now
        kept = Kept(
            id=answer.id,
            key=answer.key,
            sample=answer.sample,
            status=answer.status,
            start=start,
            size=size,
        )
        if answer.status < ERROR:  # an error costs nothing, and may not occur the next time
            self.exchange.add(kept)
            if owner:
                self.exchange.was_given(owner, [kept.id])
        return kept

    def read(self, kept: Kept) -> Answer:
        """Read an answer; ChangedError if the file has it no more."""
        try:
            return self._file.answer(kept)
        except ChangedError:
            self._index = read_index(self._file, Index())
            for each in self._index.kept(kept.key, self._file.line):
                if each.id == kept.id:
                    return self._file.answer(each)
            raise

    def give_back(self, kept: Kept, attempt: str) -> None:
        """Take back an answer that did not reach its attempt, which may be given it again."""
        self.exchange.give_back(kept, attempt)
        with suppress(EnvironmentFault):  # then only the next attempt is given it
            self._file.write(Returned(id=kept.id, attempt=attempt, at=utc()))
