"""The tokens that an answer took according to its provider, without input or output."""

from collections.abc import Iterator
from typing import Any

import msgspec

from runner.files import UNREADABLE
from runner.records.answers import Usage

# A larger figure cannot be what a provider means.
MOST = 10**15

# Events of a stream whose `usage` is final; in earlier ones it is that of a part of the answer.
_LAST = {"message_delta", "response.completed", "response.incomplete", "response.failed"}


class _Part(msgspec.Struct):
    usage: dict[str, Any] | None = None


class _Event(_Part):
    """A whole answer, or an event of a stream, without its large fields.

    Attributes:
        message: of Anthropic's `message_start`.
        response: of OpenAI's `response.completed`.
        x_groq: Groq's place for the usage of a stream.
    """

    type: str = ""
    choices: Any = None
    message: _Part | None = None
    response: _Part | None = None
    x_groq: _Part | None = None


_decode_whole = msgspec.json.Decoder(_Part).decode
_decode_event = msgspec.json.Decoder(_Event).decode


def usage_of(body: bytes) -> Usage | None:
    """Find the usage in an answer: a JSON object or a stream of events, not compressed.

    It understands the APIs of OpenAI (chat, completions, embeddings, responses) and Anthropic
    (messages).

    Returns:
        None if it has none: an error, a body that is cut off or garbled, or a stream whose client
        has not asked for usage.
    """
    if body.lstrip()[:1] == b"{":
        try:
            return _usage(_decode_whole(body).usage)
        except UNREADABLE:
            return None
    return _of_stream(body)


def _of_stream(body: bytes) -> Usage | None:
    """The usage that the events of a stream add up to, if it is complete."""
    counts: dict[str, Any] = {}
    is_whole = b"[DONE]" in _data_with(b"[DONE]", body)
    for data in _data_with(b'"usage"', body):
        if (event := _event(data)) is not None:
            for part in (event, event.message, event.response, event.x_groq):
                if part is not None and part.usage:
                    counts |= {name: value for name, value in part.usage.items() if value}
                    is_whole |= event.type in _LAST or event.choices == []
    return _usage(counts) if is_whole else None


def _data_with(sign: bytes, body: bytes) -> Iterator[bytes]:
    """The data of the events that contain a sign, which are few in a stream."""
    at = body.find(sign)
    while at >= 0:
        start = body.rfind(b"\n", 0, at) + 1
        end = body.find(b"\n", at)
        end = len(body) if end < 0 else end
        if body.startswith(b"data:", start):
            yield body[start + 5 : end].strip()
        at = body.find(sign, end)


def _event(data: bytes) -> _Event | None:
    try:
        return _decode_event(data)
    except UNREADABLE:
        return None


def _usage(counts: dict[str, Any] | None) -> Usage | None:
    if not counts:
        return None
    prompt = _count(counts, "prompt_tokens", "input_tokens")
    if prompt is None:
        return None
    # Anthropic counts separately what it writes to a cache and what it reads from it.
    read = _count(counts, "cache_read_input_tokens") or 0
    prompt += read + (_count(counts, "cache_creation_input_tokens") or 0)
    details = counts.get("prompt_tokens_details") or counts.get("input_tokens_details")
    if isinstance(details, dict):
        read += _count(details, "cached_tokens") or 0
    # Some count reasoning, which is billed, only in the total.
    hidden = (_count(counts, "total_tokens") or 0) - prompt
    output = max(_count(counts, "completion_tokens", "output_tokens") or 0, hidden)
    return Usage(input=prompt, output=output, cached=min(read, prompt))


def _count(counts: dict[str, Any], *names: str) -> int | None:
    """The first of these fields that is a number of tokens."""
    for name in names:
        value = counts.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST:
            return value
    return None
