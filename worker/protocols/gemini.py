"""Gemini's generateContent.

A stream is a sequence of whole ``GenerateContentResponse`` objects, each with what is new, as
server-sent events or, without ``alt=sse``, as one JSON array. Rules:

1. The answer is whole when every candidate that was seen has its ``finishReason``; nothing else
   marks the end.
2. Neighbouring texts with the same ``thought`` flag are one part. A part with anything else
   (``functionCall``, ``inlineData``, ``thoughtSignature``) stays by itself: Google's
   documentation asks that a part with a signature be merged with no other.
3. A prompt that was blocked has no candidates but a ``blockReason``: refused, not truncated.
"""

from __future__ import annotations

from typing import Any, Final

from api_contracts.errors import ErrorCode
from api_contracts.requests import Task
from api_contracts.results import Usage
from worker.errors import AttemptFailed, Failure
from worker.frames import Decoder, is_json, mended, parse_piece, raise_malformed
from worker.jsonarray import JsonArrayDecoder
from worker.protocols.base import WRONG_SHAPE, Answer, Call, ProtocolName
from worker.protocols.deltas import Pieces, characters, joined
from worker.protocols.refusal import raise_error, refuse
from worker.protocols.requests import headers_of, path_of
from worker.sse import SseDecoder
from worker.usage import count, estimated, reported

__all__ = ["NAME", "build", "decoder", "fold", "read", "refuse"]

NAME: ProtocolName = "gemini"

WHOLE: Final = ":generateContent"
STREAMED: Final = ":streamGenerateContent"
_SSE: Final = "alt=sse"

#: Fields of a part that is nothing but text.
_TEXT_FIELDS: Final = frozenset({"text", "thought"})


def build(task: Task, body: bytes, *, include_usage: bool) -> Call:  # noqa: ARG001 - the shape
    """Return the call. Gemini is asked to stream by the path, never by the body."""
    path, _, query = path_of(task).partition("?")
    items = query.split("&") if query else []
    if task.streaming and not path.endswith(STREAMED):
        path = path.removesuffix(WHOLE) + STREAMED
        items = [*(item for item in items if not item.startswith("alt=")), _SSE]
    sse = task.streaming and _SSE in items
    headers = headers_of(task, native_vendor="google", sse=sse)
    whole_path = "?".join((path, "&".join(items))) if items else path
    return Call("POST", whole_path, headers, body, task.streaming)


def decoder(content_type: str) -> Decoder:
    """Return a decoder for events, or for the array that comes as JSON."""
    return JsonArrayDecoder() if is_json(content_type) else SseDecoder()


def fold(call: Call) -> Fold:  # noqa: ARG001 - the shape
    """Return an empty fold."""
    return Fold()


def read(response: Any) -> Answer:
    """Read a response; AttemptFailed where it is an error, blocked, or has no candidates."""
    if not isinstance(response, dict):
        raise_malformed("the answer is no JSON object")
    raise_error(response)
    candidates = response.get("candidates")
    if not (isinstance(candidates, list) and candidates and isinstance(candidates[0], dict)):
        _raise_blocked(response)
        raise_malformed("the answer has no candidates")
    finish = candidates[0].get("finishReason")
    usage = _usage(_metadata(response))
    return Answer(response, finish if isinstance(finish, str) else None, usage)


def _raise_blocked(response: dict[str, Any]) -> None:
    feedback = response.get("promptFeedback")
    reason = feedback.get("blockReason") if isinstance(feedback, dict) else None
    if isinstance(feedback, dict) and isinstance(reason, str):
        told = feedback.get("blockReasonMessage")
        message = told if isinstance(told, str) and told else f"the prompt was blocked: {reason}"
        raise AttemptFailed(Failure(ErrorCode.REFUSED, message, provider_code=reason))


def _metadata(response: dict[str, Any]) -> dict[str, Any]:
    usage = response.get("usageMetadata")
    return usage if isinstance(usage, dict) else {}


def _usage(usage: dict[str, Any]) -> Usage:
    return reported(
        input_tokens=_input_tokens(usage),
        output_tokens=_sum(usage, "candidatesTokenCount", "thoughtsTokenCount"),
        total_tokens=usage.get("totalTokenCount"),
        cached_tokens=usage.get("cachedContentTokenCount"),
        reasoning_tokens=usage.get("thoughtsTokenCount"),
    )


