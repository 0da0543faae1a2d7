import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.gateway.tokens import usage_of
from runner.records.answers import Usage

CHAT: dict[str, object] = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def cached(count: int) -> dict[str, object]:
    return CHAT | {"prompt_tokens_details": {"cached_tokens": count}}


def whole(usage: object) -> bytes:
    return json.dumps({"id": "x", "choices": [{"text": '"usage"'}], "usage": usage}).encode()


def stream(*events: dict[str, Any] | str, end: str = "\n\n") -> bytes:
    lines = [each if isinstance(each, str) else json.dumps(each) for each in events]
    return "".join(f"data: {line}{end}" for line in lines).encode()


@pytest.mark.parametrize(
    ("usage", "found"),
    [
        (CHAT, Usage(input=9, output=4)),
        (
            CHAT | {"prompt_tokens_details": {"cached_tokens": 5}},
            Usage(input=9, output=4, cached=5),
        ),
        (CHAT | {"prompt_tokens_details": None}, Usage(input=9, output=4)),
        ({"prompt_tokens": 9, "total_tokens": 9}, Usage(input=9)),
        (CHAT | {"total_tokens": 20}, Usage(input=9, output=11)),
        (
            {"input_tokens": 9, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 3}},
            Usage(input=9, output=4, cached=3),
        ),
        (
            {
                "input_tokens": 9,
                "output_tokens": 4,
                "cache_creation_input_tokens": 100,
                "cache_read_input_tokens": 1000,
            },
            Usage(input=1109, output=4, cached=1000),
        ),
        (
            CHAT | {"prompt_tokens_details": {"cached_tokens": 99}},
            Usage(input=9, output=4, cached=9),
        ),
        (None, None),
        ({}, None),
        ({"prompt_tokens": "9"}, None),
        ({"prompt_tokens": True}, None),
        ({"prompt_tokens": -1, "completion_tokens": 1}, None),
        ({"prompt_tokens": 1.5}, None),
        ({"prompt_tokens": 10**15}, None),
        ({"completion_tokens": 4}, None),
        ([1], None),
    ],
)
def test_the_usage_of_a_whole_answer(usage: object, found: Usage | None) -> None:
    """OpenAI's names and Anthropic's; what is no number of tokens is none."""
    assert usage_of(whole(usage)) == found


@pytest.mark.parametrize(
    "body", [b"", b"{", b"<html>usage</html>", b'{"error": {"message": "no"}}', b"[1]", b"\xff{"]
)
def test_an_answer_without_usage(body: bytes) -> None:
    """An error, a page, a body that is cut."""
    assert usage_of(body) is None


def piece(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    return {"choices": [{"delta": {"content": '"usage": 7'}}], **more}


def test_a_stream_of_openai_says_it_in_its_last_event() -> None:
    """It comes with no choice and only where the client asks; events before it say null."""
    last = {"choices": [], "usage": CHAT}
    found = Usage(input=9, output=4)
    assert usage_of(stream(piece(usage=None), last, "[DONE]")) == found
    assert usage_of(stream(piece(usage=None), last, "[DONE]", end="\r\n\r\n")) == found
    assert usage_of(stream(piece(), piece(), "[DONE]")) is None


def test_usage_with_each_piece_counts_at_the_end_alone() -> None:
    """A stream that is cut in the middle says nothing, for tokens came that it has not counted."""
    pieces = [piece(usage=CHAT | {"completion_tokens": n, "total_tokens": 9 + n}) for n in (1, 2)]
    assert usage_of(stream(*pieces)) is None
    assert usage_of(stream(*pieces, "[DONE]")) == Usage(input=9, output=2)


def test_a_stream_of_groq_has_it_elsewhere() -> None:
    """In a field of its own."""
    body = stream(piece(), piece(x_groq={"id": "1", "usage": CHAT}), "[DONE]")
    assert usage_of(body) == Usage(input=9, output=4)


def test_a_stream_of_anthropic_says_it_in_two_parts() -> None:
    """The prompt first, the answer last; without the last part nobody knows."""
    start = {
        "type": "message_start",
        "message": {"usage": {"input_tokens": 9, "cache_read_input_tokens": 6, "output_tokens": 1}},
    }
    text = {"type": "content_block_delta", "delta": {"text": "hello"}}
    delta = {"type": "message_delta", "usage": {"input_tokens": 0, "output_tokens": 40}}
    assert usage_of(stream(start, text, delta)) == Usage(input=15, output=40, cached=6)
    assert usage_of(stream(start, text)) is None


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.failed"])
def test_a_stream_of_responses_says_it_when_it_is_over(kind: str) -> None:
    """Below the response, as the whole answer has it."""
    over = {"type": kind, "response": {"usage": {"input_tokens": 9, "output_tokens": 4}}}
    begun = {"type": "response.created", "response": {"usage": None}}
    assert usage_of(stream(begun, over)) == Usage(input=9, output=4)
    assert usage_of(stream(begun)) is None


def test_a_stream_with_garbage_in_it() -> None:
    """Events that are none are passed over."""
    last = {"choices": [], "usage": CHAT}
    body = stream('{"usage": [', '{"usage": 3}', '{"type": 3, "usage": {}}', last)
    assert usage_of(b": comment\nevent: x\n" + body) == Usage(input=9, output=4)


@given(st.binary() | st.text().map(lambda text: f'data: {{"usage": {text}\n'.encode()))
def test_no_body_breaks_it(body: bytes) -> None:
    """Whatever a provider sends."""
    usage_of(body)
