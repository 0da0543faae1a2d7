"""What the stub of a provider answers with: bodies and streams as the providers write them."""

import base64
import re
import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any

import msgspec

from tests.provider import Behaviour, Step, Tokens

Json = dict[str, Any]

# OpenAI's paths after /v1/, which Azure has after a deployment's name.
AZURE = re.compile(r"/openai/deployments/([^/]+)/(chat/completions|completions|embeddings)")

# Whose events have names.
NAMED = ("responses", "messages")

PROMPTS = ("system", "instructions", "messages", "prompt", "input")

CODES = {
    400: "invalid_request_error",
    401: "invalid_api_key",
    404: "not_found",
    429: "rate_limit_exceeded",
}


Count = Annotated[int, msgspec.Meta(ge=1)]


class Options(msgspec.Struct, frozen=True):
    """Those fields of a body without which nobody could answer, or that say in what form."""

    model: str = ""
    stream: bool | None = None
    stream_options: dict[str, bool] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    max_output_tokens: Count | None = None


class Asked(msgspec.Struct, frozen=True):
    """A request that has an answer.

    Attributes:
        kind: such as `chat/completions`.
        model: that it names.
        body: as JSON.
        options: some fields of the body.
    """

    kind: str
    model: str
    body: Json
    options: Options

    @property
    def stream(self) -> bool:
        """Whether the answer comes in pieces."""
        return bool(self.options.stream) and self.kind != "embeddings"

    @property
    def choices(self) -> int:
        """How many answers it asks for at once."""
        prompt = self.body.get("prompt")
        prompts = len(prompt) if isinstance(prompt, list) and _is_batch(prompt) else 1
        return prompts * (self.options.n or 1)

    def limit(self, tokens: int) -> int:
        """So many tokens, or as many as it allows for one choice."""
        given = self.options
        limits = (given.max_tokens, given.max_completion_tokens, given.max_output_tokens)
        return min([tokens, *(limit for limit in limits if limit is not None)])

    def tokens(self, step: Step) -> Tokens:
        """What is to be billed."""
        prompt = sum(words(self.body.get(name)) for name in PROMPTS)
        output = 0 if self.kind == "embeddings" else self.limit(step.tokens) * self.choices
        return Tokens(prompt, output)


