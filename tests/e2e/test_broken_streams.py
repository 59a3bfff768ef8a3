"""Streams that end badly: nothing half is ever taken for whole."""

import json
from typing import Any

import pytest
import redis as redis_library

from api_contracts.client import Client
from api_contracts.client.text import TextView, text_of_response
from api_contracts.errors import StreamReset
from tests.parts import answers
from tests.parts.aimock import Aimock
from tests.parts.answers import GEMINI, event
from tests.parts.following import Ear, ended, error_of, kinds, result_of
from tests.parts.gate import Answer, Do, Gate, Pause, stream

Json = dict[str, Any]

pytestmark = pytest.mark.usefixtures("worker")

MESSAGES = [{"role": "user", "content": "hello"}]
TEXTS = ("Half ", "and ", "half.")
#: A native task in each protocol, and what writes its stream.
CALLS: dict[str, tuple[str, Json, Any]] = {
    "openai": ("/v1/chat/completions", {"model": "m", "messages": MESSAGES}, answers.openai),
    "anthropic": (
        "/v1/messages",
        {"model": "c", "max_tokens": 9, "messages": MESSAGES},
        answers.anthropic,
    ),
    "gemini": (
        f"{GEMINI}:streamGenerateContent?alt=sse",
        {"contents": [{"parts": [{"text": "hello"}]}]},
        answers.gemini_sse,
    ),
    "gemini-array": (
        f"{GEMINI}:streamGenerateContent",
        {"contents": [{"parts": [{"text": "hello"}]}]},
        answers.gemini_array,
    ),
}
OPENAI_ERROR = {"error": {"message": "try later", "type": "server_error", "code": None}}
ANTHROPIC_ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "try later"}}
GEMINI_ERROR = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "try later"}}
ERRORS = {
    "openai": (event(OPENAI_ERROR), "upstream_error"),
    "anthropic": (event(ANTHROPIC_ERROR, "error"), "overloaded"),
    "gemini": (event(GEMINI_ERROR), "overloaded"),
    "gemini-array": (b"," + json.dumps(GEMINI_ERROR).encode() + b"]", "overloaded"),
}


def _streamed(*steps: bytes | Pause | Do, protocol: str = "openai") -> Answer:
    kind = "application/json" if protocol == "gemini-array" else "text/event-stream"
    return stream(*steps, content_type=kind)


def _begin(protocol: str, client: Client, **options: Any) -> str:
    path, request, _ = CALLS[protocol]
    return client.native(path, request, options={"stream": True, **options}).id


def _check_restart(redis: redis_library.Redis, task_id: str, code: str, protocol: str) -> None:
    """The first attempt showed something and failed; the second is the answer, whole."""
    events = ended(redis, task_id)
    assert kinds(events) == [
        *("queued", "started", "chunk", "retrying"),
        *("started", "chunk", "completed"),
    ]
    begins = [event for event in events if event.type == "started"]
    assert [(one.attempt, one.resets) for one in begins] == [(1, False), (2, True)]
    (retrying,) = [event for event in events if event.type == "retrying"]
    assert (retrying.error.code, retrying.error.retryable) == (code, True)
    result = result_of(redis, task_id)
    assert [one.outcome for one in result.attempts] == [code, "completed"]
    assert text_of_response(result.response) == "".join(TEXTS)
    view = TextView()
    assert "".join(view.piece(one) for one in events if one.cursor.attempt == 2) == "".join(TEXTS)


@pytest.mark.parametrize("protocol", ["openai", "anthropic", "gemini"])
def test_after_a_cut_the_answer_begins_anew_and_says_so(
    aimock: Aimock, gate: Gate, client: Client, redis: redis_library.Redis,
    protocol: str,
) -> None:  # fmt: skip
    said = {"response": {"content": "".join(TEXTS)}, "chunkSize": 2}
    cut = {"latency": 5, "truncateAfterChunks": 4}
    aimock.serve(
        {"match": {"sequenceIndex": 0}, **said, **cut}, {"match": {"sequenceIndex": 1}, **said}
    )
    gate.lead_to(aimock.url)
    _check_restart(redis, _begin(protocol, client), "truncated", protocol)


