"""OpenAI's chat completions, and the many providers that speak like it.

A stream is chunks whose ``choices[].delta`` are pieces of the message, then ``[DONE]``. Rules:

1. A choice is whole when its ``finish_reason`` has come. The answer is whole when every choice
   is, and either as many have come as were asked for (``n``) or ``[DONE]`` says that it was all:
   some providers give one whatever ``n`` says. ``[DONE]`` alone is a truncation.
2. The chunk that only reports usage is published where the producer asked for it, and kept back
   where we did.
3. A plain delta (a text and nothing else) takes a short way, and the chunks that are like it but
   for their text a shorter one; every other delta is merged field by field, known or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from api_contracts.requests import Task
from api_contracts.results import Usage
from worker.errors import AttemptFailed
from worker.frames import mended, parse_piece, raise_malformed
from worker.protocols.base import WRONG_SHAPE, Answer, Call, ProtocolName
from worker.protocols.deltas import Pieces, characters, joined, merge
from worker.protocols.likeness import LONGER, Likeness
from worker.protocols.refusal import raise_error, refuse
from worker.protocols.requests import headers_of, path_of, spliced, with_stream
from worker.sse import decoder
from worker.usage import estimated, reported

__all__ = ["NAME", "build", "decoder", "fold", "read", "refuse"]

NAME: ProtocolName = "openai"

_DONE: Final = b"[DONE]"
#: What every message has in a chat completion, whether or not a delta speaks of it.
_EMPTY: Final = {"role": "assistant", "content": None, "refusal": None}
#: Padding against eavesdroppers who measure chunks, which is no part of the answer: so it stands
#: in a chunk, and so it ends.
_PADDING: Final = b',"obfuscation":"'
_PADDED: Final = b'"}'
#: Fields of a message that a model wrote, for estimates: no pictures or sound in base64.
_WRITTEN: Final = (
    "content", "refusal", "reasoning_content", "reasoning", "tool_calls", "function_call",
)  # fmt: skip


def build(task: Task, body: bytes, *, include_usage: bool) -> Call:
    """Return the call; a streamed chat that says nothing of ``stream_options`` asks for usage."""
    native = task.kind == "native"
    silent = not native and "stream_options" not in task.request
    injected = include_usage and silent and task.streaming
    body = with_stream(task, body)
    if injected:
        body = spliced(body, b'"stream_options":{"include_usage":true}')
    answers = task.request.get("n")
    return Call(
        method="POST",
        path=path_of(task),
        headers=headers_of(task, native_vendor="auto" if native else None, sse=task.streaming),
        body=body,
        stream=task.streaming,
        usage_injected=injected,
        answers=answers if type(answers) is int else 1,
    )


def fold(call: Call) -> Fold:
    """Return an empty fold."""
    return Fold(call)


def read(response: Any) -> Answer:
    """Read a chat completion; AttemptFailed where it is an error or has no choices."""
    if not isinstance(response, dict):
        raise_malformed("the answer is no JSON object")
    raise_error(response)
    choices = response.get("choices")
    if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
        raise_malformed("the answer has no choices")
    finish = choices[0].get("finish_reason")
    return Answer(response, finish if isinstance(finish, str) else None, _usage(response))


def _usage(response: Mapping[str, Any]) -> Usage:
    usage = _object(response.get("usage"))
    details = _object(usage.get("prompt_tokens_details"))
    # DeepSeek counts what came from its cache in a field of its own.
    cached = details.get("cached_tokens", usage.get("prompt_cache_hit_tokens"))
    return reported(
        input_tokens=usage.get("prompt_tokens"),
        output_tokens=usage.get("completion_tokens"),
        total_tokens=usage.get("total_tokens"),
        cached_tokens=cached,
        reasoning_tokens=_object(usage.get("completion_tokens_details")).get("reasoning_tokens"),
    )


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _without_padding(frame: bytes) -> bytes:
    """Leave out what OpenAI pads its chunks with, where it stands last."""
    place = frame.rfind(_PADDING)
    padding = frame[place + len(_PADDING) : -len(_PADDED)]
    if place < 0 or not frame.endswith(_PADDED) or not padding.isalnum():
        return frame
    return frame[:place] + b"}"


class _Choice:
    """One of the answers, as far as it has come."""

    __slots__ = ("fields", "message")

    def __init__(self, index: int) -> None:
        self.message: dict[str, Any] = dict(_EMPTY)
        #: What stands beside the message: index, finish_reason, logprobs and the unknown.
        self.fields: dict[str, Any] = {"index": index, "message": self.message}

    def add(self, choice: dict[str, Any], delta: dict[str, Any]) -> None:
        """Merge a delta, and what stands beside it."""
        merge(self.message, delta)
        for key, value in choice.items():
            if key == "logprobs" and isinstance(value, dict):
                held = self.fields.get(key) or {}
                merge(held, value)
                self.fields[key] = held
            elif value or key not in self.fields:
                self.fields[key] = value

    def whole(self) -> dict[str, Any]:
        """Return the choice as it stands in a chat completion."""
        fields: dict[str, Any] = joined(self.fields)
        calls = fields["message"].get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                call.pop("index", None)
        return fields


class Fold:
    """Collects chunks into a chat completion."""

    def __init__(self, call: Call) -> None:
        """Start before the first chunk."""
        self.complete = False
        self._call = call
        self._choices: dict[int, _Choice] = {}
        #: Fields beside ``choices`` and ``usage``; a later value wins unless it says nothing.
        self._head: dict[str, Any] = {}
        self._usage: Any = None
        self._done = False
        #: The last chunk's head; the last plain choice, and where its text goes.
        self._last_head: dict[str, Any] = {}
        self._plain_choice: dict[str, Any] | None = None
        self._text = Pieces()
        self._likeness = Likeness()
        #: Whether chunks are padded.
        self._padded = False

    def add(self, frame: bytes) -> bool:
        """Take a chunk; not published are ``[DONE]`` and a usage chunk that we asked for."""
        if frame == _DONE:
            self._done = True
            self._look_if_complete()
            return False
        bare = _without_padding(frame) if self._padded else frame
        text = self._likeness.read(bare)
        if text is not None:
            self._text.append(text)
            return True
        chunk = parse_piece(frame)
        try:
            return self._take(chunk, bare)
        except WRONG_SHAPE:
            raise_malformed("a frame has not the shape of a chat completion chunk")

    def answer(self) -> Answer:
        """Return the chat completion."""
        choices = [self._choices[index].whole() for index in sorted(self._choices)]
        response = {**self._head, "object": "chat.completion", "choices": choices}
        if self._usage is not None:
            response["usage"] = self._usage
        return read(mended(response))

    def partial_usage(self) -> Usage:
        """Return the usage where it was reported before the cut, else an estimate."""
        told = _usage({"usage": self._usage})
        if told.provenance == "reported":
            return told
        written = [
            choice.message.get(field) for choice in self._choices.values() for field in _WRITTEN
        ]
        return estimated(characters(written))

    def _take(self, chunk: dict[str, Any], bare: bytes) -> bool:
        choices = chunk.pop("choices", None) or ()
        self._padded = chunk.pop("obfuscation", None) is not None
        if chunk != self._last_head:
            self._take_head(chunk)
        whole = False
        for choice in choices:
            if "message" in choice and "delta" not in choice:
                whole = True
                choice["delta"] = choice.pop("message")
            plain = self._take_choice(choice)
            if plain is None or len(choices) > 1:
                self._likeness.forget()
            else:
                self._learn(bare, plain)
        if whole:
            self._done = True
            self._look_if_complete()
        usage_only = not choices and bool(chunk.get("usage"))
        return not (whole or (usage_only and self._call.usage_injected))

    def _take_head(self, chunk: dict[str, Any]) -> None:
        """Take what is not a choice. Azure sends its first chunk with an empty id and model."""
        raise_error(chunk)
        self._likeness.forget()
        self._last_head = chunk
        for key, value in chunk.items():
            if key == "usage":
                self._usage = value or self._usage
            elif value or key not in self._head:
                self._head[key] = value

    def _learn(self, frame: bytes, text: str) -> None:
        """Learn what the chunks that follow have in common with a plain one."""
        other = self._likeness.learn(frame, text)
        if other is None:
            return
        try:
            found = parse_piece(other)["choices"][0]["delta"]["content"]
        except (AttemptFailed, IndexError, *WRONG_SHAPE):
            # It stood elsewhere, where it was no string at all.
            found = None
        if found != text + LONGER:
            self._likeness.forget()

    def _take_choice(self, choice: dict[str, Any]) -> str | None:
        """Take a choice; return its text where it is plain."""
        delta = choice.pop("delta", None) or {}
        if choice == self._plain_choice and len(delta) == 1:
            text = delta.get("content")
            if type(text) is str:
                self._text.append(text)
                return text
        index = choice.get("index", 0)
        if type(index) is not int:
            raise_malformed("a choice's index is no number")
        held = self._choices.get(index)
        if held is None:
            held = self._choices[index] = _Choice(index)
        held.add(choice, delta)
        self._look_if_complete()
        text = held.message.get("content")
        self._plain_choice = None
        if isinstance(text, Pieces) and not (choice.get("finish_reason") or choice.get("logprobs")):
            self._plain_choice, self._text = choice, text
        return None

    def _look_if_complete(self) -> None:
        """See whether every choice has its finish reason, and none is missing."""
        choices = self._choices.values()
        finished = all(choice.fields.get("finish_reason") for choice in choices)
        enough = self._done or len(choices) >= self._call.answers
        self.complete = bool(choices) and finished and enough