class Reply(msgspec.Struct, frozen=True):
    """An answer, before it has a form.

    Attributes:
        asked: the request.
        bill: its number.
        text: of each choice.
        pieces: of text in a stream.
        tokens: in and out.
        full: whether the tokens that the request allows were all used.
    """

    asked: Asked
    bill: int
    text: str
    pieces: int
    tokens: Tokens
    full: bool

    def parts(self) -> list[str]:
        """The text in pieces of about the same length."""
        ends = [len(self.text) * i // self.pieces for i in range(self.pieces + 1)]
        return [self.text[a:b] for a, b in pairwise(ends)]

    def reason(self, enough: str, full: str) -> str:
        """Why the text ends."""
        return full if self.full else enough


def reply(asked: Asked, step: Step, bill: int) -> Reply:
    """What a step answers with."""
    text = step.answer.replace("{bill}", str(bill))
    text = text.replace("{echo}", last_words(asked.body))
    return Reply(
        asked=asked,
        bill=bill,
        text=text,
        pieces=step.pieces,
        tokens=asked.tokens(step),
        full=asked.limit(step.tokens) < step.tokens,
    )


def place_of(path: str) -> tuple[str, str] | None:
    """What a POST request to a path is about, and its deployment; None if nothing is there."""
    if found := AZURE.fullmatch(path):
        return found[2], found[1]
    kind = path.removeprefix("/v1/")
    return (kind, "") if kind != path and kind in WHOLE else None


def asked_of(kind: str, deployment: str, body: object) -> Asked | None:
    """What a body asks for; None if nobody could answer it."""
    try:
        options = msgspec.convert(body, Options)
    except msgspec.ValidationError:
        return None
    model = options.model or deployment
    return Asked(kind, model, body, options) if model and isinstance(body, dict) else None


def whole(reply: Reply, size: int = 0) -> bytes:
    """The body of an answer in one, with so many bytes at least."""
    form = WHOLE[reply.asked.kind]
    body = msgspec.json.encode(form(reply))
    if len(body) < size:
        text = reply.text + "x" * (size - len(body))
        body = msgspec.json.encode(form(msgspec.structs.replace(reply, text=text)))
    return body


def stream(reply: Reply, size: int = 0) -> list[bytes]:
    """What a stream sends, one after the other, with so many bytes of text at least."""
    kind = reply.asked.kind
    padded = msgspec.structs.replace(reply, text=reply.text.ljust(size, "x"))
    events = STREAMS[kind](padded)
    if kind in NAMED:
        return [f"event: {each['type']}\n".encode() + _data(each) for each in events]
    return [*map(_data, events), b"data: [DONE]\n\n"]


def error(path: str, step: Step) -> bytes:
    """The body of an error."""
    if step.error:
        return step.error.encode()
    code = step.code or CODES.get(step.status, "server_error")
    about: Json = {"message": f"The stub answers with {step.status}: {code}.", "type": code}
    if path == "/v1/messages":
        return msgspec.json.encode({"type": "error", "error": about})
    return msgspec.json.encode({"error": {**about, "param": None, "code": code}})


def models(path: str, behaviour: Behaviour) -> Json | None:
    """What a GET request to a path gets; None if there is nothing there."""
    rest = {"object": "model", "created": 0, "owned_by": behaviour.owned_by}
    listed = [{"id": each, **rest} for each in behaviour.models]
    if path == "/v1/models":
        more = {"has_more": True} if behaviour.has_more else {}
        return {"object": "list", "data": listed, **more}
    if behaviour.no_model:
        return None
    return next((each for each in listed if path == f"/v1/models/{each['id']}"), None)


def words(prompt: object) -> int:
    """Words of a prompt of any form; a token that is given as a number is one."""
    match prompt:
        case str():
            return len(prompt.split())
        case int():
            return 1
        case list():
            return sum(map(words, prompt))
        case dict():
            return words(prompt.get("content", prompt.get("text")))
    return 0


def last_words(body: Json) -> str:
    """The text of the user's last message."""
    given = body.get("messages", body.get("prompt", body.get("input")))
    if not isinstance(given, list):
        return _text(given)
    users = [each for each in given if not isinstance(each, dict) or each.get("role") == "user"]
    return _text(users[-1]) if users else ""


def _text(content: object) -> str:
    match content:
        case str():
            return content
        case list():
            return "".join(map(_text, content))
        case dict():
            return _text(content.get("content", content.get("text")))
    return ""


def _is_batch(prompt: list[object]) -> bool:
    """Whether it is a list of prompts, and not one prompt in tokens."""
    return not all(isinstance(each, int) for each in prompt)


def _data(event: Json) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def _usage(tokens: Tokens) -> Json:
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
    }


def _chat_head(reply: Reply, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{reply.bill}",
        "object": kind,
        "created": 0,
        "model": reply.asked.model,
    }


def _chat(reply: Reply) -> Json:
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": reply.text, "refusal": None},
            "logprobs": None,
            "finish_reason": reply.reason("stop", "length"),
        }
        for index in range(reply.asked.choices)
    ]
    head = _chat_head(reply, "chat.completion")
    return {**head, "choices": choices, "usage": _usage(reply.tokens)}


