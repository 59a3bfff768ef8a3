"""The OpenAI-compatible dialect. Shapes and rules: OpenAI's API reference, "Chat"."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, zip_longest
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from api_contracts.chat import ChatParameters
from worker.simulator.conversation import (
    PICTURE_TOKENS,
    Answer,
    Frame,
    JsonObject,
    Picture,
    Prompt,
    Refused,
    Reply,
    Schema,
    Tool,
    check,
    count_words,
)

NATIVE: Final = False
#: Status of an overloaded provider.
OVERLOADED: Final = 503
#: Characters of one fragment of a call's arguments: short, so that words are cut.
FRAGMENT: Final = 6

_FINISH: Final = {"end": "stop", "stop": "stop", "limit": "length", "tools": "tool_calls"}
_TYPES: Final = {401: "authentication_error", 429: "rate_limit_error"}
_CODES: Final = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded"}
_SERVER_ERRORS: Final = 500


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _ImageUrl(_Read):
    url: str


class _Part(_Read):
    type: str
    text: str = ""
    image_url: _ImageUrl | None = None


class _Call(_Read):
    id: str


class _Message(_Read):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.type == "text")
        return self.content or ""

    def pictures(self) -> Iterator[Picture]:
        parts = self.content if isinstance(self.content, list) else []
        for part in parts:
            if part.image_url is not None:
                yield _picture(part.image_url.url)


class _Function(_Read):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    parameters: Schema = Field(default_factory=Schema)


class _Tool(_Read):
    type: Literal["function"]
    function: _Function


class _StreamOptions(_Read):
    include_usage: bool = False


class _Chat(_Read):
    """What :class:`ChatParameters`, which has the documented bounds, leaves unread."""

    model: str
    messages: list[_Message]
    max_tokens: int | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    stream_options: _StreamOptions | None = None


def _picture(url: str) -> Picture:
    _, comma, data = url.partition(";base64,")
    return Picture.of(data, "image_url") if comma else Picture()


def read(body: JsonObject) -> Prompt:
    """Read a chat request; Refused(400) where OpenAI would refuse it."""
    check(ChatParameters, body)
    chat = check(_Chat, body)
    last = chat.messages[-1]
    pictures = tuple(last.pictures())
    words = count_words([message.text for message in chat.messages])
    return Prompt(
        model=chat.model,
        words=last.text,
        results=_results(chat.messages),
        tools=_tools(chat),
        pictures=pictures,
        input_tokens=words + PICTURE_TOKENS * len(pictures),
        choices=chat.n or 1,
        limit=chat.max_completion_tokens or chat.max_tokens,
        stops=(chat.stop,) if isinstance(chat.stop, str) else tuple(chat.stop or ()),
        include_usage=chat.stream_options is not None and chat.stream_options.include_usage,
    )


def _results(messages: list[_Message]) -> tuple[str, ...]:
    """Return what tools answered since the model last spoke; each must answer a call of it."""
    called: set[str] = set()
    results: list[str] = []
    for index, message in enumerate(messages):
        if message.role != "tool":
            called = {call.id for call in message.tool_calls or ()}
            results = []
            continue
        if message.tool_call_id not in called:
            text = "must be the id of a call in the assistant's message before it"
            raise Refused(400, f"messages.{index}.tool_call_id: {text}")
        results.append(message.text)
    return tuple(results)


def _tools(chat: _Chat) -> tuple[Tool, ...]:
    """Return the tools that ``tool_choice`` leaves."""
    functions = [tool.function for tool in chat.tools or ()]
    if chat.tool_choice == "none":
        return ()
    if isinstance(chat.tool_choice, dict):
        chosen = chat.tool_choice.get("function")
        name = chosen.get("name") if isinstance(chosen, dict) else None
        functions = [function for function in functions if function.name == name]
        if not functions:
            raise Refused(400, "tool_choice: names none of the tools on offer")
    return tuple(Tool(function.name, function.parameters) for function in functions)


def whole(answer: Answer) -> JsonObject:
    """Write the answer as one ``chat.completion``."""
    choices = [
        {
            "index": index,
            "message": _message(answer, index, reply),
            "logprobs": None,
            "finish_reason": _FINISH[reply.finish],
        }
        for index, reply in enumerate(answer.replies)
    ]
    return {**_head(answer, "chat.completion"), "choices": choices, "usage": _usage(answer)}


def _message(answer: Answer, index: int, reply: Reply) -> JsonObject:
    message: JsonObject = {"role": "assistant", "content": reply.text, "refusal": None}
    if reply.calls:
        message["content"] = None
        message["tool_calls"] = [
            {
                "id": _call_id(answer, index, place),
                "type": "function",
                "function": {"name": call.name, "arguments": call.text},
            }
            for place, call in enumerate(reply.calls)
        ]
    return message


def frames(answer: Answer) -> tuple[Frame, ...]:
    """Write the answer as a stream's frames; several choices take turns."""
    choices = [list(_deltas(answer, index)) for index in range(len(answer.replies))]
    turns = chain.from_iterable(zip_longest(*choices))
    sent = [_chunk(answer, choice) for choice in turns if choice is not None]
    if answer.prompt.include_usage:
        head = _head(answer, "chat.completion.chunk")
        sent.append(Frame.of({**head, "choices": [], "usage": _usage(answer)}, finish=True))
    return (*sent, Frame(b"[DONE]", finish=True))


def _chunk(answer: Answer, choice: JsonObject) -> Frame:
    data = {**_head(answer, "chat.completion.chunk"), "choices": [choice]}
    if answer.prompt.include_usage:
        data["usage"] = None
    return Frame.of(data, finish=choice["finish_reason"] is not None)


def _deltas(answer: Answer, index: int) -> Iterator[JsonObject]:
    """Yield one choice of each chunk: the role, the text or the calls, the finish."""

    def choice(delta: JsonObject, finish: str | None = None) -> JsonObject:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}

    reply = answer.replies[index]
    content = None if reply.calls else ""
    yield choice({"role": "assistant", "content": content, "refusal": None})
    for piece in reply.pieces:
        yield choice({"content": piece})
    for place, call in enumerate(reply.calls):
        start = {"index": place, "id": _call_id(answer, index, place), "type": "function"}
        yield choice({"tool_calls": [{**start, "function": {"name": call.name, "arguments": ""}}]})
        for fragment in fragments(call.text):
            part = {"index": place, "function": {"arguments": fragment}}
            yield choice({"tool_calls": [part]})
    yield choice({}, _FINISH[reply.finish])


def fragments(text: str) -> list[str]:
    """Cut a call's arguments into pieces, wherever that may be."""
    return [text[start : start + FRAGMENT] for start in range(0, len(text), FRAGMENT)]


def _head(answer: Answer, kind: str) -> JsonObject:
    return {
        "id": f"chatcmpl-{answer.call_id}",
        "object": kind,
        "created": answer.created,
        "model": answer.prompt.model,
        "system_fingerprint": "fp_simulator",
    }


def _call_id(answer: Answer, index: int, place: int) -> str:
    return f"call_{answer.call_id[:16]}_{index}_{place}"


def _usage(answer: Answer) -> JsonObject:
    prompt, completion = answer.prompt.input_tokens, answer.output_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def error(refused: Refused, _call_id: str) -> JsonObject:
    """Write an error in OpenAI's shape."""
    server = "server_error" if refused.status >= _SERVER_ERRORS else "invalid_request_error"
    return {
        "error": {
            "message": refused.message,
            "type": _TYPES.get(refused.status, server),
            "param": None,
            "code": _CODES.get(refused.status),
        }
    }
