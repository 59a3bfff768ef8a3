"""The tests' own parts: the routers answer as the real ones do, and the guards guard."""

import http.client
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from tests.conftest import StartValkey
from tests.parts.aimock import Aimock
from tests.parts.llmock import Llmock
from tests.parts.need import need
from tests.parts.network import NetworkOff
from tests.parts.program import Program
from tests.parts.wait import until
from tests.parts.web import get, post

GEMINI = "/v1/projects/cognition/locations/us/publishers/google/models/gemini-1.5-pro-latest"
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
MESSAGES: dict[str, Any] = {"model": "claude-3", "max_tokens": 99, "messages": CHAT["messages"]}
GENERATE: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}

#: Path, body, and what only this protocol's answer says, whole and streamed.
PROTOCOLS = [
    pytest.param(
        ("/v1/chat/completions", CHAT, '"finish_reason":"stop"'),
        ("/v1/chat/completions", CHAT | {"stream": True}, "data: [DONE]"),
        id="openai",
    ),
    pytest.param(
        ("/v1/messages", MESSAGES, '"stop_reason":"end_turn"'),
        ("/v1/messages", MESSAGES | {"stream": True}, "event: message_stop"),
        id="anthropic",
    ),
    pytest.param(
        (f"{GEMINI}:generateContent", GENERATE, '"finishReason":"STOP"'),
        (f"{GEMINI}:streamGenerateContent?alt=sse", GENERATE, '"finishReason":"STOP"'),
        id="gemini",
    ),
]
Exchange = tuple[str, dict[str, Any], str]


@pytest.mark.parametrize(("whole", "streamed"), PROTOCOLS)
def test_aimock_answers_in_every_protocol(
    aimock: Aimock, whole: Exchange, streamed: Exchange
) -> None:
    fixture = {"match": {"userMessage": "hello"}, "response": {"content": "Good day."}}
    aimock.serve(fixture | {"chunkSize": 5})
    for path, body, mark in (whole, streamed):
        status, text = post(aimock.url + path, body, vendor="auto")
        assert status == 200
        assert "Good " in text
        assert mark in text
    assert [entry["headers"]["vendor"] for entry in aimock.journal()] == ["auto", "auto"]


def test_aimock_limits_first_and_answers_then(aimock: Aimock) -> None:
    match = {"userMessage": "hello"}
    wait = {"error": {"message": "wait"}, "status": 429, "retryAfter": 0.2}
    aimock.serve(
        {"match": match | {"sequenceIndex": 0}, "response": wait},
        {"match": match | {"sequenceIndex": 1}, "response": {"content": "Now."}},
    )
    statuses = [post(f"{aimock.url}/v1/chat/completions", CHAT)[0] for _ in range(2)]
    assert statuses == [429, 200]


def test_aimock_cuts_a_stream(aimock: Aimock) -> None:
    cut = {"latency": 5, "chunkSize": 1, "truncateAfterChunks": 3}
    aimock.serve({"match": {}, "response": {"content": "abcdefgh"}} | cut)
    with pytest.raises(http.client.IncompleteRead):
        post(f"{aimock.url}/v1/chat/completions", CHAT | {"stream": True})


def test_aimock_calls_tools(aimock: Aimock) -> None:
    call = {"name": "get_weather", "arguments": {"city": "Paris"}}
    aimock.serve({"match": {}, "response": {"toolCalls": [call]}})
    _, text = post(f"{aimock.url}/v1/chat/completions", CHAT)
    (made,) = json.loads(text)["choices"][0]["message"]["tool_calls"]
    assert (made["function"]["name"], json.loads(made["function"]["arguments"])) == (
        "get_weather",
        {"city": "Paris"},
    )


def test_aimock_forgets_between_tests(aimock: Aimock) -> None:
    assert aimock.journal() == []
    assert post(f"{aimock.url}/v1/chat/completions", CHAT)[0] == 404


