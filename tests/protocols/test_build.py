"""What goes to the router for each task: path, headers, and a body with little added."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.errors import ErrorCode
from api_contracts.requests import Task, parse_task
from worker.errors import AttemptFailed
from worker.protocols.base import Call
from worker.protocols.requests import spliced
from worker.protocols.select import protocol_of

MESSAGES = [{"role": "user", "content": "hi"}]
PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
LOOK = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]}]
GEMINI = "/v1/projects/cognition/locations/us/publishers/google/models/gemini-2.5-pro"


def chat(request: dict[str, Any] | None = None, **task: Any) -> Task:
    body = {"model": "m", "messages": MESSAGES} | (request or {})
    return parse_task({"kind": "chat", "request": body} | task)


def native(path: str, request: dict[str, Any] | None = None, **task: Any) -> Task:
    return parse_task(
        {"kind": "native", "path": path, "request": {"x": 1} if request is None else request} | task
    )


def built(task: Task, *, include_usage: bool = True) -> Call:
    return protocol_of(task).build(task, task.request_json(), include_usage=include_usage)


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (chat(), "openai"),
        (parse_task({"kind": "vision", "request": {"model": "m", "messages": LOOK}}), "openai"),
        (native("/v1/chat/completions"), "openai"),
        (native("/v1/messages"), "anthropic"),
        (native("/v1/messages?beta=true"), "anthropic"),
        (native("/v1/messages/count_tokens"), "plain"),
        (native("/v1/messages/batches"), "plain"),
        (native(f"{GEMINI}:generateContent"), "gemini"),
        (native(f"{GEMINI}:streamGenerateContent?alt=sse"), "gemini"),
        (native(f"{GEMINI}:streamGenerateContent"), "gemini"),
        (native("/v1/models/gemini-2.5-pro:generateContent"), "gemini"),
        (native(f"{GEMINI}:countTokens"), "plain"),
        (native("/v1/embeddings"), "plain"),
        (native("/v1/responses"), "plain"),
        (native("/api/v3/contents/generations/tasks"), "plain"),
        (native("/api/v3/contents/generations/tasks/t1", {}, method="GET"), "plain"),
        (native("/v1/messages", {}, method="GET"), "plain"),
    ],
)
def test_kind_and_path_choose_the_protocol(task: Task, name: str) -> None:
    assert name == protocol_of(task).NAME
    assert built(task).method == getattr(task, "method", "POST")


def test_a_body_that_needs_nothing_is_passed_on_byte_for_byte() -> None:
    body = b' {"model": "m",\n "messages": [{"role":"user","content":"h\\u0069"}], "x": 1.0e2}\n'
    for task in (chat(), native("/v1/messages"), native("/v1/embeddings")):
        assert protocol_of(task).build(task, body, include_usage=True).body is body
    task = chat({"stream": True, "stream_options": {}})
    assert protocol_of(task).build(task, body, include_usage=True).body is body


def test_a_streamed_chat_asks_for_its_usage() -> None:
    call = built(chat(options={"stream": True}))
    assert call.stream
    assert call.usage_injected
    assert call.body == (
        b'{"stream_options":{"include_usage":true},"stream":true,'
        b'"model":"m","messages":[{"role":"user","content":"hi"}]}'
    )


@pytest.mark.parametrize(
    ("request_", "options", "include_usage", "injected"),
    [
        ({"stream": True}, {}, True, True),
        ({"stream": True}, {}, False, False),
        ({"stream": True, "stream_options": {}}, {}, True, False),
        ({"stream": True, "stream_options": None}, {}, True, False),
        ({"stream": True, "stream_options": {"include_usage": False}}, {}, True, False),
        ({"stream": False}, {}, True, False),
        ({}, {}, True, False),
        ({}, {"stream": False}, True, False),
    ],
)
def test_usage_is_asked_for_only_where_the_producer_said_nothing_of_it(
    request_: dict[str, Any], options: dict[str, Any], *, include_usage: bool, injected: bool
) -> None:
    task = chat(request_, options=options)
    call = built(task, include_usage=include_usage)
    assert call.usage_injected is injected
    body = json.loads(call.body)
    added = {"stream_options": {"include_usage": True}} if injected else {}
    assert body == dict(task.request) | added


def test_a_native_chat_is_left_as_it_is() -> None:
    call = built(native("/v1/chat/completions", {"stream": True, "messages": []}))
    assert not call.usage_injected
    assert json.loads(call.body) == {"stream": True, "messages": []}


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
def test_a_stream_asked_for_by_the_options_is_asked_for_in_the_body(path: str) -> None:
    call = built(native(path, {"a": 1}, options={"stream": True}))
    assert call.body == b'{"stream":true,"a":1}'
    assert call.stream


def test_a_stream_of_null_is_replaced_and_not_said_twice() -> None:
    call = built(native("/v1/messages", {"a": 1, "stream": None}, options={"stream": True}))
    assert call.body == b'{"a":1,"stream":true}'


@pytest.mark.parametrize(
    ("path", "options", "sent", "accept"),
    [
        (":generateContent", {}, ":generateContent", "application/json"),
        (":generateContent?a=1", {}, ":generateContent?a=1", "application/json"),
        (
            ":generateContent",
            {"stream": True},
            ":streamGenerateContent?alt=sse",
            "text/event-stream",
        ),
        (
            ":generateContent?a=1&alt=json&b=2",
            {"stream": True},
            ":streamGenerateContent?a=1&b=2&alt=sse",
            "text/event-stream",
        ),
        (
            ":streamGenerateContent?alt=sse",
            {},
            ":streamGenerateContent?alt=sse",
            "text/event-stream",
        ),
        (":streamGenerateContent", {}, ":streamGenerateContent", "application/json"),
        (
            ":streamGenerateContent?a=1",
            {"stream": True},
            ":streamGenerateContent?a=1",
            "application/json",
        ),
    ],
)
def test_gemini_streams_by_its_path_and_never_by_its_body(
    path: str, options: dict[str, Any], sent: str, accept: str
) -> None:
    task = native(GEMINI + path, {"contents": []}, options=options)
    call = built(task)
    assert call.path == GEMINI + sent
    assert call.headers["accept"] == accept
    assert call.stream == (":stream" in sent)
    assert call.body == b'{"contents":[]}'


@pytest.mark.parametrize(
    ("task", "vendor"),
    [
        (chat(), None),
        (chat(vendor="openai"), "openai"),
        (native("/v1/messages"), "anthropic"),
        (native("/v1/messages", vendor="aws"), "aws"),
        (native(f"{GEMINI}:generateContent"), "google"),
        (native(f"{GEMINI}:generateContent", vendor="brand-new"), "brand-new"),
        (native("/v1/chat/completions"), "auto"),
        (native("/v1/embeddings"), "auto"),
        (native("/v1/embeddings", vendor="openai"), "openai"),
    ],
)
def test_native_calls_always_carry_a_vendor_and_chats_only_a_named_one(
    task: Task, vendor: str | None
) -> None:
    assert built(task).headers.get("vendor") == vendor


def test_headers_are_lower_case_and_ours_win() -> None:
    headers = {"X-Trace": "t", "Accept": "text/html", "Anthropic-Beta": "b1"}
    call = built(native("/v1/messages", headers=headers, options={"stream": True}))
    assert call.headers == {
        "x-trace": "t",
        "anthropic-beta": "b1",
        "anthropic-version": "2023-06-01",
        "vendor": "anthropic",
        "content-type": "application/json",
        "accept": "text/event-stream",
    }
    named = built(native("/v1/messages", headers={"Anthropic-Version": "2029-01-01"}))
    assert named.headers["anthropic-version"] == "2029-01-01"
    assert named.headers["accept"] == "application/json"


def test_a_get_has_no_body() -> None:
    call = built(native("/api/v3/contents/generations/tasks/t1", {}, method="GET"))
    assert call.body == b""
    assert "content-type" not in call.headers


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/messages/count_tokens", "/v1/responses"])
def test_what_nobody_can_fold_is_not_streamed(path: str) -> None:
    for task in (native(path, {"stream": True}), native(path, options={"stream": True})):
        with pytest.raises(AttemptFailed) as caught:
            built(task)
        assert caught.value.failure.code is ErrorCode.INVALID_REQUEST
        assert not caught.value.failure.retryable
        assert "options.stream" in caught.value.failure.message


@pytest.mark.parametrize(("n", "answers"), [(None, 1), (1, 1), (3, 3)])
def test_the_number_of_answers_asked_for_is_known_to_the_fold(n: int | None, answers: int) -> None:
    assert built(chat({} if n is None else {"n": n})).answers == answers


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), JSON, max_size=4), st.sampled_from([None, 1]))
def test_a_member_put_into_a_body_changes_nothing_else(
    body: dict[str, Any], indent: int | None
) -> None:
    text = json.dumps({k: v for k, v in body.items() if k != "stream"}, indent=indent).encode()
    assert json.loads(spliced(text, b'"stream":true')) == {"stream": True} | json.loads(text)


def test_a_call_shows_nothing_of_what_it_says() -> None:
    call = built(chat({"user": "secret"}, headers={"x-note": "secret"}))
    assert "secret" not in repr(call)
    assert "/v1/chat/completions" in repr(call)
