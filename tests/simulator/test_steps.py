"""How an answer becomes bytes, waits and cuts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.simulator.conversation import Frame
from worker.simulator.faults import Faults, parse
from worker.simulator.steps import (
    Cut,
    Framing,
    Pace,
    Send,
    Step,
    Wait,
    split,
    stream_steps,
    whole_body,
    whole_steps,
)

PACE = Pace(first_s=0.2, gap_s=0.04)
FRAMES = (*(Frame(str(number).encode()) for number in range(4)), Frame(b"end", finish=True))
ERROR = Frame(b"error")
PLAIN = Framing(lead=b"", trail=b"|")
ARRAY = Framing("application/json", b"[", b"", b"", b",", b"]")


def plan(spec: str | None, framing: Framing = PLAIN) -> list[Step]:
    faults = Faults() if spec is None else parse(spec)
    return list(stream_steps(FRAMES, framing, ERROR, faults, PACE))


def sent(steps: list[Step]) -> bytes:
    return b"".join(step.data for step in steps if isinstance(step, Send))


@pytest.mark.parametrize(
    ("spec", "wire"),
    [
        (None, b"0|1|2|3|end|"),
        ("cut=2", b"0|1|"),
        ("cut=0", b""),
        ("cut=99", b"0|1|2|3|"),
        ("error=2", b"0|1|error|"),
        ("error=99", b"0|1|2|3|error|"),
        ("malformed=1", b'0|{"broken": [|1|2|3|end|'),
        ("no-finish", b"0|1|2|3|"),
        ("no-finish; malformed=99", b'0|1|2|3|{"broken": [|'),
        ("split=bytes", b"0|1|2|3|end|"),
    ],
)
def test_each_fault_happens_after_the_chunks_it_names_or_just_before_the_finish(
    spec: str | None, wire: bytes
) -> None:
    steps = plan(spec)
    assert sent(steps) == wire
    assert (steps[-1] == Cut()) is ("cut" in (spec or ""))


@pytest.mark.parametrize(
    ("spec", "wire"),
    [
        (None, b"[0,1,2,3,end]"),
        ("no-finish", b"[0,1,2,3]"),
        ("error=0", b"[error]"),
        ("error=1", b"[0,error]"),
        ("cut=1", b"[0"),
    ],
)
def test_an_array_is_closed_however_it_ends_unless_it_is_cut(spec: str | None, wire: bytes) -> None:
    assert sent(plan(spec, ARRAY)) == wire


def test_the_pace_is_a_first_wait_then_gaps_and_none_after_the_finish() -> None:
    waits = [step.seconds for step in plan(None) if isinstance(step, Wait)]
    assert waits == [0.2, 0.04, 0.04, 0.04, 0.04, 0]


def test_a_call_can_order_its_own_pace_and_a_stall() -> None:
    steps = plan("first-chunk=2; gap-ms=10; stall=2:30")
    assert [step.seconds for step in steps if isinstance(step, Wait)] == [
        2, 0.01, 0.01, 30, 0.01, 0.01, 0,
    ]  # fmt: skip


def test_named_events_say_their_name() -> None:
    frame = Frame.of({"type": "ping"})
    assert Framing(named=True).wrap(frame, 0) == b'event: ping\ndata: {"type":"ping"}\n\n'


@pytest.mark.parametrize(
    ("spec", "wire"),
    [
        ("gap-ms=1", b"abcdef"),
        ("cut=5", b"abc"),
        ("error=5", b"{}"),
        ("malformed=5", b"abc"),
        ("stall=1:9", b"abcdef"),
    ],
)
def test_an_answer_in_one_piece_takes_its_faults_half_way(spec: str, wire: bytes) -> None:
    faults = parse(spec)
    steps = list(whole_steps(whole_body(b"abcdef", b"{}", faults), faults, PACE))
    assert sent(steps) == wire
    assert (Wait(9) in steps) is spec.startswith("stall")


@given(st.text())
def test_odd_splits_lose_nothing_and_fall_inside_every_long_character(text: str) -> None:
    data = json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass")
    pieces = list(split(data))
    assert b"".join(pieces) == data
    assert all(pieces)
    assert not any(byte & 0xC0 == 0x80 for piece in pieces for byte in piece[1:])