@pytest.mark.parametrize(("whole", "streamed"), PROTOCOLS)
def test_llmock_answers_in_every_protocol(
    llmock: Llmock, whole: Exchange, streamed: Exchange
) -> None:
    llmock.scenario({"type": "reply", "text": "Good day.", "times": 2})
    for path, body, mark in (whole, streamed):
        status, text = post(llmock.url + path, body, vendor="auto")
        assert status == 200
        assert "Good " in text
        assert mark in text
    assert len(llmock.requests()) == 2


def test_llmock_streams_gemini_as_an_array_unless_sse_is_asked_for(llmock: Llmock) -> None:
    llmock.scenario({"type": "reply", "text": "Good day."})
    _, text = post(f"{llmock.url}{GEMINI}:streamGenerateContent", GENERATE)
    pieces = json.loads(text)
    assert [piece["candidates"][0].get("finishReason") for piece in pieces] == [None, "STOP"]


def test_llmock_breaks_on_demand_and_judges_the_client(llmock: Llmock) -> None:
    llmock.scenario({"type": "fail", "status": 529, "retry_after": 5})
    statuses = [post(f"{llmock.url}/v1/messages", MESSAGES)[0] for _ in range(2)]
    assert statuses == [529, 200]
    assert "retry_after_ignored" in json.dumps(llmock.verdict())


def test_llmock_truncates_a_stream_in_silence(llmock: Llmock) -> None:
    llmock.scenario({"type": "stream_fault", "kind": "truncate", "after_chunks": 2})
    status, text = post(f"{llmock.url}/v1/chat/completions", CHAT | {"stream": True})
    assert status == 200
    assert "data: " in text
    assert "[DONE]" not in text


def test_both_kinds_of_redis_run_lua_and_streams(any_redis: redis.Redis) -> None:
    script = any_redis.register_script(
        "return redis.call('XADD', KEYS[1], ARGV[1], 'event', ARGV[2])"
    )
    assert script(keys=["log"], args=["1-1", "first"]) == b"1-1"
    with pytest.raises(redis.ResponseError, match="equal or smaller"):
        script(keys=["log"], args=["0-9", "late"])


async def test_sync_and_async_clients_see_the_same_data(
    any_redis: redis.Redis, any_async_redis: redis.asyncio.Redis
) -> None:
    any_redis.set("key", "value")
    assert await any_async_redis.get("key") == b"value"


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_finds_an_empty_server(redis: redis.Redis, turn: int) -> None:
    assert redis.dbsize() == 0
    redis.set("left", turn)


def test_a_server_of_ones_own_comes_back_on_its_port(start_valkey: StartValkey) -> None:
    first = start_valkey()
    with redis.Redis.from_url(first.url) as client:
        client.set("key", "value")
    first.stop()
    start_valkey(port=first.port)
    with redis.Redis.from_url(first.url) as client:
        assert client.get("key") == b"value"


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80)])
def test_a_connection_out_of_the_machine_is_refused(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as outward, pytest.raises(NetworkOff, match="tried to reach"):
        outward.connect(address)


def test_a_name_out_of_the_machine_is_not_looked_up() -> None:
    with pytest.raises(NetworkOff, match="router\\.example"):
        socket.getaddrinfo("router.example", 443)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0.0.0.0", "::1"])
def test_names_of_this_machine_are_looked_up(host: str) -> None:
    assert socket.getaddrinfo(host, 80)


@pytest.mark.parametrize(("ci", "outcome"), [("true", "Failed"), ("", "Skipped")])
def test_what_is_lacking_is_skipped_here_and_fails_the_build(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: str
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(BaseException, match="no oven") as raised:
        need(condition=False, reason="no oven")
    assert type(raised.value).__name__ == outcome


def test_a_program_can_be_paused_resumed_and_stopped(tmp_path: Path) -> None:
    server = Program(
        [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"],
        tmp_path / "server.log",
        env={**os.environ, "PYTHONWARNINGS": ""},
    )
    try:
        port = until(lambda: server.output.partition(" port ")[2].partition(" ")[0], "its port")
        url = f"http://127.0.0.1:{port}/"
        server.wait_for(url)
        server.pause()
        with pytest.raises(TimeoutError):
            get(url, timeout=0.2)
        server.resume()
        assert get(url)[0] == 200
    finally:
        assert server.stop() < 0
    assert not server.running