@pytest.mark.parametrize("end", [(), (Do.CUT,)], ids=["in-silence", "with-a-reset"])
@pytest.mark.parametrize("protocol", CALLS)
def test_a_stream_that_ends_without_its_finish_is_never_an_answer(
    gate: Gate, client: Client, redis: redis_library.Redis,
    protocol: str, end: Answer,
) -> None:  # fmt: skip
    unfinished = CALLS[protocol][2](*TEXTS, finish=False)
    gate.answer(*[_streamed(*unfinished, *end, protocol=protocol)] * 2)
    task = _begin(protocol, client, retry={"max_attempts": 2})
    error = error_of(redis, task)
    assert (error["code"], error["attempts"], error["status"]) == ("truncated", 2, 200)
    assert redis.hexists(f"rw:{{{task}}}", "result") is False


@pytest.mark.parametrize("protocol", CALLS)
def test_an_empty_stream_is_never_an_answer(
    gate: Gate, client: Client, redis: redis_library.Redis, protocol: str
) -> None:
    gate.answer(
        _streamed(protocol=protocol),
        _streamed(*CALLS[protocol][2](*TEXTS), protocol=protocol),
    )
    events = ended(redis, _begin(protocol, client))
    assert kinds(events) == ["queued", "started", "retrying", "started", "chunk", "completed"]
    # Nothing was shown that could be void.
    assert [event.resets for event in events if event.type == "started"] == [False, False]


@pytest.mark.parametrize("protocol", CALLS)
def test_after_an_error_inside_the_stream_the_answer_begins_anew(
    gate: Gate, client: Client, redis: redis_library.Redis, protocol: str
) -> None:
    write, (error, code) = CALLS[protocol][2], ERRORS[protocol]
    gate.answer(
        _streamed(*write("Half ", finish=False)[: -1 if "array" in protocol else None], error,
                  protocol=protocol),
        _streamed(*write(*TEXTS), protocol=protocol),
    )  # fmt: skip
    _check_restart(redis, _begin(protocol, client), code, protocol)


@pytest.mark.parametrize(
    ("protocol", "error", "code"),
    [
        ("openai", {"error": {"message": "no", "code": "context_length_exceeded"}}, "rejected"),
        ("openai", {"error": {"message": "no", "code": "content_filter"}}, "refused"),
        (
            "anthropic",
            {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}},
            "rejected",
        ),
        ("gemini", {"promptFeedback": {"blockReason": "SAFETY"}}, "refused"),
    ],
)
def test_a_refusal_inside_the_stream_is_not_tried_again(  # noqa: PLR0913, PLR0917
    gate: Gate, client: Client, redis: redis_library.Redis,
    protocol: str, error: Json, code: str,
) -> None:  # fmt: skip
    gate.answer(_streamed(event(error)))
    told = error_of(redis, _begin(protocol, client))
    assert (told["code"], told["retryable"], told["attempts"]) == (code, False, 1)
    assert len(gate.requests) == 1


@pytest.mark.parametrize("broken", [b"data: {oops\n\n", b'data: ["list"]\n\n', b"data: 5\n\n"])
@pytest.mark.parametrize("protocol", ["openai", "anthropic", "gemini"])
def test_after_a_frame_that_is_none_the_answer_begins_anew(
    gate: Gate, client: Client, redis: redis_library.Redis,
    protocol: str, broken: bytes,
) -> None:  # fmt: skip
    write = CALLS[protocol][2]
    gate.answer(_streamed(*write("Half ", finish=False), broken), _streamed(*write(*TEXTS)))
    _check_restart(redis, _begin(protocol, client), "malformed", protocol)


