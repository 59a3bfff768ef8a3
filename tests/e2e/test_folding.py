"""An answer is the same whichever way it came."""

import json
from typing import Any

import pytest

from api_contracts.client import Client
from api_contracts.results import Result
from tests.parts.aimock import Aimock
from tests.parts.answers import GEMINI
from tests.parts.gate import Gate

Json = dict[str, Any]

pytestmark = pytest.mark.usefixtures("worker")

MESSAGES = [{"role": "user", "content": "weather"}]
CALLS = [
    {"id": "call_1", "name": "get_weather", "arguments": {"city": "Zürich", "days": [1, 2]}},
    {"id": "call_2", "name": "get_time", "arguments": {"zone": "Europe/Zurich"}},
]
SPOKEN = {"content": 'It is 15 °C, "mild" – 😀.\n'}
CALLED = {"content": "Let me look both up.", "toolCalls": CALLS}
PROTOCOLS: list[tuple[str, Json, Json, str, str]] = [
    (
        "/v1/chat/completions",
        {"model": "gpt-4o", "messages": MESSAGES},
        {"prompt_tokens": 12, "completion_tokens": 7},
        *("stop", "tool_calls"),
    ),
    (
        "/v1/messages",
        {"model": "claude-3", "max_tokens": 99, "messages": MESSAGES},
        {"input_tokens": 12, "output_tokens": 7},
        *("end_turn", "tool_use"),
    ),
    (
        f"{GEMINI}:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": "weather"}]}]},
        {"promptTokenCount": 12, "candidatesTokenCount": 7},
        *("STOP", "FUNCTION_CALL"),
    ),
]
ROWS = [
    pytest.param(path, request, said | {"usage": usage}, finish, id=f"{name}-{what}")
    for (path, request, usage, stop, call), name in zip(
        PROTOCOLS, ("openai", "anthropic", "gemini"), strict=True
    )
    for said, finish, what in ((SPOKEN, stop, "text"), (CALLED, call, "tools"))
]


def _asked(client: Client, path: str, request: Json, *, stream: bool) -> Result:
    """Ask for the same thing, one way or the other."""
    options = {"stream": stream}
    if path == "/v1/chat/completions":
        return client.enqueue({"kind": "chat", "request": request, "options": options}).result(10)
    return client.native(path, request, options=options).result(10)


@pytest.mark.parametrize(("path", "request_", "said", "finish"), ROWS)
def test_a_folded_stream_equals_the_answer_that_came_whole(  # noqa: PLR0913, PLR0917
    aimock: Aimock, gate: Gate, client: Client,
    path: str, request_: Json, said: Json, finish: str,
) -> None:  # fmt: skip
    response = {**said, "id": "answer-1", "created": 1_700_000_000}
    aimock.serve({"match": {"userMessage": "weather"}, "response": response, "chunkSize": 3})
    gate.lead_to(aimock.url)
    whole = _asked(client, path, request_, stream=False)
    folded = _asked(client, path, request_, stream=True)
    assert folded.response == whole.response
    assert folded.finish_reason == whole.finish_reason == finish
    assert folded.usage == whole.usage
    usage = folded.usage
    assert usage.provenance == "reported"
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (12, 7, 19)
    ids = [entry["headers"]["x-request-id"] for entry in aimock.journal()]
    assert [whole.request_id, folded.request_id] == ids
    assert (whole.timings.first_chunk_ms is None, folded.timings.first_chunk_ms is None) == (
        True,
        False,
    )


@pytest.mark.parametrize(("asked", "published"), [(None, False), (True, True), (False, False)])
def test_the_usage_chunk_is_published_only_where_the_producer_asked_for_it(
    aimock: Aimock, gate: Gate, client: Client, *, asked: bool | None, published: bool
) -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 7}
    aimock.serve({"match": {}, "response": {"content": "Hi.", "usage": usage}})
    gate.lead_to(aimock.url)
    own = {} if asked is None else {"stream_options": {"include_usage": asked}}
    handle = client.chat("gpt-4o", MESSAGES, stream=True, **own)
    chunks = [event.data for event in handle if event.type == "chunk"]
    assert any(not chunk["choices"] for chunk in chunks) is published
    counted = handle.result(10).usage
    assert (counted.provenance, counted.input_tokens) == (
        ("unavailable", None) if asked is False else ("reported", 12)
    )


def test_chunks_are_published_as_the_router_sent_them(
    aimock: Aimock, gate: Gate, client: Client
) -> None:
    aimock.serve({"match": {}, "response": {"content": "one two three"}, "chunkSize": 4})
    gate.lead_to(aimock.url)
    handle = client.native("/v1/messages", {**PROTOCOLS[1][1], "stream": True})
    chunks = [event.data for event in handle if event.type == "chunk"]
    assert [chunk["type"] for chunk in chunks[:2]] == ["message_start", "content_block_start"]
    deltas = [chunk["delta"]["text"] for chunk in chunks if chunk["type"] == "content_block_delta"]
    assert deltas == ["one ", "two ", "thre", "e"]
    assert chunks[-1] == {"type": "message_stop"}
    assert json.dumps(chunks).count("message_start") == 1
