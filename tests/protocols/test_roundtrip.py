"""Any whole answer, cut into a stream at random, folds back into itself: all three protocols."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from worker.protocols import anthropic, gemini, openai
from worker.protocols.base import Answer, Call, ProtocolModule

#: Text with what JSON escapes and what takes two UTF-16 units.
TEXT = st.text(st.sampled_from('ab \n"\\{}[]é世🌊\x00\u2028'), max_size=20)
NAMES = st.text(st.sampled_from("abc_"), min_size=1, max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=3)


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """Cut a text anywhere."""
    places = sorted(draw(st.sets(st.integers(0, len(text)), max_size=4)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def shuffled(draw: st.DrawFn, queues: list[list[Any]]) -> Iterator[Any]:
    """Take from several queues in any order, but from each in its own."""
    queues = [queue for queue in queues if queue]
    while queues:
        queue = queues[draw(st.integers(0, len(queues) - 1))]
        yield queue.pop(0)
        queues = [queue for queue in queues if queue]


def folded(
    module: ProtocolModule,
    events: list[Any],
    cuts: list[int],
    *,
    sse: bool = True,
    answers: int = 1,
) -> Answer:
    """Send the events through decoder and fold, the bytes cut at random places."""
    texts = [json.dumps(event, ensure_ascii=index % 2 == 0) for index, event in enumerate(events)]
    if sse:
        stream = "".join(f"data: {text}\n\n" for text in texts).encode()
    else:
        stream = f"[{','.join(texts)}]".encode()
    places = sorted(cut % (len(stream) + 1) for cut in cuts)
    parts = [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
    decoder = module.decoder("text/event-stream" if sse else "application/json")
    fold = module.fold(Call("POST", "/", {}, b"", stream=True, answers=answers))
    for frame in [frame for part in parts for frame in decoder.feed(part)]:
        fold.add(frame)
    assert fold.complete
    return fold.answer()


CUTS = st.lists(st.integers(0, 10_000), max_size=8)


@st.composite
def chats(draw: st.DrawFn) -> tuple[dict[str, Any], list[Any]]:
    """A chat completion, and chunks that make it."""
    head = {"id": draw(NAMES), "created": 1, "model": draw(NAMES)}
    choices, queues = [], []
    for index in range(draw(st.integers(1, 3))):
        message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
        deltas: list[dict[str, Any]] = []
        for field in draw(
            st.lists(st.sampled_from(["content", "refusal", "reasoning"]), unique=True)
        ):
            message[field] = draw(TEXT)
            deltas += [{field: piece} for piece in pieces(draw, message[field])]
        calls = []
        for place in range(draw(st.integers(0, 3))):
            call_id, name, arguments = f"call_{place}", draw(NAMES), draw(TEXT)
            function = {"name": name, "arguments": arguments}
            calls.append({"id": call_id, "type": "function", "function": function})
            opening = {"name": name, "arguments": ""}
            deltas.append({"tool_calls": [{"index": place, **calls[-1], "function": opening}]})
            for piece in pieces(draw, arguments):
                deltas.append({"tool_calls": [{"index": place, "function": {"arguments": piece}}]})
        if calls:
            message["tool_calls"] = calls
        finish = draw(st.sampled_from(["stop", "length", "tool_calls"]))
        choices.append({"index": index, "message": message, "finish_reason": finish})
        queue = [{"index": index, "delta": delta, "finish_reason": None} for delta in deltas]
        queues.append([*queue, {"index": index, "delta": {}, "finish_reason": finish}])
    chunks = [
        {**head, "object": "chat.completion.chunk", "choices": [choice]}
        for choice in shuffled(draw, queues)
    ]
    return {**head, "object": "chat.completion", "choices": choices}, chunks


@given(chats(), CUTS)
def test_openai(chat: tuple[dict[str, Any], list[Any]], cuts: list[int]) -> None:
    whole, chunks = chat
    assert folded(openai, chunks, cuts, answers=len(whole["choices"])).response == whole


@st.composite
def messages(draw: st.DrawFn) -> tuple[dict[str, Any], list[Any]]:
    """A message, and events that make it."""
    usage = {"input_tokens": 5, "output_tokens": draw(st.integers(1, 99))}
    message: dict[str, Any] = {
        "id": draw(NAMES), "type": "message", "role": "assistant", "model": draw(NAMES),
        "content": [], "stop_reason": "end_turn", "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    begun = message | {"stop_reason": None, "usage": {"input_tokens": 5, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    content = []
    for index in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["text", "thinking", "tool_use"]))
        block: dict[str, Any]
        if kind == "tool_use":
            block = {"type": kind, "id": draw(NAMES), "name": draw(NAMES), "input": draw(OBJECTS)}
            start = block | {"input": {}}
            parts = pieces(draw, json.dumps(block["input"]))
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        else:
            block = {"type": kind, kind: draw(TEXT)}
            start = block | {kind: ""}
            deltas = [{"type": f"{kind}_delta", kind: part} for part in pieces(draw, block[kind])]
        if kind == "thinking":
            block["signature"] = draw(NAMES)
            start["signature"] = ""
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        content.append(block)
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        for delta in deltas:
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
            events += draw(st.sampled_from([[], [{"type": "ping"}]]))
        events.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    events.append({"type": "message_delta", "delta": ended, "usage": usage})
    events.append({"type": "message_stop"})
    return message | {"content": content}, events


@given(messages(), CUTS)
def test_anthropic(message: tuple[dict[str, Any], list[Any]], cuts: list[int]) -> None:
    whole, events = message
    assert folded(anthropic, events, cuts).response == whole


@st.composite
def responses(draw: st.DrawFn) -> tuple[dict[str, Any], list[Any]]:
    """A response, and the responses that it is streamed in."""
    head = {"modelVersion": draw(NAMES), "responseId": draw(NAMES)}
    candidates, queues = [], []
    for index in range(draw(st.integers(1, 2))):
        parts: list[dict[str, Any]] = []
        queue: list[dict[str, Any]] = []
        for kind in draw(st.lists(st.sampled_from(["text", "thought", "call"]), max_size=4)):
            if kind == "call":
                call = {"name": draw(NAMES), "args": draw(OBJECTS)}
                parts.append({"functionCall": call})
                queue.append(parts[-1])
                continue
            mark = {"thought": True} if kind == "thought" else {}
            text = draw(TEXT.filter(bool))
            queue += [{"text": piece, **mark} for piece in pieces(draw, text) if piece]
            last = parts[-1] if parts else {}
            if "text" in last and last.get("thought") == mark.get("thought"):
                last["text"] += text
            else:
                parts.append({"text": text, **mark})
        content: dict[str, Any] = {"role": "model", "parts": parts}
        candidates.append({"index": index, "content": content, "finishReason": "STOP"})
        queues.append(
            [
                *({"index": index, "content": {"role": "model", "parts": [p]}} for p in queue),
                {"index": index, "content": {"role": "model", "parts": []}, "finishReason": "STOP"},
            ]
        )
    chunks = [{"candidates": [one], **head} for one in shuffled(draw, queues)]
    return {"candidates": candidates, **head}, chunks


@given(response=responses(), cuts=CUTS, sse=st.booleans())
def test_gemini(response: tuple[dict[str, Any], list[Any]], *, cuts: list[int], sse: bool) -> None:
    whole, chunks = response
    # Nothing of a second candidate may come after the first one looks like all there is.
    first = {one["index"] for chunk in chunks[:1] for one in chunk["candidates"]}
    if len(whole["candidates"]) > len(first):
        chunks = [{"candidates": [{"index": 0}, {"index": 1}]}, *chunks]
    assert folded(gemini, chunks, cuts, sse=sse).response == whole
