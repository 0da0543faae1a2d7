from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from runner.records.samples import Sample, SampleIndex

# Of a part, which is one file: a browser reads so much in no time.
PART_SAMPLES = 500

PART_BYTES = 400_000

# Characters of one text, and items of one list; the second where a sample is huge all the same.
ROOM = (20_000, 100)

LITTLE_ROOM = (1_000, 20)

HUGE = 200_000

# Of a model's name.
_LONGEST_NAME = 200

# Events whose parts a page shows by name.
_KNOWN = {"sampling", "match"}

encode = msgspec.json.Encoder().encode

# Such depth is made to break readers.
_TOO_DEEP = "nested too deeply to be shown"


class Part(msgspec.Struct, frozen=True):
    """Some samples of an eval as a script, its number from 0, and the place of its first sample."""

    number: int
    first: int
    content: bytes


def parts_of(index: SampleIndex, look: Callable[[list[Any]], None]) -> Iterator[Part]:
    """The samples of an eval in parts, in a stream; `look` gets each, as `sample_row` makes it."""
    texts: list[bytes] = []
    size = place = number = 0
    for sample in index.samples():
        row, text = _encoded(sample)
        look(row)
        if len(text) > HUGE:
            text = encode(sample_row(sample, LITTLE_ROOM))
        if texts and (len(texts) == PART_SAMPLES or size + len(text) > PART_BYTES):
            yield _part(number, place, texts)
            number, place, texts, size = number + 1, place + len(texts), [], 0
        texts.append(text)
        size += len(text)
    if texts:
        yield _part(number, place, texts)


def index_script(index: SampleIndex, firsts: Sequence[int]) -> bytes:
    """What a page needs to know of all samples: their ids, which are right, and in which part."""
    signs = {True: "1", False: "0", None: "-"}
    content = {
        "ids": _shortened(index.ids),
        "correct": "".join(signs[one] for one in index.correct),
        "parts": list(firsts),
    }
    return call("index", encode(content))


def call(name: str, content: bytes) -> bytes:
    """A script that hands data to the page that loads it."""
    return b'evalset.take("%s",%s)\n' % (name.encode(), content)


def sample_row(sample: Sample, room: tuple[int, int] | None) -> list[Any]:
    """One sample as a list.

    Args:
        sample: what was logged of it.
        room: where texts and lists are cut; None for a sample that is so short that none is.

    Returns:
        Its id; 1, 0 or None for right, wrong or neither; its score; its calls, each the prompt, the
        answers and the model; what was picked from the answer, what was expected; other events,
        each its type and its text; and how many are left out.
    """
    calls: list[tuple[Any, Any, str]] = []
    others: list[tuple[str, str]] = []
    match: dict[str, Any] = {}
    for event in sample.events:
        kind, data = event.type, event.data
        if type(data) is not dict or kind not in _KNOWN:
            others.append((_text(kind, ROOM), _text(data, room or ROOM)))
        elif kind == "match":
            match = data
        else:
            model = data.get("model")
            if type(model) is not str or len(model) > _LONGEST_NAME:
                model = ""
            calls.append((data.get("prompt"), data.get("sampled"), model))
    picked = match.get("picked")
    if not calls and match:
        answer = match.get("sampled")
        calls.append((match.get("prompt"), picked if answer is None else answer, ""))
    expected = match.get("expected")
    left_out = sample.events_left_out
    if room is not None:
        most = room[1]
        left_out += max(0, len(calls) - most) + max(0, len(others) - most)
        others = others[:most]
        calls = [
            (_messages(prompt, room), _texts(answers, room), model)
            for prompt, answers, model in calls[:most]
        ]
        picked, expected = _texts(picked, room), _texts(expected, room)
    correct = None if sample.correct is None else int(sample.correct)
    return [sample.id, correct, sample.score, calls, picked, expected, others, left_out]


def beginning(value: Any, length: int) -> str:  # noqa: ANN401 - JSON
    """The beginning of an answer, or of several, on one line."""
    return " | ".join(_texts(value, (length, 3)))[:length]


def _encoded(sample: Sample) -> tuple[list[Any], bytes]:
    if sample.size <= ROOM[0]:
        with suppress(RecursionError):
            row = sample_row(sample, None)
            return row, encode(row)
    row = sample_row(sample, ROOM)
    return row, encode(row)


def _part(number: int, first: int, texts: Sequence[bytes]) -> Part:
    return Part(number, first, call(f"part{number}", b"[%s]" % b",\n".join(texts)))


def _shortened(ids: Sequence[str]) -> list[Any]:
    """Ids that are counted through as their beginning and their count; others as they are."""
    head = ids[0].rpartition(".")[0] if ids else ""
    if head and all(name == f"{head}.{place}" for place, name in enumerate(ids)):
        return [head, len(ids)]
    return [list(ids)]


def _messages(prompt: Any, room: tuple[int, int]) -> Any:  # noqa: ANN401 - JSON
    """A prompt: messages, each with its role, or one text."""
    if not isinstance(prompt, list) or not all(isinstance(one, dict) for one in prompt):
        return None if prompt is None else _text(prompt, room)
    messages = [
        {name: _text(one.get(name, ""), room) for name in ("role", "content")}
        for one in prompt[: room[1]]
    ]
    if more := len(prompt) - len(messages):
        messages.append({"role": "", "content": f"… and {more} more messages"})
    return messages


def _texts(value: Any, room: tuple[int, int]) -> list[str]:  # noqa: ANN401 - JSON
    """What may be one text or a list of them."""
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    return [_text(one, room) for one in values[: room[1]]]


def _text(value: Any, room: tuple[int, int]) -> str:  # noqa: ANN401 - JSON
    """A value as text, cut where it is long."""
    try:
        text = value if isinstance(value, str) else encode(value).decode()
    except RecursionError:
        text = _TOO_DEEP
    if len(text) <= room[0]:
        return text
    return f"{text[: room[0]]}… and {len(text) - room[0]:,} more characters"