def _chat_stream(reply: Reply) -> list[Json]:
    deltas: list[tuple[Json, str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": part}, None) for part in reply.parts()]
    deltas += [({}, reply.reason("stop", "length"))]
    head = _chat_head(reply, "chat.completion.chunk")
    events = [
        {**head, "choices": [{"index": index, "delta": delta, "finish_reason": reason}]}
        for delta, reason in deltas
        for index in range(reply.asked.choices)
    ]
    return _with_usage(events, reply)


def _completion_head(reply: Reply) -> Json:
    return {
        "id": f"cmpl-{reply.bill}",
        "object": "text_completion",
        "created": 0,
        "model": reply.asked.model,
    }


def _completion_choice(index: int, text: str, reason: str | None) -> Json:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def _completion(reply: Reply) -> Json:
    reason = reply.reason("stop", "length")
    indices = range(reply.asked.choices)
    choices = [_completion_choice(index, reply.text, reason) for index in indices]
    return {**_completion_head(reply), "choices": choices, "usage": _usage(reply.tokens)}


def _completion_stream(reply: Reply) -> list[Json]:
    parts: list[tuple[str, str | None]] = [(part, None) for part in reply.parts()]
    parts += [("", reply.reason("stop", "length"))]
    events = [
        {**_completion_head(reply), "choices": [_completion_choice(index, text, reason)]}
        for text, reason in parts
        for index in range(reply.asked.choices)
    ]
    return _with_usage(events, reply)


def _with_usage(events: list[Json], reply: Reply) -> list[Json]:
    """OpenAI tells what a stream costs only if it is asked to, and after all else."""
    if not (reply.asked.options.stream_options or {}).get("include_usage"):
        return events
    last = {**events[-1], "choices": [], "usage": _usage(reply.tokens)}
    return [*({**event, "usage": None} for event in events), last]


def _embeddings(reply: Reply) -> Json:
    """The bill's number is the first number of each."""
    given = reply.asked.body.get("input")
    count = len(given) if isinstance(given, list) and _is_batch(given) else 1
    numbers = [float(reply.bill), 0.5]
    vector: object = numbers
    if reply.asked.body.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack("<2f", *numbers)).decode()
    data = [{"object": "embedding", "index": i, "embedding": vector} for i in range(count)]
    tokens = reply.tokens.input
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": reply.asked.model, "usage": usage}


def _response(reply: Reply) -> Json:
    text = {"type": "output_text", "text": reply.text, "annotations": []}
    message = {"type": "message", "id": f"msg_{reply.bill}", "status": "completed"}
    limited = {"reason": "max_output_tokens"} if reply.full else None
    return {
        "id": f"resp_{reply.bill}",
        "object": "response",
        "created_at": 0,
        "status": reply.reason("completed", "incomplete"),
        "error": None,
        "incomplete_details": limited,
        "instructions": reply.asked.body.get("instructions"),
        "metadata": {},
        "model": reply.asked.model,
        "output": [{**message, "role": "assistant", "content": [text]}],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": reply.tokens.input,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": reply.tokens.output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": reply.tokens.input + reply.tokens.output,
        },
    }


def _response_stream(reply: Reply) -> list[Json]:
    ended = _response(reply)
    begun = {**ended, "status": "in_progress", "output": [], "usage": None}
    place = {"item_id": f"msg_{reply.bill}", "output_index": 0, "content_index": 0}
    item = {"type": "message", "id": place["item_id"], "status": "in_progress"}
    item = {**item, "role": "assistant", "content": []}
    empty = {"type": "output_text", "text": "", "annotations": []}
    events: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": empty},
        *({"type": "response.output_text.delta", **place, "delta": p} for p in reply.parts()),
        {"type": "response.output_text.done", **place, "text": reply.text},
        {"type": f"response.{ended['status']}", "response": ended},
    ]
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _message(reply: Reply) -> Json:
    return {
        "id": f"msg_{reply.bill}",
        "type": "message",
        "role": "assistant",
        "model": reply.asked.model,
        "content": [{"type": "text", "text": reply.text}],
        "stop_reason": reply.reason("end_turn", "max_tokens"),
        "stop_sequence": None,
        "usage": {"input_tokens": reply.tokens.input, "output_tokens": reply.tokens.output},
    }


def _message_stream(reply: Reply) -> list[Json]:
    end = {"stop_reason": reply.reason("end_turn", "max_tokens"), "stop_sequence": None}
    begun = {**_message(reply), "content": [], "stop_reason": None}
    begun["usage"] = {"input_tokens": reply.tokens.input, "output_tokens": 1}
    usage = {"output_tokens": reply.tokens.output}
    deltas = [{"type": "text_delta", "text": part} for part in reply.parts()]
    return [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": usage},
        {"type": "message_stop"},
    ]


WHOLE: dict[str, Callable[[Reply], Json]] = {
    "chat/completions": _chat,
    "completions": _completion,
    "embeddings": _embeddings,
    "responses": _response,
    "messages": _message,
}
STREAMS: dict[str, Callable[[Reply], list[Json]]] = {
    "chat/completions": _chat_stream,
    "completions": _completion_stream,
    "responses": _response_stream,
    "messages": _message_stream,
}
