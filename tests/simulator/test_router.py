"""The simulator over HTTP: what it answers to a good call."""

import base64
import json
import struct
import time
from typing import Any

import httpx
import pytest

from tests.simulator.calls import CALLS, CHAT, CLAUDE, GEMINI, GOOGLE, NATIVE, VIDEO, VIDEOS
from tests.simulator.saying import events
from worker.demo.picture import chessboard


@pytest.mark.parametrize(("path", "body"), CALLS)
def test_every_call_is_answered_and_carries_a_request_id(
    router: httpx.Client, path: str, body: Any
) -> None:
    first, second = (router.post(path, json=body, headers=NATIVE) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


@pytest.mark.parametrize(
    ("path", "limit", "stop", "words"),
    [
        (
            "/v1/chat/completions",
            {"max_tokens": 2},
            {"stop": " is"},
            ['"finish_reason":"length"', '"finish_reason":"stop"'],
        ),
        (
            "/v1/messages",
            {"max_tokens": 2},
            {"stop_sequences": [" is"]},
            ['"stop_reason":"max_tokens"', '"stop_sequence","stop_sequence":" is"'],
        ),
        (
            f"{GOOGLE}:generateContent",
            {"generationConfig": {"maxOutputTokens": 2}},
            {"generationConfig": {"stopSequences": [" is"]}},
            ['"finishReason":"MAX_TOKENS"', '"finishReason":"STOP"'],
        ),
    ],
)
def test_a_limit_and_a_stop_sequence_end_the_answer_in_the_dialects_word(
    router: httpx.Client, path: str, limit: Any, stop: Any, words: list[str]
) -> None:
    body = dict(CALLS)[path]
    answers = [router.post(path, json={**body, **end}, headers=NATIVE) for end in (limit, stop)]
    for answer, word, text in zip(answers, words, ("The capital ", "of France"), strict=True):
        assert word in answer.text
        assert f'{text}"' in answer.text


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


def test_the_page_lists_every_path_and_word(router: httpx.Client) -> None:
    page = router.get("/").text
    for what in ("/v1/chat/completions", "/v1/messages", ":generateContent", VIDEOS, "cut=5"):
        assert what in page


def test_the_journal_has_the_last_hundred_calls_and_no_bodies(router: httpx.Client) -> None:
    secret = "the-words-of-a-prompt"
    body = {**CHAT, "messages": [{"role": "user", "content": secret}]}
    headers = {"vendor": "openai", "x-simulate": "status=503"}
    answers = [router.post("/v1/chat/completions", json=body, headers=headers) for _ in range(101)]
    journal = router.get("/journal").json()
    assert len(journal) == 100
    assert journal[-1].pop("at") == pytest.approx(time.time(), abs=60)
    assert journal[-1] == {
        "method": "POST",
        "path": "/v1/chat/completions",
        "vendor": "openai",
        "status": 503,
        "fault": "status=503",
        "request_id": answers[-1].headers["x-request-id"],
    }
    assert secret not in json.dumps(journal)
    assert "Bearer" not in json.dumps(journal)
