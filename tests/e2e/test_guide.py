"""Every request of the router's chat guide, through a queue, a worker and a router of others."""

import json
from typing import Any

import pytest

from api_contracts.client import Client
from api_contracts.requests import parse_task
from api_contracts.results import Result
from tests.parts.aimock import Aimock
from tests.parts.answers import GEMINI
from tests.parts.gate import Gate
from tests.parts.worker import API_KEY
from worker.demo.guide import GUIDE, Example

Json = dict[str, Any]

pytestmark = pytest.mark.usefixtures("worker")

ANSWER = "The answer is in fourteen words."
#: Says one thing to everybody, and calls a tool where one is offered that was not called yet.
OPENAI_TOOL = {"name": "get_current_weather", "arguments": {"location": "Boston, MA"}}
CLAUDE_TOOL = {"name": "get_weather", "arguments": {"location": "San Francisco, CA"}}
FIXTURES: list[Json] = [
    {
        "match": {"userMessage": "Boston", "hasToolResult": False},
        "response": {"toolCalls": [OPENAI_TOOL]},
    },
    {
        "match": {"userMessage": "San Francisco", "hasToolResult": False},
        "response": {"content": "Let me look.", "toolCalls": [CLAUDE_TOOL]},
    },
    {"match": {}, "response": {"content": ANSWER}, "chunkSize": 7},
]
EVERY = [pytest.param(example, id=example.title.replace(" ", "-")) for example in GUIDE]
#: What the worker may add to a body of the guide.
ADDED = {"stream": True, "stream_options": {"include_usage": True}}.items()


def _text(result: Result) -> str:
    """What a person would read of an answer."""
    response = result.response
    if result.protocol == "openai":
        return str(response["choices"][0]["message"]["content"])
    if result.protocol == "anthropic":
        return "".join(block.get("text", "") for block in response["content"])
    return "".join(part.get("text", "") for part in response["candidates"][0]["content"]["parts"])


@pytest.fixture
def router(aimock: Aimock, gate: Gate) -> Gate:
    """The gate, with a router behind it that answers the whole guide."""
    aimock.serve(*FIXTURES)
    gate.lead_to(aimock.url)
    return gate


@pytest.mark.parametrize("stream", [None, True], ids=["as-it-stands", "streamed"])
@pytest.mark.parametrize("example", EVERY)
def test_every_request_of_the_guide_is_answered(
    router: Gate, client: Client, example: Example, *, stream: bool | None
) -> None:
    current: Example | None = example
    while current is not None:
        router.requests.clear()
        handle = client.enqueue({**current.task, "options": {"stream": stream}})
        result = handle.result(timeout=10)
        (sent,) = router.requests
        request = current.task["request"]
        assert {key: sent.json[key] for key in request} == request
        added = {key: sent.json[key] for key in sent.json.keys() - request.keys()}
        assert all(item in ADDED for item in added.items())
        chunks = [event for event in handle if event.type == "chunk"]
        assert (len(chunks) > 1) is bool(stream or request.get("stream"))
        follows = current.then(result.response) if current.then else None
        assert follows or "".join(handle.text()) == _text(result) == ANSWER
        current = follows


@pytest.mark.parametrize("example", EVERY)
def test_vendor_key_and_extra_headers_reach_the_router(
    router: Gate, client: Client, example: Example
) -> None:
    extra = {"anthropic-beta": "tools-2024-04-04,other", "X-Trace": "a b"}
    task = {**example.task, "headers": {**example.task.get("headers", {}), **extra}}
    client.enqueue(task).result(timeout=10)
    (sent,) = router.requests
    assert sent.headers["authorization"] == f"Bearer {API_KEY}"
    # The router picks by itself where a chat names no vendor.
    assert sent.headers.get("vendor") == task.get("vendor")
    assert sent.headers["content-type"] == "application/json"
    for name, value in task["headers"].items():
        assert sent.headers[name.lower()] == value