def test_whoever_reads_text_alone_is_told_that_it_is_void(gate: Gate, client: Client) -> None:
    half, good = answers.openai("Ha", finish=False), answers.openai(*TEXTS)
    gate.answer(_streamed(*half), _streamed(*good), _streamed(*half), _streamed(*good))
    shown: list[str] = []
    for text in client.chat("m", MESSAGES, stream=True).text(on_reset=shown.clear):
        shown.append(text)  # noqa: PERF402 - it is emptied on the way
    assert shown == list(TEXTS)
    unprepared = client.chat("m", MESSAGES, stream=True)
    with pytest.raises(StreamReset):
        list(unprepared.text())
    assert text_of_response(unprepared.result(10).response) == "".join(TEXTS)


def test_the_tokens_of_a_stream_that_was_cut_are_estimated(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.answer(
        _streamed(*answers.anthropic("a" * 40, finish=False)), _streamed(*answers.anthropic("b"))
    )
    result = result_of(redis, _begin("anthropic", client))
    cut, whole = (attempt.usage for attempt in result.attempts)
    assert (cut.provenance, cut.input_tokens, cut.output_tokens) == ("estimated", 3, 10)
    assert (whole.provenance, whole.input_tokens, whole.output_tokens) == ("reported", 3, 5)
    usage = result.usage
    assert (usage.provenance, usage.input_tokens, usage.output_tokens) == ("estimated", 6, 15)


@pytest.mark.parametrize("protocol", CALLS)
def test_a_stream_may_come_byte_by_byte(
    gate: Gate, client: Client, redis: redis_library.Redis, protocol: str
) -> None:
    texts = ("Zwölf ", "Boxkämpfer ", "😀")
    data = b": hello\r\n\r\n" * ("array" not in protocol) + b"".join(CALLS[protocol][2](*texts))
    gate.answer(_streamed(*(data[i : i + 1] for i in range(len(data))), protocol=protocol))
    result = result_of(redis, _begin(protocol, client))
    assert text_of_response(result.response) == "".join(texts)
    assert len(result.attempts) == 1


def test_each_piece_of_a_gemini_array_is_published_while_the_next_is_awaited(
    gate: Gate, client: Client
) -> None:
    opening, *pieces = answers.gemini_array(*TEXTS)
    unseen = [Pause(60) for _ in TEXTS]
    # Behind an element nothing comes, no comma either, until it was seen.
    steps: list[bytes | Pause] = [opening]
    for element, pause, mark in zip(pieces[::2], unseen, pieces[1::2], strict=True):
        steps += [element, pause, mark]
    gate.answer(_streamed(*steps, protocol="gemini-array"))
    events = client.stream(_begin("gemini-array", client))
    chunks = (event for event in events if event.type == "chunk")
    for expected, pause in zip(answers.gemini(*TEXTS), unseen, strict=True):
        assert next(chunks).data == expected
        pause.over.set()
    assert next(chunks, None) is None


def test_a_finished_answer_is_kept_though_its_connection_breaks(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.answer(_streamed(*answers.openai(*TEXTS)[:-1], Do.CUT))
    result = result_of(redis, _begin("openai", client))
    assert (text_of_response(result.response), len(result.attempts)) == ("".join(TEXTS), 1)


def test_an_answer_that_comes_whole_though_a_stream_was_asked_for_is_taken(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    message = {"role": "assistant", "content": "All at once."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps({"id": "1", "object": "chat.completion", "choices": [choice]}).encode()
    gate.answer(stream(body, content_type="application/json"))
    result = result_of(redis, _begin("openai", client))
    assert text_of_response(result.response) == "All at once."


def test_an_event_over_64_kib_is_in_the_log_and_announced_on_the_channel(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    text = "x" * 100_000
    gate.answer(_streamed(*answers.openai(text, "end")))
    with Ear(redis) as ear:
        handle = client.chat("m", MESSAGES, stream=True)
        heard = ear.until_ended(handle.id)
    assert [one["type"] for one in heard] == [
        *("queued", "started", "stored", "chunk", "chunk", "completed"),
    ]
    seen = list(handle)
    first = next(event.data for event in seen if event.type == "chunk")
    assert first["choices"][0]["delta"]["content"] == text
    ending = seen[-1]
    assert ending.type == "completed"
    assert (ending.result, ending.result_key) == (None, f"rw:{{{handle.id}}}")
    assert text_of_response(handle.result(10).response) == text + "end"
