"""Frames that are read as like the one before: the answer is the one that reading each gives."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.errors import AttemptFailed
from worker.protocols import likeness, openai
from worker.protocols.base import Call
from worker.protocols.likeness import LESSONS, LONGER, Likeness

STREAM = Call("POST", "/", {}, b"", stream=True)


def test_what_is_like_a_frame_but_for_its_text_is_read() -> None:
    alike = Likeness()
    assert alike.learn(b'{"x":"Sea","y":1}', "Sea") == b'{"x":"Sea?","y":1}'
    assert alike.read(b'{"x":" and \\"sand\\u00fc","y":1}') == ' and "sandü'
    assert alike.read(b'{"x":"","y":1}') == ""


@pytest.mark.parametrize(
    "frame",
    [
        b'{"x":"Sea","y":2}',  # another number
        b'{"x":"Sea","z":"a","y":1}',  # a field more
        b'{"x":"a","x":"b","y":1}',
        b'{"x":1,"y":1}',
        b'{"x":"\\ud83d","y":1}',  # half a character
        b'{"x":"\xff","y":1}',
        b'{"x":"a\nb","y":1}',
        b'{"x":","y":1}',  # beginning and end overlap
        b"",
        b"\0",
        b'\0"x"\0',
        b'"x"',
    ],
)
def test_what_differs_in_more_is_left_to_others(frame: bytes) -> None:
    alike = Likeness()
    assert alike.read(frame) is None
    alike.learn(b'{"x":"Sea","y":1}', "Sea")
    assert alike.read(frame) is None
    alike.forget()
    assert alike.read(b'{"x":"Sea","y":1}') is None


def test_nothing_is_learnt_from_a_text_that_stands_twice_or_not_at_all() -> None:
    alike = Likeness()
    assert alike.learn(b'{"x":"x"}', "x") is None
    assert alike.learn(b'{"x":"\\u0061"}', "a") is None
    assert alike.learn(b'{"x":"\\ud83d"}', "\ud83d") is None
    assert alike.read(b'{"x":"x"}') is None


def test_a_stream_whose_frames_are_never_alike_stops_learning() -> None:
    alike = Likeness()
    frame, other = b'{"x":"Sea"}', b'{"x":"Sea%b"}' % LONGER.encode()
    learnt = [alike.learn(frame, "Sea") for _ in range(LESSONS + 1)]
    assert learnt == [other] * LESSONS + [None]
    assert alike.read(frame) is None


def test_a_lesson_that_bore_fruit_is_not_counted() -> None:
    alike = Likeness()
    for _ in range(2 * LESSONS):
        assert alike.learn(b'{"x":"Sea"}', "Sea")
        assert alike.read(b'{"x":"Lake"}') == "Lake"


TEXTS = st.text(max_size=6) | st.sampled_from(
    [
        *("content", "choices", "delta", "gpt", "stop", '"', '\\"', "obfuscation"),
        *("\ud83d", "\ude00", ":", ": ", ",", ", "),
    ]
)
HEADS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{"model": "gpt"}, {"model": "gpt", "id": ""}, {"model": "Sea"}, {"usage": {"total_tokens": 1}}]
)
DELTAS: st.SearchStrategy[dict[str, Any]] = (
    st.builds(lambda text: {"content": text}, TEXTS)
    | st.builds(lambda text: {"content": text, "role": "assistant"}, TEXTS)
    | st.builds(lambda text: {"content": text, "refusal": text}, TEXTS)
    | st.builds(lambda text: {"reasoning": text}, TEXTS)
    | st.just({})
)
CHOICES = st.builds(
    lambda index, delta, finish: {"index": index, "delta": delta, "finish_reason": finish},
    st.sampled_from([0, 0, 0, 0, 1]),
    DELTAS,
    st.sampled_from([None, None, None, "stop"]),
)
PADDINGS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {}, {"obfuscation": "Yx3"}, {"obfuscation": "b8"}, {"obfuscation": ""}]
)
CHUNKS = st.builds(
    lambda head, choices, padding: head | {"choices": choices} | padding,
    HEADS, st.lists(CHOICES, min_size=1, max_size=2), PADDINGS,
)  # fmt: skip


_BACKSLASH = "\\"


def escaped(value: Any) -> str:
    """Write JSON whose texts are escaped letter by letter, and whose keys are not."""
    if isinstance(value, dict):
        pairs = ",".join(f"{json.dumps(key)}:{escaped(one)}" for key, one in value.items())
        return f"{{{pairs}}}"
    if isinstance(value, list):
        return f"[{','.join(map(escaped, value))}]"
    if isinstance(value, str):
        units = value.encode("utf-16-be", "surrogatepass").hex(" ", 2).split()
        return f'"{"".join(f"{_BACKSLASH}u{unit}" for unit in units)}"'
    return json.dumps(value)


WRITERS = (
    lambda chunk: json.dumps(chunk).encode(),
    lambda chunk: json.dumps(chunk, separators=(",", ":")).encode(),
    lambda chunk: json.dumps(chunk, separators=(",", ":"), ensure_ascii=False).encode(
        errors="surrogatepass"
    ),
    lambda chunk: escaped(chunk).encode(),
)


def come_to(frames: list[bytes]) -> object:
    """Fold frames; tell what was published, and the answer or the failure."""
    fold, published = openai.fold(STREAM), []
    try:
        for frame in (*frames, b"[DONE]"):
            published.append(fold.add(frame))  # noqa: PERF401 - one may raise
        answer = fold.answer() if fold.complete else None
    except AttemptFailed as error:
        return published, str(error)
    return published, answer, fold.partial_usage()


PLAIN_CHOICE = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
PLAIN = {"model": "gpt", "choices": [PLAIN_CHOICE]}
BARE = {"choices": [PLAIN_CHOICE]}


@given(
    kinds=st.lists(CHUNKS, min_size=1, max_size=3),
    order=st.lists(st.integers(0, 2), min_size=4, max_size=16),
    texts=st.lists(TEXTS, min_size=16, max_size=16),
    writer=st.sampled_from(WRITERS),
)
@example(kinds=[BARE], order=[0] * 6, texts=[":"] * 16, writer=WRITERS[1])
@example(kinds=[BARE], order=[0] * 6, texts=[": "] * 16, writer=WRITERS[0])
@example(kinds=[PLAIN], order=[0] * 6, texts=["choices"] * 16, writer=WRITERS[-1])
def test_the_answer_is_the_one_that_reading_every_frame_gives(
    kinds: list[dict[str, Any]], order: list[int], texts: list[str], writer: Any
) -> None:
    frames = []
    for place, text in zip(order, texts, strict=False):
        chunk = json.loads(json.dumps(kinds[place % len(kinds)]))
        for choice in chunk["choices"]:
            if "content" in choice["delta"]:
                choice["delta"]["content"] = text
        frames.append(writer(chunk))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likeness, "LESSONS", 0)
        expected = come_to(frames)
    assert come_to(frames) == expected


def test_it_is_quicker_than_reading_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = json.dumps({"id": "chatcmpl-8f14e45fceea167a5a36dedd4bea2543", "created": 1, **PLAIN})
    frames = [chunk.replace('"a"', f'" word{number}"').encode() for number in range(2000)]

    def seconds(lessons: int) -> float:
        monkeypatch.setattr(likeness, "LESSONS", lessons)
        fold = openai.fold(STREAM)
        began = time.process_time()
        for frame in frames:
            fold.add(frame)
        return time.process_time() - began

    # By turns, so that a slow moment of the machine is both's.
    both = likeness.LESSONS, 0
    turns = [[seconds(lessons) for lessons in both] for _ in range(7)]
    quick, every = map(min, zip(*turns, strict=True))
    # Measured: a third. Half would be no reason for a file of its own.
    assert quick < 0.6 * every


def test_a_text_that_stands_elsewhere_is_not_taken_for_the_models() -> None:
    chunk = b'{"model":"%b","choices":[{"index":0,"delta":{"content":"\\u0053ea"}}]}'
    last = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
    fold = openai.fold(STREAM)
    for frame in [chunk % b"Sea"] * 3 + [chunk % b"Lake", last]:
        fold.add(frame)
    response = fold.answer().response
    assert response["choices"][0]["message"]["content"] == "Sea" * 4
    assert response["model"] == "Lake"


@pytest.mark.parametrize("first", [[], [json.dumps(PLAIN).encode()], [b'{"choices":[]}'] * 20])
def test_what_is_no_json_is_malformed_whatever_came_before(first: list[bytes]) -> None:
    fold = openai.fold(STREAM)
    for frame in first:
        fold.add(frame)
    with pytest.raises(AttemptFailed, match="no JSON"):
        fold.add(b'\0"hello"\0')
