"""The simulator over HTTP: what it asks of a call, what it answers, how it fails."""

import base64
import json
import struct
import time
from typing import Any

import httpx
import pytest

from tests.simulator.saying import events
from worker.demo.picture import chessboard

GOOGLE = "/v1/projects/cognition/locations/us/publishers/google/models/gemini-pro"
VIDEOS = "/api/v3/contents/generations/tasks"
CHAT: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
}
CLAUDE = {**CHAT, "max_tokens": 100}
GEMINI: dict[str, Any] = {"contents": [{"parts": [{"text": "What is the capital of France?"}]}]}
VIDEO = {"model": "seedance", "content": [{"type": "text", "text": "A lighthouse."}]}
PARIS = "The capital of France is Paris."
NATIVE = {"vendor": "google"}

CALLS = [
    ("/v1/chat/completions", CHAT),
    ("/v1/embeddings", {"model": "e", "input": "a"}),
    ("/v1/messages", CLAUDE),
    (f"{GOOGLE}:generateContent", GEMINI),
    (f"{GOOGLE}:streamGenerateContent", GEMINI),
    (VIDEOS, VIDEO),
]


def is_error(path: str, body: Any, status: int) -> bool:
    """Tell whether a body is an error in the shape of the path's dialect."""
    if path.startswith("/v1/messages"):
        return set(body) == {"type", "error", "request_id"} and set(body["error"]) == {
            "type",
            "message",
        }
    if path.startswith("/v1/projects"):
        return bool(body["error"]["code"] == status and body["error"]["status"].isupper())
    return set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("path", "body"), CALLS)