def _input_tokens(usage: dict[str, Any]) -> int | None:
    """Return what went in: the prompt, and what tools were asked on its behalf."""
    return _sum(usage, "promptTokenCount", "toolUsePromptTokenCount")


def _sum(usage: dict[str, Any], *names: str) -> int | None:
    counts = [one for one in (count(usage.get(name)) for name in names) if one is not None]
    return sum(counts) if counts else None


class Fold:
    """Collects responses into one."""

    def __init__(self) -> None:
        """Start before the first response."""
        self._candidates: dict[int, dict[str, Any]] = {}
        #: Fields beside the candidates.
        self._head: dict[str, Any] = {}

    @property
    def complete(self) -> bool:
        """Whether every candidate that was seen has its finish reason."""
        candidates = self._candidates.values()
        return bool(candidates) and all(one.get("finishReason") for one in candidates)

    def add(self, frame: bytes) -> bool:
        """Take a response; every one is published."""
        response = parse_piece(frame)
        try:
            self._take(response)
        except WRONG_SHAPE:
            raise_malformed("a frame has not the shape of a GenerateContentResponse")
        return True

    def answer(self) -> Answer:
        """Return the response, with its candidates in order."""
        candidates = [joined(self._candidates[index]) for index in sorted(self._candidates)]
        return read(mended({"candidates": candidates, **self._head}))

    def partial_usage(self) -> Usage:
        """Return an estimate of the output, and the input as the last response reported it."""
        written = characters(list(self._candidates.values()))
        return estimated(written, input_tokens=_input_tokens(_metadata(self._head)))

    def _take(self, response: dict[str, Any]) -> None:
        raise_error(response)
        candidates = response.pop("candidates", None) or ()
        if not (candidates or self._candidates):
            _raise_blocked(response)
        for place, candidate in enumerate(candidates):
            index = candidate.pop("index", place)
            if type(index) is not int:
                raise_malformed("a candidate's index is no number")
            _merge_candidate(self._candidates.setdefault(index, {"index": index}), candidate)
        for key, value in response.items():
            _merge_field(self._head, key, value)


def _merge_candidate(whole: dict[str, Any], news: dict[str, Any]) -> None:
    for key, value in news.items():
        if key == "content" and isinstance(value, dict):
            _merge_content(whole.setdefault("content", {}), value)
        elif key == "logprobsResult" and isinstance(value, dict):
            held = whole.setdefault(key, {})
            for name, entries in value.items():
                held[name] = held.get(name, []) + entries
        elif key == "citationMetadata" and isinstance(value, dict):
            held = whole.setdefault(key, {})
            for name, entries in value.items():
                known = held.setdefault(name, [])
                known.extend(entry for entry in entries if entry not in known)
        else:
            _merge_field(whole, key, value)


def _merge_field(whole: dict[str, Any], key: str, value: Any) -> None:
    """Take a field's news: an object's fields replace those it had, a null says nothing."""
    held = whole.get(key)
    if isinstance(held, dict) and isinstance(value, dict):
        held.update(value)
    elif value is not None:
        whole[key] = value


def _merge_content(whole: dict[str, Any], news: dict[str, Any]) -> None:
    for key, value in news.items():
        if key == "parts" and isinstance(value, list):
            held = whole.setdefault("parts", [])
            for part in value:
                _add_part(held, part)
        elif value is not None:
            whole[key] = value


def _add_part(parts: list[dict[str, Any]], part: dict[str, Any]) -> None:
    """Add a part, or continue the last one where both are text of the same kind."""
    text = part.get("text")
    if not isinstance(text, str):
        parts.append(part)
        return
    last = parts[-1] if parts else {}
    plain = part.keys() <= _TEXT_FIELDS
    if plain and _text_kind(last) == _text_kind(part):
        last["text"].append(text)
    elif text or not (plain and parts):
        parts.append({**part, "text": Pieces([text])})


def _text_kind(part: dict[str, Any]) -> bool | None:
    """Tell whether a text is a thought; None for a part that is more, or less, than text."""
    plain = "text" in part and part.keys() <= _TEXT_FIELDS
    return bool(part.get("thought")) if plain else None
