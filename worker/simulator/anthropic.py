"""The Anthropic dialect. Shapes and rules: Anthropic's API reference, "Messages"."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

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
from worker.simulator.openai import fragments

NATIVE: Final = True
#: Status of an overloaded provider.
OVERLOADED: Final = 529

_FINISH: Final = {
    "end": "end_turn",
    "stop": "stop_sequence",
    "limit": "max_tokens",
    "tools": "tool_use",
}
_TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_SERVER_ERRORS: Final = 500


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Source(_Read):
    type: Literal["base64", "url", "file"]
    data: str = ""


class _Block(_Read):
    type: str
    text: str = ""
    source: _Source | None = None
    id: str | None = None
    tool_use_id: str | None = None
    content: str | list[_Block] | None = None
    thinking: str = ""
    signature: str = ""


class _Message(_Read):
    role: Literal["user", "assistant"]
    content: str | list[_Block]

    @property
    def blocks(self) -> list[_Block]:
        """The content as blocks, whichever way it was written."""
        if isinstance(self.content, str):
            return [_Block(type="text", text=self.content)]
        return self.content


class _Tool(_Read):
    name: Annotated[str, Field(min_length=1, max_length=128)]
    input_schema: Schema = Field(default_factory=Schema)


class _ToolChoice(_Read):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None


class _Thinking(_Read):
    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: Annotated[int, Field(ge=1024)] | None = None


class _Request(_Read):
    model: Annotated[str, Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)]
    messages: Annotated[list[_Message], Field(min_length=1)]
    system: str | list[_Block] | None = None
    stop_sequences: list[str] = Field(default_factory=list)
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    tools: list[_Tool] = Field(default_factory=list)
    tool_choice: _ToolChoice | None = None
    thinking: _Thinking | None = None
    stream: bool = False


def read(body: JsonObject) -> Prompt:
    """Read a Messages request; Refused(400) where Anthropic would refuse it."""
    asked = check(_Request, body)
    _check_budget(asked)
    _check_signatures(asked.messages)
    last = asked.messages[-1].blocks
    system = [asked.system] if isinstance(asked.system, str) else _texts(asked.system or [])
    said = [text for message in asked.messages for text in _texts(message.blocks)]
    pictures = tuple(_picture(block.source) for block in last if block.source is not None)
    return Prompt(
        model=asked.model,
        words="\n".join(_texts(last)),
        results=_results(asked.messages),
        tools=_tools(asked),
        pictures=pictures,
        input_tokens=count_words(system + said) + PICTURE_TOKENS * len(pictures),
        limit=asked.max_tokens,
        stops=tuple(asked.stop_sequences),
        thinking=asked.thinking is not None and asked.thinking.type != "disabled",
    )


def _texts(blocks: list[_Block]) -> list[str]:
    return [block.text for block in blocks if block.type == "text"]


def _check_budget(asked: _Request) -> None:
    if asked.thinking is None or asked.thinking.type != "enabled":
        return
    if asked.thinking.budget_tokens is None:
        raise Refused(400, "thinking.budget_tokens: Field required")
    if asked.thinking.budget_tokens >= asked.max_tokens:
        raise Refused(400, "max_tokens: must be greater than thinking.budget_tokens")


def _check_signatures(messages: list[_Message]) -> None:
    """Refuse thinking that came back changed, as Anthropic does."""
    for index, message in enumerate(messages):
        for place, block in enumerate(message.blocks):
            if block.type == "thinking" and block.signature != _signature(block.thinking):
                where = f"messages.{index}.content.{place}"
                raise Refused(400, f"{where}: invalid `signature` in `thinking` block")


def _picture(source: _Source) -> Picture:
    return Picture.of(source.data, "source.data") if source.type == "base64" else Picture()


def _results(messages: list[_Message]) -> tuple[str, ...]:
    """Return what tools answered in the last message; each must answer a call before it."""
    results = [block for block in messages[-1].blocks if block.type == "tool_result"]
    before = messages[-2].blocks if len(messages) > 1 else []
    called = {block.id for block in before if block.type == "tool_use"}
    for block in results:
        if block.tool_use_id not in called:
            where = f"messages.{len(messages) - 1}"
            text = "tool_use_id must be the id of a tool_use block in the message before"
            raise Refused(400, f"{where}: {text}")
    return tuple(
        block.content if isinstance(block.content, str) else "\n".join(_texts(block.content or []))
        for block in results
    )


def _tools(asked: _Request) -> tuple[Tool, ...]:
    """Return the tools that ``tool_choice`` leaves."""
    choice, tools = asked.tool_choice, asked.tools
    if choice is not None and choice.type == "none":
        return ()
    if choice is not None and choice.type == "tool":
        tools = [tool for tool in tools if tool.name == choice.name]
        if not tools:
            raise Refused(400, "tool_choice.name: names none of the tools on offer")
    return tuple(Tool(tool.name, tool.input_schema) for tool in tools)


def whole(answer: Answer) -> JsonObject:
    """Write the answer as one message."""
    reply = answer.replies[0]
    return {
        **_head(answer),
        "content": list(_blocks(answer, reply)),
        "stop_reason": _FINISH[reply.finish],
        "stop_sequence": reply.stopped_by,
        "usage": _usage(answer, reply.tokens),
    }


def _head(answer: Answer) -> JsonObject:
    return {
        "id": f"msg_{answer.call_id}",
        "type": "message",
        "role": "assistant",
        "model": answer.prompt.model,
    }


def _usage(answer: Answer, output: int) -> JsonObject:
    return {
        "input_tokens": answer.prompt.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output,
    }


def _blocks(answer: Answer, reply: Reply) -> Iterator[JsonObject]:
    if reply.thoughts:
        thinking = "".join(reply.thoughts)
        yield {"type": "thinking", "thinking": thinking, "signature": _signature(thinking)}
    if not reply.calls:
        yield {"type": "text", "text": reply.text}
    for place, call in enumerate(reply.calls):
        call_id = f"toolu_{answer.call_id[:20]}_{place}"
        yield {"type": "tool_use", "id": call_id, "name": call.name, "input": call.arguments}


def _signature(thinking: str) -> str:
    return base64.b64encode(hashlib.sha256(thinking.encode()).digest()).decode()


def frames(answer: Answer) -> tuple[Frame, ...]:
    """Write the answer as a stream's events."""
    return tuple(_events(answer, answer.replies[0]))


