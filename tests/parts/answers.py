"""What a router says, in the three protocols: the pieces of streams, for `tests.parts.gate`."""

import json
from typing import Any, Final

GEMINI: Final = "/v1/projects/cognition/locations/us/publishers/google/models/gemini-1.5-pro-latest"


def event(data: Any, name: str | None = None) -> bytes:
    """Write a server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data)
    return f"event: {name}\ndata: {text}\n\n".encode() if name else f"data: {text}\n\n".encode()


def openai(*texts: str, finish: bool = True) -> list[bytes]:
    """Write a chat completion in as many chunks as there are texts."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None} for text in texts]
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    events = [event(head | {"choices": [choice]}) for choice in choices]
    return [*events, event(head | {"choices": [last]}), event("[DONE]")] if finish else events


def anthropic(*texts: str, finish: bool = True) -> list[bytes]:
    """Write a message with one text block."""
    usage = {"input_tokens": 3, "output_tokens": 1}
    message: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant"}
    message |= {"model": "claude-3", "content": [], "usage": usage}
    message |= {"stop_reason": None, "stop_sequence": None}
    block = {"type": "text", "text": ""}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": t}}
            for t in texts
        ),
    ]
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    if finish:
        events += [
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 5}},
            {"type": "message_stop"},
        ]
    return [event(one, one["type"]) for one in events]


def gemini(*texts: str, finish: bool = True) -> list[dict[str, Any]]:
    """Make the responses of a Gemini stream, one a text."""
    responses: list[dict[str, Any]] = [
        {"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}]}
        for text in texts
    ]
    if finish:
        usage = {"promptTokenCount": 3, "candidatesTokenCount": 5, "totalTokenCount": 8}
        responses[-1]["candidates"][0]["finishReason"] = "STOP"
        responses[-1]["usageMetadata"] = usage
    return responses


def gemini_sse(*texts: str, finish: bool = True) -> list[bytes]:
    """Write them as server-sent events."""
    return [event(response) for response in gemini(*texts, finish=finish)]


def gemini_array(*texts: str, finish: bool = True) -> list[bytes]:
    """Write them as one JSON array, a piece for each and for its brackets and commas."""
    pieces = [b"[" if place == 0 else b",\r\n" for place in range(len(texts))]
    responses = [json.dumps(one, indent=2).encode() for one in gemini(*texts, finish=finish)]
    return [part for pair in zip(pieces, responses, strict=True) for part in pair] + [b"]"]
