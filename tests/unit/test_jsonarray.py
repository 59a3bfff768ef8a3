"""A JSON array that arrives in pieces gives its elements, byte for byte, and nothing else."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.errors import ErrorCode
from worker.errors import AttemptFailed
from worker.frames import FRAME_LIMIT
from worker.jsonarray import JsonArrayDecoder


def decoded(*pieces: bytes) -> list[bytes]:
    array = JsonArrayDecoder()
    frames = [frame for piece in pieces for frame in array.feed(piece)]
    return [*frames, *array.close()]


@pytest.mark.parametrize(
    ("stream", "frames"),
    [
        (b"", []),
        (b" \r\n\t", []),
        (b"[]", []),
        (b" [ ] \n", []),
        (b"[{}]", [b"{}"]),
        (b"[{}\n,\r\n{}\n]", [b"{}", b"{}"]),
        (b'[{"a": {"b": [{}, {}]}}]', [b'{"a": {"b": [{}, {}]}}']),
        (b'[{"a": "}"}]', [b'{"a": "}"}']),
        (b'[{"a}": "{"}, {"b": "]["}]', [b'{"a}": "{"}', b'{"b": "]["}']),
        (b'[{"a": "\\"}"}]', [b'{"a": "\\"}"}']),
        (b'[{"a": "\\\\"}, {"b": "\\\\\\""}]', [b'{"a": "\\\\"}', b'{"b": "\\\\\\""}']),
        (b'[{"a": "\\u007d"}]', [b'{"a": "\\u007d"}']),
        ('[{"a": "世界"}]'.encode(), ['{"a": "世界"}'.encode()]),
        (b'[{"a": 1}', [b'{"a": 1}']),  # cut behind an element: it is whole all the same
        (b'[{"a": 1}, {"b": 2', [b'{"a": 1}']),
        (b'[{"a": "', []),
        (b'[{"a": "\\', []),
        (b"[{]}]", [b"{]}"]),  # no JSON, as whoever reads the frame will see
    ],
)
def test_each_object_of_the_array_is_a_frame(stream: bytes, frames: list[bytes]) -> None:
    assert decoded(stream) == frames
    assert decoded(*(bytes([byte]) for byte in stream)) == frames


@pytest.mark.parametrize(
    "stream",
    [
        b"{}", b'{"error": {}}', b"null", b"data: {}\n\n", b"<html>", b"\xef\xbb\xbf[{}]", b"[1]",
        b'["a"]', b"[[{}]]", b"[,{}]", b"[{},,{}]", b"[{},]", b"[{} {}]", b"[{}{}]", b"[{}]]",
        b"[{}] []", b"[{}}", b"[null]", b"]",
    ],
)  # fmt: skip
def test_what_is_no_array_of_objects_is_malformed(stream: bytes) -> None:
    for pieces in ([stream], [bytes([byte]) for byte in stream]):
        with pytest.raises(AttemptFailed) as caught:
            decoded(*pieces)
        assert caught.value.failure.code is ErrorCode.MALFORMED
        assert "{" not in caught.value.failure.message


#: Texts in which braces, quotes and backslashes are as common as letters.
TEXTS = st.text(st.sampled_from('{}[]",:\\/ \nuéß世🌊'), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), max_size=5)


@given(objects=OBJECTS, ascii_only=st.booleans(), indent=st.sampled_from([None, 2]), cuts=st.data())
def test_any_objects_come_back_however_the_array_is_cut(
    *, objects: list[dict[str, object]], ascii_only: bool, indent: int | None, cuts: st.DataObject
) -> None:
    texts = [json.dumps(one, ensure_ascii=ascii_only, indent=indent).encode() for one in objects]
    stream = b"[" + b"\n,\r\n".join(texts) + b"\n]\n"
    places = sorted(cuts.draw(st.sets(st.integers(0, len(stream)))))
    pieces = [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
    assert decoded(*pieces) == texts


@given(OBJECTS.filter(bool), st.data())
def test_a_cut_array_gives_the_objects_before_the_cut_and_no_half(
    objects: list[dict[str, object]], where: st.DataObject
) -> None:
    stream = json.dumps(objects).encode()
    at = where.draw(st.integers(0, len(stream) - 1))
    frames = decoded(stream[:at])
    assert [json.loads(frame) for frame in frames] == objects[: len(frames)]


def test_an_element_over_the_limit_is_refused_before_it_is_whole() -> None:
    array = JsonArrayDecoder()
    array.feed(b'[{"a": "')
    piece = b"x" * (FRAME_LIMIT // 4)
    for _ in range(3):
        assert array.feed(piece) == []
    with pytest.raises(AttemptFailed) as caught:
        array.feed(piece)
    assert caught.value.failure.code is ErrorCode.TOO_LARGE


def _seconds(size: int, filling: bytes) -> float:
    stream = b'[{"a": "' + filling * (size // len(filling)) + b'"}]'
    array = JsonArrayDecoder()
    began = time.process_time()
    frames = [f for at in range(0, len(stream), 1400) for f in array.feed(stream[at : at + 1400])]
    assert len(frames) == 1
    return time.process_time() - began


@pytest.mark.parametrize("filling", [b"x", b"\\\\", b'\\"', b'","'])
def test_a_large_element_in_small_pieces_costs_linear_time(filling: bytes) -> None:
    """Eight times the size may cost eight times as much, not sixty-four."""
    small = min(_seconds(2**20, filling) for _ in range(3))
    large = min(_seconds(2**23, filling) for _ in range(2))
    assert large < 24 * small
