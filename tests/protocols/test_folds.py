"""What the folds promise beyond the transcripts: completeness, usage, and frames of any shape."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.errors import ErrorCode
from worker.errors import AttemptFailed
from worker.protocols import anthropic, gemini, openai, plain
from worker.protocols.base import Call, Fold, ProtocolModule

STREAM = Call("POST", "/", {}, b"", stream=True)
INJECTED = Call("POST", "/", {}, b"", stream=True, usage_injected=True)
FOLDING: list[ProtocolModule] = [openai, anthropic, gemini]
DONE = b"[DONE]"
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def frame(value: object) -> bytes:
    return json.dumps(value).encode()


def chunk(delta: object, finish: str | None = None, index: int = 0, **more: object) -> bytes:
    return frame({"choices": [{"index": index, "delta": delta, "finish_reason": finish}], **more})


def taken(fold: Fold, *frames: bytes) -> list[bool]:
    return [fold.add(one) for one in frames]


def test_the_usage_chunk_is_kept_back_only_where_we_asked_for_it() -> None:
    frames = (
        chunk({"content": "a"}, usage=None),
        chunk({}, "stop", usage=None),
        frame({"choices": [], "usage": USAGE}),
        DONE,
    )
    ours, theirs = openai.fold(INJECTED), openai.fold(STREAM)
    assert taken(ours, *frames) == [True, True, False, False]
    assert taken(theirs, *frames) == [True, True, True, False]
    assert ours.answer() == theirs.answer()
    assert ours.answer().usage.total_tokens == 7


def test_a_chunk_with_more_than_usage_is_published_whoever_asked() -> None:
    fold = openai.fold(INJECTED)
    assert taken(
        fold,
        frame({"choices": [], "prompt_filter_results": []}),
        chunk({"content": "a"}, "stop", usage=USAGE),
    ) == [True, True]


@pytest.mark.parametrize(
    ("answers", "frames", "complete"),
    [
        (1, [chunk({"content": "a"}, "stop")], True),
        (1, [chunk({"content": "a"}), DONE], False),
        (1, [DONE], False),
        (1, [chunk({"content": "a"}, "")], False),  # some say an empty reason for none
        (1, [chunk({"content": "a"}, "stop"), chunk({"content": "b"}, index=1)], False),
        (2, [chunk({}, "stop")], False),
        (2, [chunk({}, "stop"), chunk({}, "stop", index=1)], True),
        (2, [chunk({}, "stop"), chunk({"content": "b"}, index=1), DONE], False),
        (2, [chunk({}, "stop"), DONE], True),  # the provider does not know `n`
        (1, [frame({"choices": []}), DONE], False),
    ],
)
def test_openai_is_complete_when_every_choice_has_finished(
    answers: int, frames: list[bytes], *, complete: bool
) -> None:
    fold = openai.fold(Call("POST", "/", {}, b"", stream=True, answers=answers))
    taken(fold, *frames)
    assert fold.complete is complete


def test_a_text_goes_where_it_belongs_whatever_came_between() -> None:
    """The short way for plain texts must not be taken for another choice or another field."""
    fold = openai.fold(Call("POST", "/", {}, b"", stream=True, answers=2))
    for index, delta in [
        (0, {"content": "a"}), (0, {"content": "b"}), (1, {"content": "A"}), (0, {"content": "c"}),
        (0, {"reasoning": "r"}), (0, {"content": "d"}), (1, {"content": "B"}),
        (1, {"content": None}), (1, {"content": "C"}), (0, {"content": ""}),
    ]:  # fmt: skip
        fold.add(chunk(delta, index=index))
    taken(fold, chunk({"content": "!"}, "stop"), chunk({"content": "?"}, "stop", index=1))
    messages = [choice["message"] for choice in fold.answer().response["choices"]]
    assert [message["content"] for message in messages] == ["abcd!", "ABC?"]
    assert messages[0]["reasoning"] == "r"


def test_a_later_chunk_that_says_nothing_takes_nothing_back() -> None:
    fold = openai.fold(STREAM)
    fold.add(chunk({"content": "a"}, id="c1", created=5, model="m", usage=USAGE))
    fold.add(chunk({}, "stop", id="", created=0, model=None, usage=None, service_tier=None))
    response = fold.answer().response
    assert (response["id"], response["created"], response["model"]) == ("c1", 5, "m")
    assert response["usage"] == USAGE
    assert response["service_tier"] is None


def test_choices_without_index_or_reason_are_still_read() -> None:
    fold = openai.fold(STREAM)
    taken(fold, frame({"choices": [{"delta": {"content": "a"}}]}))
    taken(fold, frame({"choices": [{"delta": {"content": "b"}}]}))
    taken(fold, frame({"choices": [{"delta": {}, "finish_reason": "stop"}]}))
    assert fold.answer().response["choices"][0]["message"]["content"] == "ab"


def test_content_that_changes_between_parts_and_text_loses_nothing() -> None:
    """Mistral's thinking comes as parts, and its answer as bare text behind them."""
    think = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    fold = openai.fold(STREAM)
    for content in ("", [think], "So", " it is", [think], "."):
        fold.add(chunk({"content": content}))
    fold.add(chunk({"content": ""}, "stop"))
    assert fold.answer().response["choices"][0]["message"]["content"] == [
        think,
        {"type": "text", "text": "So it is"},
        think,
        {"type": "text", "text": "."},
    ]
    other = openai.fold(STREAM)
    taken(other, chunk({"content": "First"}), chunk({"content": [think]}, "stop"))
    assert other.answer().response["choices"][0]["message"]["content"] == [
        {"type": "text", "text": "First"},
        think,
    ]