@pytest.mark.parametrize(
    ("kind", "path", "request_"),
    [
        ("chat", "/v1/chat/completions", {"model": "gpt-4o", "messages": ["MESSAGE"]}),
        ("native", "/v1/messages", {"model": "c", "max_tokens": 9, "messages": ["MESSAGE"]}),
        ("native", f"{GEMINI}:generateContent", {"contents": [{"parts": [{"text": "hello"}]}]}),
    ],
    ids=["openai", "anthropic", "gemini"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_fields_that_nobody_has_heard_of_reach_the_router_unchanged(  # noqa: PLR0913
    router: Gate, client: Client, kind: str, path: str, request_: Json, *, stream: bool
) -> None:
    message = {"role": "user", "content": "hello", "cache_control": {"type": "ephemeral"}}
    unknown = {
        "reasoning_effort": "high",
        "logprobs": True,
        "ünknown ☃": [1, -0.5, 1e-7, 12345678901234567890, {"deep": [None, False, "\u2028 😀"]}],
        "stream_options": {"x": 1},
    }
    request = json.loads(json.dumps(request_).replace('"MESSAGE"', json.dumps(message))) | unknown
    task = {"kind": kind, "request": request, "options": {"stream": stream}}
    client.enqueue(task | ({"path": path} if kind == "native" else {})).result(timeout=10)
    (sent,) = router.requests
    gemini = ":" in path
    assert sent.json == request | ({"stream": True} if stream and not gemini else {})
    assert sent.path.partition("?")[0] == (
        path.replace(":generate", ":streamGenerate") if gemini and stream else path
    )


def test_numbers_reach_the_router_as_they_were_written(router: Gate, client: Client) -> None:
    task = {"kind": "chat", "request": {"model": "m", "messages": [{"role": "user"}], "x": 1.0}}
    client.enqueue(parse_task(task)).result(timeout=10)
    assert b'"x":1.0' in router.requests[0].body


@pytest.mark.parametrize(
    ("path", "accept"), [("?alt=sse", "text/event-stream"), ("", "application/json")]
)
def test_a_gemini_stream_may_be_asked_for_by_its_own_path(
    router: Gate, client: Client, path: str, accept: str
) -> None:
    task = next(example.task for example in GUIDE if "safetySettings" in example.task["request"])
    task = {**task, "path": task["path"].replace(":generate", ":streamGenerate") + path}
    handle = client.enqueue(task)
    assert "".join(handle.text()) == ANSWER
    (sent,) = router.requests
    assert (sent.path, sent.headers["accept"]) == (task["path"], accept)
    assert sent.json == task["request"]


def test_embeddings_come_through_a_native_task(aimock: Aimock, gate: Gate, client: Client) -> None:
    aimock.serve({"match": {"inputText": "a word"}, "response": {"embedding": [0.25, -0.5]}})
    gate.lead_to(aimock.url)
    request = {"model": "text-embedding-3-small", "input": "a word", "dimensions": 2}
    result = client.native("/v1/embeddings", request, vendor="openai").result(timeout=10)
    assert gate.requests[0].json == request
    assert result.protocol == "plain"
    assert result.finish_reason is None
    assert result.response["data"][0]["embedding"] == [0.25, -0.5]


def test_a_video_is_ordered_and_asked_for_until_it_is_ready(
    aimock: Aimock, gate: Gate, client: Client
) -> None:
    tasks = "/api/v3/contents/generations/tasks"
    film = {"video_url": "https://example.com/cat.mp4"}
    ready = {"id": "cgt-1", "model": "seedance", "status": "succeeded", "content": film}
    aimock.serve({"match": {"endpoint": "video"}, "response": {"json": ready}})
    gate.lead_to(aimock.url)
    order = {"model": "seedance", "content": [{"type": "text", "text": "a cat"}]}
    video = client.native(tasks, order, vendor="volcengine").result(timeout=10).response["id"]
    poll = client.native(f"{tasks}/{video}", method="GET", vendor="volcengine")
    assert poll.result(timeout=10).response == {**ready, "id": video}
    asked = gate.requests[-1]
    assert (asked.method, asked.body, "content-type" in asked.headers) == ("GET", b"", False)
    assert asked.headers["vendor"] == "volcengine"
