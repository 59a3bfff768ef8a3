"""Anthropic's Messages.

A stream opens with ``message_start`` (a message without content), builds each content block
between ``content_block_start`` and ``content_block_stop``, brings the stop reason and the
cumulative usage in ``message_delta``, and is whole at ``message_stop``. Rules:

1. Events are published whole and as they are, those that nobody knows too. ``ping`` is not: it
   keeps a connection alive, says nothing of the answer, and the official SDKs' types refuse it.
2. A tool's input arrives as text and is parsed once, when its block ends. Text that is no JSON
   (a call cut by ``max_tokens``) is kept as ``{"INVALID_JSON": text}``, the form in which
   Anthropic's documentation has it sent back, so that nobody runs half a call by mistake.
3. A delta of an unknown type replaces the fields of its block that it names.
"""

from __future__ import annotations

from typing import Any, Final

from api_contracts.requests import Task
from api_contracts.results import Usage
from worker.errors import AttemptFailed
from worker.frames import mended, parse, parse_piece, raise_malformed
from worker.protocols.base import WRONG_SHAPE, Answer, Call, ProtocolName
from worker.protocols.deltas import Pieces, joined
from worker.protocols.refusal import raise_error, refuse
from worker.protocols.requests import headers_of, path_of, with_stream
from worker.sse import decoder
from worker.usage import count, estimated, reported

__all__ = ["NAME", "build", "decoder", "fold", "read", "refuse"]

NAME: ProtocolName = "anthropic"

#: The version of the API whose answers are read here; a task may name another.
VERSION: Final = "2023-06-01"

#: Deltas that continue a string of their block, and the name that it has in both.
_CONTINUED: Final = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
}


def build(task: Task, body: bytes, *, include_usage: bool) -> Call:  # noqa: ARG001 - the shape
    """Return the call. Usage is always reported here and need not be asked for."""
    headers = headers_of(task, native_vendor="anthropic", sse=task.streaming)
    headers.setdefault("anthropic-version", VERSION)
    return Call("POST", path_of(task), headers, with_stream(task, body), task.streaming)


def fold(call: Call) -> Fold:  # noqa: ARG001 - the shape
    """Return an empty fold."""
    return Fold()


def read(response: Any) -> Answer:
    """Read a message; AttemptFailed where it is an error or has no content."""
    if not isinstance(response, dict):
        raise_malformed("the answer is no JSON object")
    raise_error(response)
    if not isinstance(response.get("content"), list):
        raise_malformed("the answer has no content")
    finish = response.get("stop_reason")
    return Answer(response, finish if isinstance(finish, str) else None, _usage(response))


def _usage(response: dict[str, Any]) -> Usage:
    """Read the usage. Anthropic's ``input_tokens`` leaves out what a cache gave or took."""
    usage = response.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("output_tokens_details")
    return reported(
        input_tokens=_input_tokens(usage),
        output_tokens=usage.get("output_tokens"),
        cached_tokens=usage.get("cache_read_input_tokens"),
        reasoning_tokens=details.get("thinking_tokens") if isinstance(details, dict) else None,
    )


def _input_tokens(usage: dict[str, Any]) -> int | None:
    fresh = count(usage.get("input_tokens"))
    if fresh is None:
        return None
    cached = ("cache_read_input_tokens", "cache_creation_input_tokens")
    return fresh + sum(count(usage.get(name)) or 0 for name in cached)


class Fold:
    """Collects events into a message."""

    def __init__(self) -> None:
        """Start before ``message_start``."""
        self.complete = False
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        #: Whether the usage is more than the beginning's.
        self._counted = False
        self._blocks: dict[int, dict[str, Any]] = {}
        #: Characters that have come in deltas.
        self._written = 0

    def add(self, frame: bytes) -> bool:
        """Take an event; a ping is not published."""
        event = parse_piece(frame)
        try:
            return self._take(event)
        except WRONG_SHAPE:
            raise_malformed("a frame has not the shape of a message event")

    def answer(self) -> Answer:
        """Return the message."""
        content = [joined(self._blocks[index]) for index in sorted(self._blocks)]
        message = {**self._message, "content": content, "usage": self._usage}
        return read(mended(message))

    def partial_usage(self) -> Usage:
        """Return the usage where ``message_delta`` brought it, else an estimate of the output."""
        told = _usage({"usage": self._usage})
        if self._counted and told.provenance == "reported":
            return told
        return estimated(self._written, input_tokens=_input_tokens(self._usage))

    def _take(self, event: dict[str, Any]) -> bool:
        kind = event.get("type")
        if kind == "content_block_delta":
            self._continue(self._blocks[event["index"]], event["delta"])
        elif kind == "content_block_start":
            self._open(event["index"], event["content_block"])
        elif kind == "content_block_stop":
            _close(self._blocks[event["index"]])
        elif kind == "ping":
            return False
        elif kind == "message_start":
            self._start(event["message"])
        elif kind == "message_delta":
            self._change(event)
        elif kind == "message_stop":
            self._stop()
        elif kind == "message":
            self._take_whole(event)
            return False
        else:
            raise_error(event)
            if not isinstance(kind, str):
                raise_malformed("an event has no type")
        return True

    def _start(self, message: dict[str, Any]) -> None:
        if self._message:
            raise_malformed("a second message began inside the answer")
        self._message = dict(message)
        self._usage = dict(self._message.get("usage") or {})
        for index, block in enumerate(message.get("content") or ()):
            self._open(index, block)

    def _open(self, index: int, block: dict[str, Any]) -> None:
        if type(index) is not int or not self._message:
            raise_malformed("a content block has no number, or came before its message")
        self._blocks[index] = {
            key: Pieces([value]) if key in ("text", "thinking") and type(value) is str else value
            for key, value in block.items()
        }

    def _continue(self, block: dict[str, Any], delta: dict[str, Any]) -> None:
        kind = delta["type"]
        name = _CONTINUED.get(kind)
        if name is not None:
            text = delta[name]
            if type(text) is not str:
                raise TypeError(name)
            held = block.get(name)
            if not isinstance(held, Pieces):
                held = block[name] = Pieces()
            held.append(text)
            self._written += len(text)
        elif kind == "citations_delta":
            block["citations"] = block.get("citations") or []
            block["citations"].append(delta["citation"])
        else:
            block.update({key: value for key, value in delta.items() if key != "type"})

    def _change(self, event: dict[str, Any]) -> None:
        """Take a message_delta: its fields and its usage replace, unless they say nothing."""
        beside = {key: value for key, value in event.items() if key not in ("type", "delta")}
        usage = beside.pop("usage", None) or {}
        for whole, news in ((self._message, {**beside, **event["delta"]}), (self._usage, usage)):
            whole.update({k: v for k, v in news.items() if v is not None or k not in whole})
        self._counted = self._counted or bool(usage)

    def _stop(self) -> None:
        if not self._message:
            raise_malformed("the message ended before it began")
        for block in self._blocks.values():
            _close(block)
        self.complete = True

    def _take_whole(self, message: dict[str, Any]) -> None:
        """Take an answer that came whole although a stream was asked for."""
        self._start(message)
        self._counted = True
        self._stop()


def _close(block: dict[str, Any]) -> None:
    """End a block: what came of its input is parsed, unless nothing came."""
    text = mended("".join(block.pop("partial_json", ())))
    if not text.strip():
        return
    try:
        block["input"] = parse(text.encode())
    except AttemptFailed:
        block["input"] = {"INVALID_JSON": text}