def test_a_prompt_that_gemini_blocked_is_refused_and_not_retried() -> None:
    feedback = {"blockReason": "SAFETY", "blockReasonMessage": "Not this."}
    with pytest.raises(AttemptFailed) as streamed:
        gemini.fold(STREAM).add(frame({"promptFeedback": feedback}))
    with pytest.raises(AttemptFailed) as whole:
        gemini.read({"promptFeedback": feedback, "candidates": []})
    for caught in (streamed, whole):
        failure = caught.value.failure
        assert (failure.code, failure.provider_code) == (ErrorCode.REFUSED, "SAFETY")
        assert failure.message == "Not this."
        assert not failure.retryable


def test_parts_of_gemini_that_say_nothing_end_no_stream() -> None:
    fold = gemini.fold(STREAM)
    for part in ({}, {"text": "a"}, {"thought": True}, {"text": "b"}, {"text": ""}, {"text": "c"}):
        fold.add(frame({"candidates": [{"content": {"parts": [part]}}]}))
    fold.add(frame({"candidates": [{"finishReason": "STOP"}]}))
    parts = fold.answer().response["candidates"][0]["content"]["parts"]
    assert parts == [{}, {"text": "a"}, {"thought": True}, {"text": "bc"}]


def test_feedback_beside_candidates_blocks_nothing() -> None:
    said = {"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}
    fold = gemini.fold(STREAM)
    fold.add(frame({"candidates": [said]}))
    assert fold.add(frame({"promptFeedback": {"blockReason": "SAFETY"}}))
    assert fold.complete


@pytest.mark.parametrize(
    ("module", "response"),
    [
        (openai, {"choices": []}),
        (openai, {"choices": ["a"]}),
        (openai, {"id": "x"}),
        (openai, []),
        (openai, "text"),
        (anthropic, {"type": "message"}),
        (anthropic, None),
        (gemini, {"candidates": []}),
        (gemini, {"usageMetadata": {}}),
        (gemini, 7),
    ],
)
def test_an_answer_without_content_is_malformed(module: ProtocolModule, response: object) -> None:
    with pytest.raises(AttemptFailed) as caught:
        module.read(response)
    assert caught.value.failure.code is ErrorCode.MALFORMED


@pytest.mark.parametrize(
    "response", [[], {}, 7, None, "text", {"status": "failed", "error": {"code": "x"}}]
)
def test_any_json_is_an_answer_of_a_plain_call(response: object) -> None:
    """A video task's report that the video failed is the answer to the question how it is."""
    assert plain.read(response).response is response


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 8, "total_tokens": 8}, (8, None, 8)),
        ({"input_tokens": 8, "output_tokens": 2}, (8, 2, 10)),
        ({"completion_tokens": 9, "total_tokens": 9}, (None, 9, 9)),
        ({"prompt_tokens": 0, "total_tokens": 0}, (None, None, None)),
        ("many", (None, None, None)),
    ],
)
def test_a_plain_answers_usage_is_read_in_the_common_names(
    usage: object, counts: tuple[int | None, ...]
) -> None:
    told = plain.read({"data": [], "usage": usage}).usage
    assert (told.input_tokens, told.output_tokens, told.total_tokens) == counts


def test_a_plain_call_has_no_stream_to_fold() -> None:
    fold = plain.fold(STREAM)
    assert not fold.complete
    assert fold.partial_usage().provenance == "unavailable"
    for action in (lambda: fold.add(b"{}"), fold.answer):
        with pytest.raises(AttemptFailed) as caught:
            action()
        assert caught.value.failure.code is ErrorCode.INVALID_REQUEST


START = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 9}}}
OPEN = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}


def opened() -> Fold:
    fold = anthropic.fold(STREAM)
    taken(fold, frame(START), frame(OPEN))
    return fold


@pytest.mark.parametrize(
    "event",
    [
        START,
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 1}},
        {"type": "content_block_delta", "index": 0},
        {"type": "content_block_stop", "index": 7},
        {"type": "content_block_start", "index": "0", "content_block": {}},
        {"type": "message_delta"},
        {"type": 7},
        {"no": "type"},
        [],
        None,
    ],
)
def test_an_event_that_breaks_anthropics_order_is_malformed(event: object) -> None:
    with pytest.raises(AttemptFailed) as caught:
        opened().add(frame(event))
    assert caught.value.failure.code is ErrorCode.MALFORMED


