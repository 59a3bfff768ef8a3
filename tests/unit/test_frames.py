"""Reading one JSON text, strictly but for halves of characters, which are joined."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.errors import ErrorCode
from worker.errors import AttemptFailed
from worker.frames import FRAME_LIMIT, OneFrame, mended, parse, parse_piece

HIGH, LOW = "\ud83c", "\udf0a"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b" [1, 2]\n", [1, 2]),
        (b"null", None),
        ('{"a": "世界🌊"}'.encode(), {"a": "世界🌊"}),
        (b'{"a": "\\ud83c\\udf0a"}', {"a": "🌊"}),
        (b'{"a": "x\\ud83c"}', {"a": "x\ufffd"}),
        (b'{"\\uDF0Aa": ["\\uD83C", 1]}', {"\ufffda": ["\ufffd", 1]}),
        (b'{"a": 123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
    ],
)  # fmt: skip
def test_a_text_is_read_and_a_half_without_its_other_is_replaced(text: bytes, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b'{"a": 1}x', b"NaN", b"[Infinity]", b"\xff", b'"\xed\xa0\xbc"', b"'a'",
        b"\xef\xbb\xbf{}", b'"\x01"', b'["\\ud83c", NaN]', b'["\\ud83c"', b"[" * 10**6,
        b'["\\ud83c",' + b"[" * 10**6,
    ],
)  # fmt: skip
@pytest.mark.parametrize("read", [parse, parse_piece])
def test_what_is_no_json_is_malformed(read: Any, text: bytes) -> None:
    with pytest.raises(AttemptFailed) as caught:
        read(text)
    assert caught.value.failure.code is ErrorCode.MALFORMED
    assert str(len(text)) in caught.value.failure.message


def test_halves_that_came_in_two_frames_are_joined_when_the_whole_is_mended() -> None:
    left, right = parse_piece(b'{"a": "x\\ud83c"}'), parse_piece(b'{"a": "\\udf0ay"}')
    assert mended({"b": [left["a"] + right["a"]]}) == {"b": ["x🌊y"]}


@given(st.text(st.sampled_from([HIGH, LOW, "a", "🌊", '"', "\\"]), max_size=12))
def test_whatever_is_mended_can_be_written(text: str) -> None:
    whole = mended({text: [text]})
    assert json.loads(json.dumps(whole, ensure_ascii=False).encode()) == whole
    if not set(text) & {HIGH, LOW}:
        assert whole == {text: [text]}


def test_a_body_that_is_one_frame_comes_at_its_end_and_is_bounded() -> None:
    frame = OneFrame()
    assert [*frame.feed(b" {"), *frame.feed(b"} \n")] == []
    assert frame.close() == [b"{}"]
    blank = OneFrame()
    blank.feed(b" \n")
    assert blank.close() == []
    large = OneFrame()
    large.feed(b"x" * FRAME_LIMIT)
    with pytest.raises(AttemptFailed) as caught:
        large.feed(b"x")
    assert caught.value.failure.code is ErrorCode.TOO_LARGE
