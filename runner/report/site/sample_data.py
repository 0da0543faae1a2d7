"""Samples as the scripts of a page take them: lists of text, of which none is ever markup."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from runner.record.samples import Sample, SampleIndex

# A part of an eval's samples is one file; a browser reads it in no time.
PART_SAMPLES = 250
PART_BYTES = 400_000
# Characters of one text, and items of one list; the second where a sample is huge all the same.
ROOM = (20_000, 100)
LITTLE_ROOM = (1_000, 20)
HUGE = 200_000
# Of a model's name.
_LONGEST_NAME = 200
# Events of which a page knows what is what.
_KNOWN = {"sampling", "match"}

encode = msgspec.json.Encoder().encode


class Part(msgspec.Struct, frozen=True):
    """Some samples of an eval, as the content of a script.

    Attributes:
        number: counted from 0.
        first: place of its first sample.
        content: a call with the samples.
    """

    number: int
    first: int
    content: bytes


def parts_of(index: SampleIndex, look: Callable[[list[Any]], None]) -> Iterator[Part]:
    """The samples of an eval in parts, in a stream.

    Args:
        index: of the samples.
        look: gets each of them, as `sample_row` makes it.
    """
    texts: list[bytes] = []
    size = place = number = 0
    for sample in index.samples():
        row = sample_row(sample, ROOM)
        look(row)
        text = encode(row)
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


def sample_row(sample: Sample, room: tuple[int, int]) -> list[Any]:
    """One sample as a list.

    Returns:
        Its id; 1, 0 or None for right, wrong or neither; its score; its calls, each the messages
        of the prompt, the answers and the model; what was picked from the answer, what was
        expected; other events, each its type and its text; and how many are left out.
    """
    calls: list[list[Any]] = []
    picked: list[str] = []
    expected: list[str] = []
    others: list[tuple[str, str]] = []
    answered: Any = None
    prompt: Any = None
    for event in sample.events:
        kind, data = event.type, event.data
        if type(data) is not dict or kind not in _KNOWN:
            others.append((_text(kind, room), _text(data, room)))
        elif kind == "sampling":
            answers = _texts(data.get("sampled"), room)
            model = data.get("model")
            if type(model) is not str or len(model) > _LONGEST_NAME:
                model = ""
            calls.append([_messages(data.get("prompt"), room), answers, model])
        else:
            picked = _texts(data.get("picked"), room)
            expected = _texts(data.get("expected"), room)
            answered = data.get("sampled", answered)
            prompt = data.get("prompt", prompt)
    if not calls and (prompt is not None or answered is not None or picked):
        calls.append([_messages(prompt, room), _texts(answered, room) or picked, ""])
    if calls and picked == calls[0][1]:
        picked = []
    correct = None if sample.correct is None else int(sample.correct)
    most = room[1]
    left_out = sample.left_out + max(0, len(calls) - most) + max(0, len(others) - most)
    return [
        sample.id,
        correct,
        sample.score,
        calls[:most],
        picked,
        expected,
        others[:most],
        left_out,
    ]


def _part(number: int, first: int, texts: Sequence[bytes]) -> Part:
    return Part(number, first, call(f"part{number}", b"[%s]" % b",\n".join(texts)))


def _shortened(ids: Sequence[str]) -> list[Any]:
    """Ids that are counted through as their beginning and their count; others as they are."""
    head = ids[0].rpartition(".")[0] if ids else ""
    if head and all(name == f"{head}.{place}" for place, name in enumerate(ids)):
        return [head, len(ids)]
    return [list(ids)]


def _messages(prompt: Any, room: tuple[int, int]) -> list[tuple[str, str]]:  # noqa: ANN401 - JSON
    """The messages of a prompt, each with its role."""
    if type(prompt) is list and all(type(one) is dict for one in prompt):
        shown = [_message(one, room) for one in prompt[: room[1]]]
        if more := len(prompt) - len(shown):
            shown.append(("", f"… and {more} more messages"))
        return shown
    return [] if prompt is None else [("", _text(prompt, room))]


def _message(message: dict[str, Any], room: tuple[int, int]) -> tuple[str, str]:
    role, content = message.get("role", ""), message.get("content")
    if type(role) is str and type(content) is str and len(role) + len(content) <= room[0]:
        return role, content
    return _text(role, room), _content(content, room)


def _content(content: Any, room: tuple[int, int]) -> str:  # noqa: ANN401 - JSON
    """A message's content, of which newer APIs make a list of parts."""
    if isinstance(content, list) and all(isinstance(one, dict) for one in content):
        parts = [one.get("text", f"[{one.get('type')}]") for one in content[: room[1]]]
        return _text("\n".join(map(str, parts)), room)
    return _text("" if content is None else content, room)


def _texts(value: Any, room: tuple[int, int]) -> list[str]:  # noqa: ANN401 - JSON
    """What may be one text or a list of them."""
    if value is None:
        return []
    most = room[0]
    # Calls take their time, and there are millions of short texts.
    if type(value) is str:
        return [value if len(value) <= most else _text(value, room)]
    if type(value) is not list:
        return [_text(value, room)]
    return [
        one if type(one) is str and len(one) <= most else _text(one, room)
        for one in value[: room[1]]
    ]


def _text(value: Any, room: tuple[int, int]) -> str:  # noqa: ANN401 - JSON
    """A value as text, cut where it is long."""
    text = value if isinstance(value, str) else encode(value).decode()
    if len(text) <= room[0]:
        return text
    return f"{text[: room[0]]}… and {len(text) - room[0]:,} more characters"