@pytest.mark.parametrize("event", [OPEN, {"type": "message_stop"}])
def test_nothing_of_a_message_comes_before_its_start(event: object) -> None:
    with pytest.raises(AttemptFailed) as caught:
        anthropic.fold(STREAM).add(frame(event))
    assert caught.value.failure.code is ErrorCode.MALFORMED


def test_a_message_cut_behind_its_usage_has_it_reported() -> None:
    fold = opened()
    assert fold.partial_usage().input_tokens == 9
    assert fold.partial_usage().provenance == "estimated"
    fold.add(frame({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 5}}))
    usage = fold.partial_usage()
    assert (usage.provenance, usage.input_tokens, usage.output_tokens) == ("reported", 9, 5)


def test_a_null_in_a_message_delta_takes_nothing_back() -> None:
    fold = opened()
    news = {"container": {"id": "c"}, "stop_reason": "end_turn"}
    usage = {"output_tokens": 5, "cache_read_input_tokens": 2}
    nothing = {"output_tokens": 6, "cache_read_input_tokens": None}
    taken(
        fold,
        frame({"type": "message_delta", "delta": news, "usage": usage}),
        frame({"type": "message_delta", "delta": {"container": None}, "usage": nothing}),
        frame({"type": "message_stop"}),
    )
    answer = fold.answer()
    assert answer.response["container"] == {"id": "c"}
    assert answer.finish_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (11, 6)


@pytest.mark.parametrize("module", FOLDING)
@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"nope", b"\xff", b'{"a": NaN}', b'{"a": "\\ud83d", "b": NaN}', b"[" * 100_000],
)
def test_a_frame_that_is_no_json_is_malformed_and_not_repeated(
    module: ProtocolModule, raw: bytes
) -> None:
    with pytest.raises(AttemptFailed) as caught:
        module.fold(STREAM).add(raw)
    assert caught.value.failure.code is ErrorCode.MALFORMED
    assert "nope" not in caught.value.failure.message


KEYS = st.sampled_from(
    [
        "type", "index", "delta", "content", "choices", "message", "finish_reason", "logprobs",
        "usage", "tool_calls", "id", "name", "function", "arguments", "content_block", "text",
        "partial_json", "thinking", "citation", "candidates", "parts", "role", "finishReason",
        "citationMetadata", "logprobsResult", "promptFeedback", "blockReason", "usageMetadata",
        "promptTokenCount", "error", "details", "request_id",
    ]
)  # fmt: skip
WORDS = st.sampled_from(
    [
        "message_start", "content_block_start", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop", "text_delta", "input_json_delta", "citations_delta",
        "thinking_delta", "error", "ping", "text", "stop", "", "x",
    ]
)  # fmt: skip
SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.floats(0, 1) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=16,
)


@pytest.mark.parametrize("module", FOLDING)
@given(values=st.lists(SHAPES, max_size=5), begun=st.booleans())
def test_frames_of_any_shape_fail_the_attempt_or_fold(
    module: ProtocolModule, *, values: list[object], begun: bool
) -> None:
    fold = module.fold(STREAM)
    frames = [frame(START), frame(OPEN)] if begun and module is anthropic else []
    try:
        for one in [*frames, *map(frame, values)]:
            assert fold.add(one) in (True, False)
    except AttemptFailed:
        return
    assert fold.partial_usage().provenance in ("reported", "estimated", "unavailable")
    if fold.complete:
        assert fold.answer().response


def _seconds(fold: Fold, head: list[bytes], piece: bytes, count: int) -> float:
    taken(fold, *head)
    began = time.process_time()
    for _ in range(count):
        fold.add(piece)
    fold.partial_usage()
    return time.process_time() - began


ARGUMENTS = {"tool_calls": [{"index": 0, "function": {"arguments": "x" * 200}}]}
PARTIAL = {"type": "input_json_delta", "partial_json": "x" * 200}


@pytest.mark.parametrize(
    ("module", "head", "piece"),
    [
        (openai, [], chunk({"content": "x" * 200})),
        (openai, [], chunk(ARGUMENTS)),
        (
            anthropic,
            [frame(START), frame(OPEN)],
            frame({"type": "content_block_delta", "index": 0, "delta": PARTIAL}),
        ),
        (gemini, [], frame({"candidates": [{"content": {"parts": [{"text": "x" * 200}]}}]})),
    ],
)
def test_a_long_answer_costs_linear_time(
    module: ProtocolModule, head: list[bytes], piece: bytes
) -> None:
    """Eight times the chunks may cost eight times as much, not sixty-four."""
    # By turns, so that a slow moment of the machine is both's.
    turns = [
        [_seconds(module.fold(STREAM), head, piece, count) for count in (2_000, 16_000)]
        for _ in range(4)
    ]
    few, many = map(min, zip(*turns, strict=True))
    assert many < 24 * few
