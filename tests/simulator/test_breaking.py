"""The faults, over HTTP: what a caller sees of each."""

import re
from typing import Any

import httpx
import pytest

from tests.simulator.calls import CALLS, CHAT, GEMINI, GOOGLE, NATIVE, STREAMS, is_error
from tests.simulator.saying import events


def test_an_ordered_status_comes_so_often_then_the_answer(router: httpx.Client) -> None:
    headers = {"x-simulate": "status=429; retry-after=2; times=2", "x-simulate-key": "often"}
    answers = [router.post("/v1/chat/completions", json=CHAT, headers=headers) for _ in range(3)]
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


@pytest.mark.parametrize(("path", "body"), STREAMS)
def test_a_cut_leaves_a_stream_without_its_end(router: httpx.Client, path: str, body: Any) -> None:
    got: list[bytes] = []
    headers = {**NATIVE, "x-simulate": "cut=5"}
    with (
        pytest.raises(httpx.RemoteProtocolError),
        router.stream("POST", path, json=body, headers=headers) as answer,
    ):
        got.extend(answer.iter_raw())
    assert got
    assert not any(word in b"".join(got) for word in (b"[DONE]", b"message_stop", b"finishReason"))


@pytest.mark.parametrize(("path", "body"), [call for call in CALLS if ":stream" not in call[0]])
def test_a_cut_leaves_half_of_an_answer_in_one_piece(
    router: httpx.Client, path: str, body: Any
) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        router.post(path, json=body, headers={**NATIVE, "x-simulate": "cut=1"})


@pytest.mark.parametrize(("path", "body"), STREAMS)
def test_a_stream_without_its_finish_has_all_the_text_and_ends_as_http_should(
    router: httpx.Client, path: str, body: Any
) -> None:
    answer = router.post(path, json=body, headers={**NATIVE, "x-simulate": "no-finish"})
    assert '"Paris."' in answer.text
    for word in ("[DONE]", '_reason":"', "message_stop", "finishReason"):
        assert word not in answer.text


@pytest.mark.parametrize(
    ("path", "body"),
    STREAMS,
)
def test_an_error_inside_a_stream_comes_under_200_and_ends_it(
    router: httpx.Client, path: str, body: Any
) -> None:
    answer = router.post(path, json=body, headers={**NATIVE, "x-simulate": "error=3"})
    assert answer.status_code == 200
    array = answer.headers["content-type"] == "application/json"
    sent = answer.json() if array else events(answer.text)
    assert len(sent) == 4
    assert is_error(path, sent[-1], 503)
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize(("path", "body"), STREAMS)
def test_odd_splits_change_nothing(router: httpx.Client, path: str, body: Any) -> None:
    headers = {**NATIVE, "x-simulate": "split=bytes"}
    with router.stream("POST", path, json=body, headers=headers) as answer:
        reads = list(answer.iter_raw())
    assert len(reads) > 50
    whole = router.post(path, json=body, headers=NATIVE).content
    volatile = re.compile(rb"[0-9a-f]{32}|\d{10}")
    assert volatile.sub(b"", b"".join(reads)) == volatile.sub(b"", whole)


def test_a_stall_is_silence_after_the_chunks_it_names(router: httpx.Client) -> None:
    got: list[str] = []
    headers = {"x-simulate": "stall=2:60"}
    path, body = STREAMS[0]
    with (
        pytest.raises(httpx.ReadTimeout),
        router.stream("POST", path, json=body, headers=headers, timeout=3) as answer,
    ):
        got.extend(answer.iter_text())
    assert len(events("".join(got))) == 2