def test_every_call_is_answered_and_carries_a_request_id(
    router: httpx.Client, path: str, body: Any
) -> None:
    first, second = (router.post(path, json=body, headers=NATIVE) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


@pytest.mark.parametrize("key", [None, "", "Bearer", "Bearer ", "Basic abc"])
@pytest.mark.parametrize(("path", "body"), CALLS)
def test_a_call_without_a_key_is_refused_in_its_dialect(
    simulator: str, path: str, body: Any, key: str | None
) -> None:
    headers = NATIVE if key is None else {**NATIVE, "Authorization": key}
    answer = httpx.post(simulator + path, json=body, headers=headers, trust_env=False)
    assert answer.status_code == 401
    assert is_error(path, answer.json(), 401)
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(("path", "body"), CALLS)
def test_a_native_call_needs_a_vendor_and_the_others_do_not(
    router: httpx.Client, path: str, body: Any
) -> None:
    answer = router.post(path, json=body)
    if path in ("/v1/chat/completions", "/v1/embeddings"):
        assert answer.status_code == 200
        return
    assert answer.status_code == 400
    assert is_error(path, answer.json(), 400)
    assert "vendor" in answer.text


@pytest.mark.parametrize(("path", "body"), CALLS)
@pytest.mark.parametrize(
    "wrong", [b"", b"{", b"[]", b'"text"', b"[" * 100_000, b"{}", b'{"model": 3}']
)
def test_a_body_that_is_none_is_refused_in_its_dialect(
    router: httpx.Client, path: str, body: Any, wrong: bytes
) -> None:
    answer = router.post(path, content=wrong, headers=NATIVE)
    assert answer.status_code == 400
    assert is_error(path, answer.json(), 400)


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
USER = {"role": "user", "content": "Hello"}
TOOL = {"name": "t", "input_schema": {}}


@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        ("/v1/chat/completions", {"temperature": 3}, "temperature"),
        ("/v1/chat/completions", {"messages": []}, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "robot"}]}, "messages.0.role"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [IMAGE]}]}, "image"),
        (
            "/v1/chat/completions",
            {"messages": [USER, {"role": "tool", "tool_call_id": "x", "content": "1"}]},
            "messages.1.tool_call_id",
        ),
        ("/v1/chat/completions", {"stop": list("abcde")}, "stop"),
        ("/v1/chat/completions", {"tools": [{"type": "function"}]}, "tools.0.function"),
        (
            "/v1/chat/completions",
            {"tool_choice": {"type": "function", "function": {"name": "no"}}},
            "tool_choice",
        ),
        ("/v1/messages", {"max_tokens": None}, "max_tokens"),
        ("/v1/messages", {"temperature": 1.5}, "temperature"),
        ("/v1/messages", {"thinking": {"type": "enabled"}}, "budget_tokens"),
        ("/v1/messages", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, "max_tokens"),
        (
            "/v1/messages",
            {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
            "tool_use_id",
        ),
        (
            "/v1/messages",
            {
                "messages": [
                    USER,
                    {
                        "role": "assistant",
                        "content": [{"type": "thinking", "thinking": "a", "signature": "b"}],
                    },
                    USER,
                ]
            },
            "signature",
        ),
        (
            "/v1/messages",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "base64", "data": "!"}}],
                    }
                ]
            },
            "base64",
        ),
        ("/v1/messages", {"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice"),
        (f"{GOOGLE}:generateContent", {"contents": []}, "contents"),
        (f"{GOOGLE}:generateContent", {"contents": [{"parts": []}]}, "contents.0.parts"),
        (f"{GOOGLE}:generateContent", {"generationConfig": {"maxOutputTokens": 0}}, "maxOutput"),
        (
            f"{GOOGLE}:generateContent",
            {"safetySettings": [{"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "SOME"}]},
            "safetySettings.0.threshold",
        ),
        (
            f"{GOOGLE}:generateContent",
            {"contents": [{"parts": [{"inlineData": {"data": "AAAA"}}]}]},
            "inlineData",
        ),
    ],
)
def test_a_wrong_field_is_refused_by_name_in_its_dialect(
    router: httpx.Client, path: str, change: Any, says: str
) -> None:
    body = next(body for other, body in CALLS if other == path)
    answer = router.post(path, json={**body, **change}, headers=NATIVE)
    assert answer.status_code == 400, answer.text
    assert is_error(path, answer.json(), 400)
    assert says in answer.text


def test_an_unknown_vendor_is_refused_and_auto_is_none(router: httpx.Client) -> None:
    def status(vendor: str) -> int:
        call = router.post("/v1/chat/completions", json=CHAT, headers={"vendor": vendor})
        return call.status_code

    assert [status("auto"), status("mistral"), status("nobody")] == [200, 200, 400]


def test_claude_needs_a_version(simulator: str) -> None:
    headers = {"Authorization": "Bearer k", "vendor": "anthropic"}
    answer = httpx.post(f"{simulator}/v1/messages", json=CLAUDE, headers=headers, trust_env=False)
    assert answer.status_code == 400
    assert "anthropic-version" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/nothing", 404),
        ("POST", "/v1/messages/batches", 404),
        ("POST", f"{GOOGLE}:countTokens", 404),
        ("GET", f"{VIDEOS}/cgt-unknown", 404),
        ("GET", "/v1/chat/completions", 405),
        ("PUT", "/v1/messages", 405),
        ("GET", f"{GOOGLE}:generateContent", 405),
        ("DELETE", VIDEOS, 405),
    ],
)
def test_a_wrong_path_or_method_is_refused_in_the_paths_dialect(
    router: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = router.request(method, path, headers=NATIVE)
    assert answer.status_code == status
    assert is_error(path, answer.json(), status)
    assert ("Allow" in answer.headers) is (status == 405)


def test_a_body_over_the_limit_is_refused(router: httpx.Client) -> None:
    answer = router.post("/v1/messages", content=b" " * (34 * 1024 * 1024), headers=NATIVE)
    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "request_too_large"


def test_usage_comes_in_a_streams_last_chunk_and_only_where_it_was_asked_for(
    router: httpx.Client,
) -> None:
    def last(**options: Any) -> Any:
        body = {**CHAT, "stream": True, **options}
        return events(router.post("/v1/chat/completions", json=body).text)[-1]

    assert "usage" not in last()
    asked = last(stream_options={"include_usage": True})
    assert (asked["choices"], asked["usage"]["completion_tokens"]) == ([], 6)


def test_an_openai_stream_begins_with_a_comment_and_ends_with_done(router: httpx.Client) -> None:
    text = router.post("/v1/chat/completions", json={**CHAT, "stream": True}).text
    assert text.startswith(": PROCESSING\n\ndata: {")
    assert text.endswith('"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')


def test_several_choices_take_turns_in_a_stream(router: httpx.Client) -> None:
    body = {**CHAT, "stream": True, "n": 3}
    chunks = events(router.post("/v1/chat/completions", json=body).text)
    assert [chunk["choices"][0]["index"] for chunk in chunks[:6]] == [0, 1, 2, 0, 1, 2]


def test_a_claude_stream_has_pings_and_names_each_event(router: httpx.Client) -> None:
    text = router.post("/v1/messages", json={**CLAUDE, "stream": True}, headers=NATIVE).text
    names = [line[7:] for line in text.split("\n") if line.startswith("event: ")]
    assert names == [event["type"] for event in events(text)]
    assert "ping" in names
    assert names[-2:] == ["message_delta", "message_stop"]


def test_gemini_streams_as_events_with_alt_sse_and_as_an_array_without(
    router: httpx.Client,
) -> None:
    path = f"{GOOGLE}:streamGenerateContent"
    plain = router.post(path, json=GEMINI, headers=NATIVE)
    named = router.post(f"{path}?alt=sse", json=GEMINI, headers=NATIVE)
    assert plain.headers["content-type"] == "application/json"
    assert named.headers["content-type"] == "text/event-stream"
    assert "\r\n\r\n" in named.text
    texts = [
        [one["candidates"][0].get("content") for one in sent]
        for sent in (plain.json(), events(named.text))
    ]
    assert texts[0] == texts[1]
    assert plain.json()[-1]["candidates"][0]["finishReason"] == "STOP"


def test_a_picture_is_decoded_and_described_in_each_dialect(router: httpx.Client) -> None:
    data = base64.b64encode(chessboard()).decode()
    url = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}
    source = {"type": "base64", "media_type": "image/jpeg", "data": data}
    openai = {**CHAT, "messages": [{"role": "user", "content": [url]}]}
    claude = {
        **CLAUDE,
        "messages": [{"role": "user", "content": [{"type": "image", "source": source}]}],
    }
    inline = {"mime_type": "image/jpeg", "data": data}
    gemini = {"contents": [{"parts": [{"inline_data": inline}]}]}
    says = "There is one image here: a JPEG of 178 bytes."
    for path, body in zip(
        ("/v1/chat/completions", "/v1/messages", f"{GOOGLE}:generateContent"),
        (openai, claude, gemini),
        strict=True,
    ):
        assert says in router.post(path, json=body, headers=NATIVE).text


