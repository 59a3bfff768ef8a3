"""Server-sent events, read as the WHATWG standard says, and where the decoder departs from it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.errors import ErrorCode
from worker.errors import AttemptFailed
from worker.frames import FRAME_LIMIT, Decoder, OneFrame
from worker.sse import SseDecoder, decoder


def decoded(*pieces: bytes) -> list[bytes]:
    sse = SseDecoder()
    frames = [frame for piece in pieces for frame in sse.feed(piece)]
    return [*frames, *sse.close()]


@pytest.mark.parametrize(
    ("stream", "frames"),
    [
        (b"", []),
        (b"\n\n\n", []),
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a \n\n", [b" a "]),  # one space belongs to the field, no more
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\ndata\ndata:\ndata: b\n\n", [b"a\n\n\nb"]),
        (b"data: a\r\n\r\n", [b"a"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\r\n\rdata: b\n\r\n", [b"a", b"b"]),
        (b"data: a\n\r\n\rdata: b\n\n", [b"a", b"b"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),  # a mark later is part of a name
        (b": PROCESSING\n\ndata: a\n\n:\n\n: more\n", [b"a"]),
        (b"data: a\n: inside\ndata: b\n\n", [b"a\nb"]),
        (b"event: message\nid: 7\nretry: 10\ndata: a\n\n", [b"a"]),
        (b"event: ping\n\nid: 8\n\ndata: a\n\n", [b"a"]),
        (b"event: x\ndata: a\nid: 1\n\n", [b"a"]),
        (b"dat: a\ndatax: b\nDATA: c\n data: d\ndata : e\n\n", []),
        (b'data: {"a": "data: b"}\n\n', [b'{"a": "data: b"}']),
        (b"data: [DONE]\n\n", [b"[DONE]"]),
        ("data: 世界\u2028\x85\n\n".encode(), ["世界\u2028\x85".encode()]),  # no line ends here
        (b"data: a\x0b\x0cb\n\n", [b"a\x0b\x0cb"]),  # nor here
        (b"data\n\n", []),  # an event without content says nothing
        (b"data: \n\ndata:\n\n", []),
        (b'{"error": 1}\n\n', []),  # a body that is no stream
    ],
)  # fmt: skip
def test_events_are_read_as_the_standard_says(stream: bytes, frames: list[bytes]) -> None:
    assert decoded(stream) == frames
    assert decoded(*(bytes([byte]) for byte in stream)) == frames


@pytest.mark.parametrize(
    ("stream", "frames"),
    [
        (b'data: {"a": 1}\n', [b'{"a": 1}']),
        (b'data: {"a": 1}\r\n', [b'{"a": 1}']),
        (b'data: {"a": 1}', [b'{"a": 1}']),
        (b'data: {"a":\ndata: 1}', [b'{"a":\n1}']),
        (b'data: {"a": "b\\ud83d"}', [b'{"a": "b\\ud83d"}']),
        (b'data: {"a": 1', []),
        (b'data: {"a": 1\n', []),
        (b'data: {"a":\n', []),
        (b'data: {"a": "\xe4\xb8', []),
        (b"data: 12", []),  # a number, cut, is a number still
        (b"data: [1]", []),
        (b'data: "a"', []),
        (b"data: [DONE]", []),  # it adds nothing to what the finish frame said
        (b"data: [DON", []),
        (b"data", []),
        (b"data:", []),
        (b": comment", []),
        (b"event: ping", []),
    ],
)
def test_the_end_of_file_completes_an_event_only_where_it_is_a_whole_object(
    stream: bytes, frames: list[bytes]
) -> None:
    assert decoded(stream) == frames
    assert decoded(b"data: x\n\n", stream) == [b"x", *frames]


def test_an_event_is_returned_as_soon_as_its_blank_line_begins() -> None:
    sse = SseDecoder()
    assert sse.feed(b"data: a\r") == []
    assert sse.feed(b"\n\r") == [b"a"]
    assert sse.feed(b"\n") == []
    assert sse.feed(b"") == []
    assert sse.feed(b"data: b\n\r") == [b"b"]


LINES = st.sampled_from(
    [b"data: x", b"data:y", b"data", b"", b": c", b"event: e", b"data: \xc3\xa9", b"\xef\xbb\xbf"]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])


@given(st.lists(st.tuples(LINES, ENDS), max_size=12), st.data())
def test_no_cut_changes_what_is_decoded(
    lines: list[tuple[bytes, bytes]], cuts: st.DataObject
) -> None:
    stream = b"".join(line + end for line, end in lines)
    places = sorted(cuts.draw(st.sets(st.integers(0, len(stream)))))
    pieces = [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
    assert decoded(*pieces) == decoded(stream)


def test_an_event_over_the_limit_is_refused_before_it_is_whole() -> None:
    for head in (b"data: ", b"data: a\ndata: ", b": ", b""):
        sse = SseDecoder()
        sse.feed(head)
        piece = b"x" * (FRAME_LIMIT // 4)
        for _ in range(3):
            assert sse.feed(piece) == []
        with pytest.raises(AttemptFailed) as caught:
            sse.feed(piece + b"x")
        assert caught.value.failure.code is ErrorCode.TOO_LARGE


def test_many_lines_of_one_event_are_bounded_together() -> None:
    sse = SseDecoder()
    lines = (b"data: " + b"x" * 1024 + b"\n") * 1024
    for _ in range(FRAME_LIMIT // 2**20):
        assert sse.feed(lines) == []
    with pytest.raises(AttemptFailed):
        sse.feed(lines)


def test_keep_alives_and_finished_events_count_for_nothing() -> None:
    sse = SseDecoder()
    for _ in range(FRAME_LIMIT // 2**20 + 2):
        assert sse.feed(b": " + b"x" * 2**20 + b"\n") == []
        assert len(sse.feed(b"data: " + b"x" * 2**20 + b"\n\n")) == 1


def _seconds(pieces: int) -> float:
    sse = SseDecoder()
    sse.feed(b"data: ")
    piece = b"x" * 64
    began = time.process_time()
    for _ in range(pieces):
        sse.feed(piece)
    sse.feed(b"\n\n")
    return time.process_time() - began


def test_a_large_event_in_small_pieces_costs_linear_time() -> None:
    """Eight times the pieces may cost eight times as much, not sixty-four."""
    few = min(_seconds(20_000) for _ in range(3))
    many = min(_seconds(160_000) for _ in range(3))
    assert many < 24 * few


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("text/event-stream", SseDecoder),
        ("text/event-stream; charset=utf-8", SseDecoder),
        ("", SseDecoder),
        ("text/plain", SseDecoder),
        ("application/json", OneFrame),
        ("Application/JSON; charset=utf-8", OneFrame),
    ],
)
def test_the_content_type_chooses_the_decoder(content_type: str, kind: type[Decoder]) -> None:
    assert type(decoder(content_type)) is kind
