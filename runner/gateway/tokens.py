"""How many tokens a request can cost at most, and how many its answer took.

Both are read from the bodies alone, without input or output.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from runner.files import UNREADABLE
from runner.records.answers import Usage

# Tokens that a provider adds to each request: a preamble, the beginning of the answer.
OVERHEAD = 256

# Tokens that it adds to a request with tools: Anthropic's instructions are the longest.
TOOLS = 1_024

# Reserved for an image, a file or a sound. What they cost depends on model, size and detail, so
# that this is no bound.
MEDIUM = 5_000

# Reserved for an answer whose length the request does not limit.
OUTPUT = 4_096

# A larger number in a request is not meant as one.
MOST = 10**12

_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")

_IMAGES = ("image_url", "image", "input_image")

# Types of the parts of messages that contain all of their text, in any of the APIs.
_TEXTS = (
    *("text", "input_text", "output_text", "refusal", "message", "reasoning", "summary_text"),
    *("thinking", "redacted_thinking", "function", "custom"),
    *("tool_use", "tool_result", "function_call", "function_call_output"),
    *("custom_tool_call", "custom_tool_call_output"),
)

# With these fields, a provider bills tokens that the request does not show, or at another price.
_MORE = (
    *("previous_response_id", "conversation", "web_search_options", "data_sources"),
    *("mcp_servers", "prediction", "plugins", "models", "audio"),
)

# Writing to a cache, which this asks for, costs more than reading a prompt.
_CACHE = "cache_control"

# No message is nested more deeply.
_DEEPEST = 20

# A larger figure cannot be what a provider means.
MOST_USED = 10**15

# Events of a stream whose `usage` is final; in earlier ones it is that of a part of the answer.
_LAST = {"message_delta", "response.completed", "response.incomplete", "response.failed"}


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """What a request can cost at most, in tokens.

    Attributes:
        input: of the prompt.
        output: of all answers.
        bounded: whether it cannot cost more; if not, the figures are what is usual.
    """

    input: int = 0
    output: int = 0
    bounded: bool = True


def bound_of(path: str, raw: bytes, content: object) -> Bound:
    """Bound the tokens of a request.

    In each of today's tokenizers, a token stands for at least one byte of text, and the JSON around
    a message has more bytes than any template adds tokens. So the number of bytes of the body is a
    bound for the prompt: for English it is about four times the number of tokens.

    Args:
        path: of the request, without its query.
        raw: its body, not compressed.
        content: the same as JSON; None where there is none, which costs nothing.
    """
    if content is None or path.endswith("/count_tokens"):
        return Bound()
    if not isinstance(content, dict):
        return Bound(input=len(raw) + OVERHEAD, output=OUTPUT, bounded=False)
    parts = _parts([content.get(name) for name in ("messages", "input", "system")])
    media = [part for part in parts if not _is_text(part)]
    tools = _tools(content)
    # The base64 of an image is not text.
    size = len(raw) - sum(_size_of_image(part) for part in media)
    shows_all = not (
        media
        or any(content.get(name) for name in _MORE)
        or isinstance(content.get("prompt"), Mapping)  # it is stored with the provider
        or any(_is_hosted(tool) for tool in tools)
        or any(isinstance(each, dict) and _CACHE in each for each in (content, *parts, *tools))
    )
    output, limited = (0, True) if path.endswith("/embeddings") else _output(content)
    return Bound(
        input=size + OVERHEAD + (TOOLS if tools else 0) + MEDIUM * len(media),
        output=output,
        bounded=shows_all and limited,
    )


def _output(content: Mapping[str, Any]) -> tuple[int, bool]:
    """The tokens of all answers, and whether the request limits them."""
    given = [_number(content.get(name)) for name in _LIMITS]
    limits = [number for number in given if number is not None]
    each = max(limits, default=OUTPUT)
    answers = max(_number(content.get(name)) or 1 for name in ("n", "best_of"))
    return each * answers * _prompts(content.get("prompt")), bool(limits)


def _number(value: object) -> int | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST:
        return int(value)
    return None


def _prompts(prompt: object) -> int:
    """How many prompts a completion has; a list of numbers is one, in tokens."""
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        return len(prompt)
    return 1


def _tools(content: Mapping[str, Any]) -> list[object]:
    found: list[object] = []
    for name in ("tools", "functions"):
        given = content.get(name)
        if given:
            found += given if isinstance(given, list) else [given]
    return found


def _is_hosted(tool: object) -> bool:
    """Whether the provider runs a tool itself, and bills its results."""
    return not isinstance(tool, dict) or (
        tool.get("type", "function") not in ("function", "custom") and "input_schema" not in tool
    )


def _is_text(part: Mapping[str, Any]) -> bool:
    return part.get("type", "text") in _TEXTS


def _parts(value: object) -> list[Mapping[str, Any]]:
    """All objects in messages, without those inside of one that is not text."""
    parts: list[Mapping[str, Any]] = []
    level: list[object] = [value]
    for _ in range(_DEEPEST):
        below: list[object] = []
        for each in level:
            if isinstance(each, list):
                below += [inner for inner in each if isinstance(inner, list | dict)]
            elif isinstance(each, dict):
                parts.append(each)
                if _is_text(each):
                    below += [inner for inner in each.values() if isinstance(inner, list | dict)]
        if not below:
            return parts
        level = below
    return [*parts, {"type": "deeper"}]


def _size_of_image(part: Mapping[str, Any]) -> int:
    """Bytes of the data URL or base64 in an image's part; 0 for any other part."""
    if part.get("type") not in _IMAGES:
        return 0
    found = [part.get("image_url"), part.get("source")]
    inner = [each for each in found if isinstance(each, dict)]
    found += [each.get(name) for each in inner for name in ("url", "data")]
    return sum(len(each) for each in found if isinstance(each, str))


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


def data_of(body: bytes) -> Iterator[bytes]:
    """The data of all events of a stream but its last word; one has a line for each of its own."""
    for event in re.split(rb"\r?\n\r?\n|\r\r", body):
        lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
        if lines and lines != [b"[DONE]"]:
            yield b"\n".join(lines)


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
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_USED:
            return value
    return None