def test_the_same_text_has_the_same_vector_of_length_1(router: httpx.Client) -> None:
    body = {"model": "e", "input": ["one", "two", "one"]}
    data = router.post("/v1/embeddings", json=body).json()["data"]
    vectors = [one["embedding"] for one in data]
    assert vectors[0] == vectors[2] != vectors[1]
    assert sum(value * value for value in vectors[0]) == pytest.approx(1, abs=1e-4)
    packed = router.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()
    raw = base64.b64decode(packed["data"][0]["embedding"])
    assert struct.unpack("<8f", raw) == pytest.approx(vectors[0], abs=1e-6)


def test_a_video_is_queued_then_running_then_succeeded(router: httpx.Client) -> None:
    task = router.post(VIDEOS, json=VIDEO, headers=NATIVE).json()["id"]
    polls = [router.get(f"{VIDEOS}/{task}", headers=NATIVE).json() for _ in range(4)]
    assert [poll["status"] for poll in polls] == ["queued", "running", "succeeded", "succeeded"]
    assert "content" not in polls[1]
    assert polls[2]["content"]["video_url"].endswith(".mp4")


def test_an_ordered_status_comes_so_often_then_the_answer(router: httpx.Client) -> None:
    headers = {"x-simulate": "status=429; retry-after=2; times=2", "x-simulate-key": "often"}
    answers = [
        router.post("/v1/chat/completions", json=CHAT, headers=headers) for _ in range(3)
    ]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert [answer.headers.get("retry-after") for answer in answers] == ["2", "2", None]
    assert answers[0].json()["error"]["type"] == "rate_limit_error"


def test_geminis_wait_stands_in_the_body(router: httpx.Client) -> None:
    headers = {**NATIVE, "x-simulate": "status=429; retry-info=3s"}
    answer = router.post(f"{GOOGLE}:generateContent", json=GEMINI, headers=headers)
    assert "retry-after" not in answer.headers
    assert answer.json()["error"]["details"] == [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}
    ]


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"x-simulate": "cutt=1"}, "'cutt': no such word"),
        ({"x-simulate": "cut=1; times=1"}, "x-simulate-key"),
        ({"x-simulate": "no-finish"}, "needs a stream"),
    ],
)
def test_a_wrong_spec_is_refused_in_clear_words(
    router: httpx.Client, headers: dict[str, str], says: str
) -> None:
    answer = router.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