def _events(answer: Answer, reply: Reply) -> Iterator[Frame]:
    empty: JsonObject = {"content": [], "stop_reason": None, "stop_sequence": None}
    message = {**_head(answer), **empty, "usage": _usage(answer, 1)}
    yield Frame.of({"type": "message_start", "message": message})
    for index, block in enumerate(_blocks(answer, reply)):
        start, deltas = _open(block, reply)
        yield Frame.of({"type": "content_block_start", "index": index, "content_block": start})
        if index == 0:
            yield Frame.of({"type": "ping"})
        for delta in deltas:
            yield Frame.of({"type": "content_block_delta", "index": index, "delta": delta})
        yield Frame.of({"type": "content_block_stop", "index": index})
    end = {"stop_reason": _FINISH[reply.finish], "stop_sequence": reply.stopped_by}
    usage = {"output_tokens": reply.tokens}
    yield Frame.of({"type": "message_delta", "delta": end, "usage": usage}, finish=True)
    yield Frame.of({"type": "message_stop"}, finish=True)


def _open(block: JsonObject, reply: Reply) -> tuple[JsonObject, list[JsonObject]]:
    """Return a block as it starts, empty, and the deltas that fill it."""
    match block["type"]:
        case "thinking":
            deltas: list[JsonObject] = [
                {"type": "thinking_delta", "thinking": thought} for thought in reply.thoughts
            ]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
            return {"type": "thinking", "thinking": "", "signature": ""}, deltas
        case "tool_use":
            return {**block, "input": {}}, list(_partial_json(block["input"]))
    texts: list[JsonObject] = [{"type": "text_delta", "text": piece} for piece in reply.pieces]
    return {"type": "text", "text": ""}, texts


def _partial_json(arguments: JsonObject) -> Iterator[JsonObject]:
    """Yield the input in fragments, an empty one first, as Anthropic does."""
    yield {"type": "input_json_delta", "partial_json": ""}
    for fragment in fragments(json.dumps(arguments, ensure_ascii=False)):
        yield {"type": "input_json_delta", "partial_json": fragment}


def error(refused: Refused, call_id: str) -> JsonObject:
    """Write an error in Anthropic's shape."""
    default = "api_error" if refused.status >= _SERVER_ERRORS else "invalid_request_error"
    kind = _TYPES.get(refused.status, default)
    return {
        "type": "error",
        "error": {"type": kind, "message": refused.message},
        "request_id": call_id,
    }
