"""Recorded streams: what they come to, and that the network's cuts change nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocols.transcripts import EVERY, FAILED, TRUNCATED, WHOLE, Transcript, name_of
from worker.errors import AttemptFailed, Failure
from worker.protocols.base import Fold

#: Where each protocol keeps what the model said.
SAID = {"anthropic": "content", "gemini": "candidates", "openai": "choices"}

every = pytest.mark.parametrize("transcript", EVERY, ids=name_of)
whole = pytest.mark.parametrize("transcript", WHOLE, ids=name_of)
failed = pytest.mark.parametrize("transcript", FAILED, ids=name_of)
truncated = pytest.mark.parametrize("transcript", TRUNCATED, ids=name_of)


def test_every_transcript_is_read_by_one_of_the_tests_below() -> None:
    assert len(EVERY) > 40
    assert len(WHOLE) + len(FAILED) + len(TRUNCATED) == len(EVERY)


@whole
def test_a_stream_folds_into_the_answer_that_the_whole_call_returns(
    transcript: Transcript,
) -> None:
    fold = transcript.fold()
    frames = transcript.frames()
    unpublished = [frame.decode() for frame in frames if not fold.add(frame)]
    answer = fold.answer()
    expected = transcript.expected
    assert fold.complete
    assert answer.response == expected["response"]
    assert answer.finish_reason == expected["finish_reason"]
    assert answer.usage.model_dump() == expected["usage"]
    assert unpublished == expected["unpublished"]


@whole
def test_the_whole_answer_reads_as_its_stream_folds(transcript: Transcript) -> None:
    answer = transcript.module.read(transcript.expected["response"])
    assert answer.response == transcript.expected["response"]
    assert answer.finish_reason == transcript.expected["finish_reason"]
    assert answer.usage.model_dump() == transcript.expected["usage"]


@failed
def test_an_error_inside_a_stream_is_named_as_its_status_would_be(transcript: Transcript) -> None:
    fold = transcript.fold()
    *before, error = transcript.frames()
    published = sum(map(fold.add, before))
    with pytest.raises(AttemptFailed) as caught:
        fold.add(error)
    expected = transcript.expected
    assert caught.value.failure == Failure(**expected["failure"])
    assert published == expected["published"]
    assert fold.partial_usage().model_dump() == expected["partial_usage"]
    assert not fold.complete


@truncated
def test_a_stream_without_its_finish_frame_is_not_complete(transcript: Transcript) -> None:
    fold = transcript.fold()
    published = sum(map(fold.add, transcript.frames()))
    assert published == transcript.expected["published"]
    assert fold.partial_usage().model_dump() == transcript.expected["partial_usage"]
    assert not fold.complete


@every
def test_a_cut_anywhere_in_two_changes_nothing(transcript: Transcript) -> None:
    data = transcript.data
    frames = transcript.frames()
    assert frames
    for at in range(len(data) + 1):
        assert transcript.frames(data[:at], data[at:]) == frames, at


@every
@given(cuts=st.data())
def test_cuts_anywhere_in_many_change_nothing(transcript: Transcript, cuts: st.DataObject) -> None:
    data = transcript.data
    places = cuts.draw(st.lists(st.integers(0, len(data)), max_size=40).map(sorted))
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    assert transcript.frames(*pieces) == transcript.frames()


@every
def test_bytes_that_come_one_by_one_change_nothing(transcript: Transcript) -> None:
    assert transcript.frames(*(bytes([byte]) for byte in transcript.data)) == transcript.frames()


def folded(transcript: Transcript, data: bytes) -> Fold:
    fold = transcript.fold()
    for frame in transcript.frames(data):
        fold.add(frame)
    return fold


def finish_at(transcript: Transcript) -> int:
    """Find the byte with which the frame that completes the answer is whole."""
    fold = transcript.fold()
    for frame in transcript.frames():
        fold.add(frame)
        if fold.complete:
            return transcript.data.index(frame) + len(frame)
    pytest.fail("the answer is never complete")


def said(transcript: Transcript, response: dict[str, Any]) -> object:
    return response[SAID[transcript.path.parent.name]]


@whole
def test_a_stream_cut_after_any_byte_is_complete_only_with_its_whole_text(
    transcript: Transcript,
) -> None:
    finish = finish_at(transcript)
    expected = said(transcript, transcript.expected["response"])
    for at in range(len(transcript.data)):
        fold = folded(transcript, transcript.data[:at])
        assert fold.complete == (at >= finish), at
        if fold.complete:
            assert said(transcript, fold.answer().response) == expected, at


@whole
def test_a_cut_stream_is_estimated_and_never_counted_as_nothing(transcript: Transcript) -> None:
    finish = finish_at(transcript)
    for at in range(0, finish, 7):
        usage = folded(transcript, transcript.data[:at]).partial_usage()
        counts = (usage.input_tokens, usage.output_tokens, usage.total_tokens)
        assert 0 not in counts, at
        assert (usage.provenance == "unavailable") == (counts == (None, None, None)), at


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_a_whole_answer_in_place_of_a_stream_is_taken_and_not_published(name: str) -> None:
    for transcript in (one for one in WHOLE if one.path.parent.name == name):
        response = transcript.expected["response"]
        decoder = transcript.module.decoder("application/json")
        body = json.dumps(response).encode()
        assert decoder.feed(body[:9]) == decoder.feed(body[9:]) == []
        fold = transcript.fold()
        assert [fold.add(frame) for frame in decoder.close()] == [False]
        assert fold.complete
        assert fold.answer().response == response