STREAMS = [
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/messages", {**CLAUDE, "stream": True}),
    (f"{GOOGLE}:streamGenerateContent?alt=sse", GEMINI),
    (f"{GOOGLE}:streamGenerateContent", GEMINI),
]


@pytest.mark.parametrize(("path", "body"), STREAMS)
def test_a_cut_leaves_a_stream_without_its_end(router: httpx.Client, path: str, body: Any) -> None:
    got = b""
    headers = {**NATIVE, "x-simulate": "cut=5"}
    with (
        pytest.raises(httpx.RemoteProtocolError),
        router.stream("POST", path, json=body, headers=headers) as answer,
    ):
        for data in answer.iter_raw():
            got += data
    assert got
    assert not any(word in got for word in (b"[DONE]", b"message_stop", b"finishReason"))


@pytest.mark.parametrize(("path", "body"), [call for call in CALLS if ":stream" not in call[0]])
def test_a_cut_leaves_half_of_an_answer_in_one_piece(
    router: httpx.Client, path: str, body: Any
) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        router.post(path, json=body, headers={**NATIVE, "x-simulate": "cut=1"})


@pytest.mark.parametrize(
    ("path", "kind"), zip([path for path, _ in STREAMS], [503, 529, 503, 503], strict=True)
)
def test_an_error_inside_a_stream_comes_under_200_and_ends_it(
    router: httpx.Client, path: str, kind: int
) -> None:
    body = dict(STREAMS)[path]
    answer = router.post(path, json=body, headers={**NATIVE, "x-simulate": "error=3"})
    assert answer.status_code == 200
    array = answer.headers["content-type"] == "application/json"
    sent = answer.json() if array else events(answer.text)
    assert len(sent) == 4
    assert is_error(path, sent[-1], kind)
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize(("path", "body"), STREAMS)
def test_odd_splits_change_nothing(router: httpx.Client, path: str, body: Any) -> None:
    headers = {**NATIVE, "x-simulate": "split=bytes"}
    with router.stream("POST", path, json=body, headers=headers) as answer:
        reads = list(answer.iter_raw())
    assert len(reads) > 50
    text = b"".join(reads).decode()
    assert PARIS.split()[-1] in text
    assert "".join(reads.decode("latin1") for reads in reads).count("responseId") == text.count(
        "responseId"
    )


def test_a_stall_is_noticed_by_the_caller_and_ends_with_it(router: httpx.Client) -> None:
    headers = {"x-simulate": "stall=2:60"}
    begun = time.monotonic()
    with (
        pytest.raises(httpx.ReadTimeout),
        router.stream(
            "POST", "/v1/chat/completions", json=STREAMS[0][1], headers=headers, timeout=0.3
        ) as answer,
    ):
        answer.read()
    assert time.monotonic() - begun < 30


def test_the_page_lists_every_path_and_word(router: httpx.Client) -> None:
    page = router.get("/").text
    for what in ("/v1/chat/completions", "/v1/messages", ":generateContent", VIDEOS, "cut=5"):
        assert what in page


def test_the_journal_has_the_last_hundred_calls_and_no_bodies(router: httpx.Client) -> None:
    secret = "the-words-of-a-prompt"
    body = {**CHAT, "messages": [{"role": "user", "content": secret}]}
    headers = {"vendor": "openai", "x-simulate": "status=503"}
    for _ in range(101):
        last = router.post("/v1/chat/completions", json=body, headers=headers)
    journal = router.get("/journal").json()
    assert len(journal) == 100
    assert journal[-1].pop("at") == pytest.approx(time.time(), abs=60)
    assert journal[-1] == {
        "method": "POST",
        "path": "/v1/chat/completions",
        "vendor": "openai",
        "status": 503,
        "fault": "status=503",
        "request_id": last.headers["x-request-id"],
    }
    assert secret not in json.dumps(journal)
    assert "Bearer" not in json.dumps(journal)
