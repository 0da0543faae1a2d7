"""The answers that one attempt was given, to give them again, and what a rerun made of them."""

from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from runner.files import UNREADABLE, append, make_folder, read_bytes
from runner.records.answers import Answer, AnswersLine, Failed, Given, Request, Returned, Sent

_decode = msgspec.json.Decoder(AnswersLine).decode

# Characters of a request that a line shows.
LONGEST = 100


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What an answers file has for one attempt.

    Attributes:
        answers: in the order in which they were given.
        requests: those that the file describes, by key.
        unclear: how many of the answers stand for equal requests that were answered differently,
            with no word on which sample each is for.
        damaged: numbers of the lines that cannot be read.
    """

    answers: tuple[Answer, ...] = ()
    requests: dict[str, Request] = {}
    unclear: int = 0
    damaged: tuple[int, ...] = ()

    @property
    def routes(self) -> frozenset[str]:
        """Names of the providers that gave the answers."""
        keys = {answer.key for answer in self.answers}
        return frozenset(self.requests[key].route for key in keys & self.requests.keys())

    def lines(self) -> Iterator[bytes]:
        """An answers file for whoever asks again: these answers, given to nobody yet."""
        for key in dict.fromkeys(answer.key for answer in self.answers):
            if key in self.requests:
                yield msgspec.json.encode(self.requests[key]) + b"\n"
        for answer in self.answers:
            yield msgspec.json.encode(msgspec.structs.replace(answer, attempt="")) + b"\n"


def read_replay(path: Path, attempt: str) -> Replay:
    """Read what an attempt was given; nothing where there is no such file.

    Raises:
        EnvironmentFault: it cannot be read.
    """
    return parse_replay(read_bytes(path), attempt)


def parse_replay(content: bytes, attempt: str) -> Replay:
    """Read what an answers file says that an attempt was given."""
    answers: dict[str, Answer] = {}
    requests: dict[str, Request] = {}
    given: dict[str, None] = {}
    damaged = []
    for number, line in _lines(content):
        match line:
            case None:
                damaged.append(number)
            case Request(key=key):
                requests.setdefault(key, line)
            case Answer(id=id_):
                if id_ not in answers and line.attempt == attempt:
                    given[id_] = None
                answers.setdefault(id_, line)
            case Given(id=id_) if line.attempt == attempt:
                given.pop(id_, None)
                given[id_] = None
            case Returned(id=id_) if line.attempt == attempt:
                given.pop(id_, None)
    found = tuple(answers[id_] for id_ in given if id_ in answers)
    return Replay(answers=found, requests=requests, unclear=_unclear(found), damaged=tuple(damaged))


def write_replay(path: Path, replay: Replay) -> None:
    """Write an answers file for a rerun."""
    make_folder(path.parent)
    append(path, b"".join(replay.lines()))


def _lines(content: bytes) -> Iterator[tuple[int, AnswersLine | None]]:
    """Each line with its number; None is one that cannot be read, but not a torn last one."""
    lines = content.split(b"\n")
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            yield number, _decode(text)
        except UNREADABLE:
            if number < len(lines):
                yield number, None


def _unclear(answers: Collection[Answer]) -> int:
    bodies: dict[str, set[str]] = {}
    nameless: dict[str, int] = {}
    for answer in answers:
        bodies.setdefault(answer.key, set()).add(answer.body)
        nameless[answer.key] = nameless.get(answer.key, 0) + (not answer.sample)
    return sum(count for key, count in nameless.items() if len(bodies[key]) > 1)


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A request of a rerun that the record has no answer for.

    Attributes:
        sample: that asked; empty where nobody said.
        shown: the request, on one line.
        known: whether it was asked before, fewer times or without an answer.
    """

    sample: str
    shown: str
    known: bool


class Rerun(msgspec.Struct, frozen=True, kw_only=True):
    """What a rerun made of the answers that it could have.

    Attributes:
        missing: requests without an answer, in order.
        left: how many answers it did not ask for.
    """

    missing: tuple[Missing, ...] = ()
    left: int = 0


def read_rerun(path: Path, attempt: str, replay: Replay) -> Rerun:
    """Read what the gateway noted of a rerun's attempt.

    Args:
        path: the answers file that `write_replay` wrote, and the gateway has added to.
        replay: what was there to be given.
    """
    requests = dict(replay.requests)
    sent: dict[str, Sent] = {}
    given: set[str] = set()
    missing = []
    for _, line in _lines(read_bytes(path)):
        match line:
            case Request(key=key):
                requests.setdefault(key, line)
            case Sent(id=id_) if line.attempt == attempt:
                sent[id_] = line
            case Failed(id=id_) if id_ in sent:
                one = sent[id_]
                missing.append(
                    Missing(
                        sample=one.sample,
                        shown=shown_request(requests.get(one.key), one.model),
                        known=one.key in replay.requests,
                    )
                )
            case Given(id=id_) if line.attempt == attempt:
                given.add(id_)
            case Returned(id=id_) if line.attempt == attempt:
                given.discard(id_)
    left = sum(answer.id not in given for answer in replay.answers)
    return Rerun(missing=tuple(missing), left=left)


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
