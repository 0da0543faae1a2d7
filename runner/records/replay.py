"""The answers that one attempt was given, to give them again, and what a rerun made of them."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec

from runner.files import UNREADABLE, make_folder, named
from runner.records.answers import Answer, AnswersLine, Failed, Given, Request, Returned, Sent

_decode = msgspec.json.Decoder(AnswersLine).decode

# Characters of a request that a line shows.
LONGEST = 100


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a line lies in its file, so that memory need not hold it.

    Attributes:
        start: in bytes.
        size: in bytes, with the newline.
    """

    start: int
    size: int


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What an answers file has for one attempt, without the texts.

    Attributes:
        answers: ids of those that it was given, in that order.
        lines: of these answers, and before them of the requests that they are answers to.
        known: keys of all requests that the file describes.
        routes: names of the providers that gave the answers.
        unclear: how many of the answers stand for equal requests that were answered differently,
            with no word on which sample each is for.
        damaged: numbers of the lines that cannot be read.
    """

    answers: tuple[str, ...] = ()
    lines: tuple[Place, ...] = ()
    known: frozenset[str] = frozenset()
    routes: frozenset[str] = frozenset()
    unclear: int = 0
    damaged: tuple[int, ...] = ()


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """What counts of an answer.

    Attributes:
        body: a hash of it.
    """

    key: str
    named: bool
    body: int
    place: Place


class _Reading:
    """Reads the lines of an answers file for one attempt."""

    def __init__(self, attempt: str) -> None:
        self._attempt = attempt
        self._answers: dict[str, _Known] = {}
        self._requests: dict[str, tuple[str, Place]] = {}
        self._given: dict[str, None] = {}

    def take(self, line: AnswersLine, place: Place) -> None:
        """Read one line; of a line that is there twice the first one counts."""
        match line:
            case Request(key=key):
                self._requests.setdefault(key, (line.route, place))
            case Answer(id=id_) if id_ not in self._answers:
                if line.attempt == self._attempt:
                    self._given[id_] = None
                self._answers[id_] = _Known(
                    key=line.key, named=bool(line.sample), body=hash(line.body), place=place
                )
            case Given(id=id_) if line.attempt == self._attempt:
                self._given.pop(id_, None)
                self._given[id_] = None
            case Returned(id=id_) if line.attempt == self._attempt:
                self._given.pop(id_, None)

    def replay(self, damaged: Sequence[int]) -> Replay:
        """What they add up to."""
        given = {id_: self._answers[id_] for id_ in self._given if id_ in self._answers}
        keys = dict.fromkeys(answer.key for answer in given.values())
        asked = [self._requests[key] for key in keys if key in self._requests]
        return Replay(
            answers=tuple(given),
            lines=(*(place for _, place in asked), *(answer.place for answer in given.values())),
            known=frozenset(self._requests),
            routes=frozenset(route for route, _ in asked),
            unclear=_unclear(given.values()),
            damaged=tuple(damaged),
        )


def read_replay(path: Path, attempt: str) -> Replay:
    """Read what an attempt was given; nothing where there is no such file.

    Raises:
        EnvironmentFault: it cannot be read.
    """
    reading = _Reading(attempt)
    damaged = []
    for line in _lines(path):
        if line.content is None:
            damaged.append(line.number)
        else:
            reading.take(line.content, line.place)
    return reading.replay(damaged)


def write_replay(replay: Replay, source: Path, target: Path) -> None:
    """Write an answers file for whoever asks again: these answers, given to nobody yet."""
    make_folder(target.parent)
    with (
        named(source, "read"),
        source.open("rb") as file,
        named(target, "write"),
        target.open("xb") as copy,
    ):
        for place in replay.lines:
            file.seek(place.start)
            line = _decode(file.read(place.size))
            if isinstance(line, Answer):
                line = msgspec.structs.replace(line, attempt="")
            copy.write(msgspec.json.encode(line) + b"\n")


class _Line(msgspec.Struct, frozen=True):
    """A line of an answers file; None is one that cannot be read, and is not a torn last one."""

    number: int
    content: AnswersLine | None
    place: Place


def _lines(path: Path) -> Iterator[_Line]:
    if not path.exists():
        return
    start = 0
    with named(path, "read"), path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            place = Place(start=start, size=len(text))
            start += len(text)
            try:
                yield _Line(number, _decode(text), place)
            except UNREADABLE:
                if text.strip() and text.endswith(b"\n"):
                    yield _Line(number, None, place)


def _unclear(answers: Collection[_Known]) -> int:
    bodies: dict[str, set[int]] = {}
    nameless: Counter[str] = Counter()
    for answer in answers:
        bodies.setdefault(answer.key, set()).add(answer.body)
        nameless[answer.key] += not answer.named
    return sum(count for key, count in nameless.items() if len(bodies[key]) > 1)


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A request of a rerun that the record has no answer for.

    Attributes:
        sample: that asked; empty where nobody said.
        request: on one line.
        asked_before: whether it was, fewer times or without an answer.
    """

    sample: str
    request: str
    asked_before: bool


class Unmatched(msgspec.Struct, frozen=True, kw_only=True):
    """What a rerun made of the answers that it could have.

    Attributes:
        missing: requests without an answer, in order.
        left: how many answers it did not ask for.
    """

    missing: tuple[Missing, ...] = ()
    left: int = 0


def read_unmatched(path: Path, attempt: str, replay: Replay) -> Unmatched:
    """Read what the gateway noted of a rerun's attempt.

    Args:
        path: the answers file that `write_replay` wrote, and the gateway has added to.
        replay: what was there to be given.
    """
    requests: dict[str, Request] = {}
    sent: dict[str, Sent] = {}
    given: set[str] = set()
    missing = []
    for line in (each.content for each in _lines(path)):
        match line:
            case Request(key=key):
                requests.setdefault(key, line)
            case Sent(id=id_) if line.attempt == attempt:
                sent[id_] = line
            case Failed(id=id_) if id_ in sent:
                one = sent[id_]
                request = shown_request(requests.get(one.key), one.model)
                before = one.key in replay.known
                missing.append(Missing(sample=one.sample, request=request, asked_before=before))
            case Given(id=id_) if line.attempt == attempt:
                given.add(id_)
            case Returned(id=id_) if line.attempt == attempt:
                given.discard(id_)
    left = sum(id_ not in given for id_ in replay.answers)
    return Unmatched(missing=tuple(missing), left=left)


def shown_request(request: Request | None, model: str) -> str:
    """A request for people: where it goes, the model, and the end of what it says."""
    if request is None:
        return model
    parts = [request.method, request.path, model, _said(request.body)]
    text = " ".join(filter(None, parts))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _said(body: object) -> str:
    """What a request asks: its last message, its prompt or its input."""
    if not isinstance(body, dict):
        return ""
    said = body.get("messages") or body.get("prompt") or body.get("input") or ""
    while isinstance(said, list) and said:
        said = said[-1]
    if isinstance(said, dict):
        said = said.get("content") or ""
    text = said if isinstance(said, str) else msgspec.json.encode(said).decode()
    return msgspec.json.encode(text).decode() if text else ""
