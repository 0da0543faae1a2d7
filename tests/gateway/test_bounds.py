import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.gateway.tokens import MEDIUM, OUTPUT, OVERHEAD, TOOLS, Bound, bound_of

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
IMAGE = "data:image/png;base64," + base64.b64encode(bytes(30_000)).decode()


def of(content: object, path: str = CHAT) -> Bound:
    return bound_of(path, json.dumps(content).encode(), content)


def chat(**more: Any) -> Bound:  # noqa: ANN401 - any field
    return of({"model": "m", "messages": HELLO, **more})


@given(st.lists(st.text(), max_size=5), st.text(max_size=20))
def test_a_prompt_has_no_more_tokens_than_bytes(texts: list[str], model: str) -> None:
    """With some more for each message, which the JSON around it has."""
    messages = [{"role": "user", "content": text} for text in texts]
    content = {"model": model, "messages": messages, "max_tokens": 1}
    raw = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    found = bound_of(CHAT, raw.encode(errors="surrogatepass"), content)
    least = sum(len(text.encode(errors="surrogatepass")) + 8 for text in texts) + OVERHEAD
    assert found.input >= least
    assert found.bounded


@pytest.mark.parametrize(
    ("more", "output", "bounded"),
    [
        ({"max_tokens": 10}, 10, True),
        ({"max_completion_tokens": 10}, 10, True),
        ({"max_output_tokens": 10}, 10, True),
        ({"max_tokens": 10, "max_completion_tokens": 30}, 30, True),
        ({"max_tokens": 10, "n": 3}, 30, True),
        ({"max_tokens": 10, "n": 2, "best_of": 5}, 50, True),
        ({"max_tokens": 0}, 0, True),
        ({}, OUTPUT, False),
        ({"n": 2}, 2 * OUTPUT, False),
        ({"max_tokens": None}, OUTPUT, False),
        ({"max_tokens": "10"}, OUTPUT, False),
        ({"max_tokens": -1}, OUTPUT, False),
        ({"max_tokens": True}, OUTPUT, False),
        ({"max_tokens": float("nan")}, OUTPUT, False),
        ({"max_tokens": 10, "n": "many"}, 10, True),
    ],
)
def test_an_answer_is_as_long_as_the_request_allows(
    more: dict[str, object], output: int, *, bounded: bool
) -> None:
    """Where it sets no limit, what is usual is reserved, and it is said to be no bound."""
    found = chat(**more)
    assert (found.output, found.bounded) == (output, bounded)


@pytest.mark.parametrize(
    ("prompt", "answers"),
    [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3], [4]], 3), ([], 1)],
)
def test_each_of_several_prompts_has_its_answers(prompt: object, answers: int) -> None:
    """Of completions; a list of numbers is one prompt, in tokens."""
    found = of({"model": "m", "prompt": prompt, "max_tokens": 7, "n": 2}, "/v1/completions")
    assert (found.output, found.bounded) == (7 * 2 * answers, True)


def test_embeddings_have_no_answer() -> None:
    """Nor do questions that cost nothing."""
    found = of({"model": "m", "input": ["text"]}, "/v1/embeddings")
    assert (found.output, found.bounded) == (0, True)
    assert of({"messages": HELLO}, "/v1/messages/count_tokens") == Bound()
    assert bound_of("/v1/models", b"", None) == Bound()


@pytest.mark.parametrize("name", ["tools", "functions"])
def test_tools_count(name: str) -> None:
    """Their JSON, and what a provider adds for them."""
    content = {"model": "m", "messages": HELLO, "max_tokens": 1, name: [TOOL]}
    found = of(content)
    assert found == Bound(input=len(json.dumps(content)) + OVERHEAD + TOOLS, output=1)


def test_tools_that_the_provider_runs_have_no_bound() -> None:
    """It bills what they bring."""
    assert not chat(max_tokens=1, tools=[TOOL, {"type": "web_search"}]).bounded
    assert not chat(max_tokens=1, tools=["web"]).bounded
    assert chat(max_tokens=1, tools=[{"name": "f", "input_schema": {}}]).bounded


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": IMAGE}},
        {"type": "input_image", "image_url": IMAGE},
        {"type": "image", "source": {"type": "base64", "data": IMAGE}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    ],
)
def test_an_image_is_reserved_for_but_not_bounded(part: dict[str, object]) -> None:
    """Its base64 is no text; one inside a tool's result counts, too."""
    text = {"type": "text", "text": "what is it?"}
    for content in ([text, part], [{"type": "tool_result", "content": [part]}]):
        found = of({"messages": [{"role": "user", "content": content}], "max_tokens": 1})
        assert MEDIUM < found.input < MEDIUM + OVERHEAD + 300
        assert not found.bounded


@pytest.mark.parametrize(
    "more",
    [
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        {"messages": [{"role": "user", "content": [{"type": ["odd"]}]}]},
        {"previous_response_id": "r"},
        {"prompt": {"id": "stored"}},
        {"web_search_options": {"size": "low"}},
        {"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]},
        {"tools": [{**TOOL, "cache_control": {"type": "ephemeral"}}]},
        {"cache_control": {"type": "ephemeral"}},
    ],
)
def test_what_the_request_does_not_show_has_no_bound(more: dict[str, object]) -> None:
    """Sounds, files, what is stored with the provider, what it searches for, a cache's price."""
    assert not chat(max_tokens=1, **more).bounded


def test_words_about_a_cache_are_text() -> None:
    """Only a field asks for it, however its name is spelt."""
    assert chat(max_tokens=1, user='say "cache_control": 1').bounded
    content = {"messages": HELLO, "max_tokens": 1, "cache_control": {}}
    raw = json.dumps(content).replace("cache_control", r"\u0063ache_control")
    assert not bound_of(CHAT, raw.encode(), json.loads(raw)).bounded


@pytest.mark.parametrize("content", [[1], "text", 3, True])
def test_a_body_that_is_no_request(content: object) -> None:
    """The provider will refuse it, and nobody knows that here."""
    assert of(content) == Bound(
        input=len(json.dumps(content)) + OVERHEAD, output=OUTPUT, bounded=False
    )


def test_a_body_that_is_nested_without_end() -> None:
    """It is not followed down."""
    deep: object = "x"
    for _ in range(300):
        deep = [deep]
    assert not of({"messages": deep, "max_tokens": 1}).bounded


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "image_url", "source", "url", "data", "content", "text"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["messages", "input", "prompt", "tools", "n", "max_tokens", "system"]),
        json_values,
    )
)
def test_no_body_breaks_it(content: dict[str, object]) -> None:
    """Whatever an eval sends."""
    found = of(content)
    assert found.input >= OVERHEAD
    assert found.output >= 0
