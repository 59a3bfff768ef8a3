"""What a worker says of itself, and how fast it works."""

import pytest

from worker.presence import NAMED, PACE_S, SIGN_S, Pace, Presence, read, write

SAID = Presence(slots=400, taken=380, attempts_per_s=12.5, fault=None, tasks=("a", "b"))


def test_what_is_written_is_read() -> None:
    assert read(write(SAID)) == SAID


@pytest.mark.parametrize(
    "text",
    [
        None,
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        write(SAID).replace(b"400", b"-1"),
        write(SAID).replace(b"400", b"1e400"),
        write(SAID).replace(b"400", b'"400"'),
        write(SAID).replace(b"12.5", b"-0.5"),
        write(SAID).replace(b"12.5", b"NaN"),
        write(SAID).replace(b'"a"', rb'"\ud800"'),
        write(SAID).replace(b'"a"', b",".join([b'"a"'] * NAMED)),
    ],
)
def test_what_is_no_presence_is_none(text: bytes | None) -> None:
    assert read(text) is None


def test_a_field_that_a_newer_worker_adds_is_let_through() -> None:
    assert read(write(SAID)[:-1] + b',"newer":1}') == SAID


def test_the_pace_is_that_of_the_last_minute() -> None:
    pace = Pace(1000.0)
    assert pace.next(0, 1000.0) == 0.0
    # Ten a second for a minute, then nothing.
    paces = [pace.next(int(10 * s), 1000.0 + s) for s in _signs(PACE_S)]
    assert paces == [pytest.approx(10.0)] * len(paces)
    done = int(10 * PACE_S)
    after = [pace.next(done, 1000.0 + PACE_S + s) for s in _signs(PACE_S)]
    assert after == sorted(after, reverse=True)
    assert after[0] == pytest.approx(10.0 * (PACE_S - SIGN_S) / PACE_S)
    assert after[-1] == 0.0


def _signs(until_s: float) -> list[float]:
    return [SIGN_S * n for n in range(1, int(until_s / SIGN_S) + 1)]
