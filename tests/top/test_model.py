"""What `top` makes of what it has read, by anybody's hand."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.client.box import Box
from api_contracts.client.keyring import Keyring
from api_contracts.names import Queue
from tests.parts.secrecy import NEW
from tests.top.readings import (
    CANARY,
    IDS,
    NOW,
    a_letter,
    a_reading,
    a_sign,
    a_stream,
    a_task,
    an_error,
    doorbell,
    made,
)
from worker.cli.top.model import StreamLine, overview
from worker.presence import SILENT_S
from worker.store.view import DEAD_FIELDS, TASK_FIELDS, Letter, Sign


def stream_of(told: Sequence[Any], **fields: Any) -> StreamLine:
    """The line of a task that runs, with this log and these fields."""
    (line,) = made(tasks={IDS[0]: a_task(**fields)}, streams={IDS[0]: told}).streams
    return line


# --- queues -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("oldest", "waits_s"),
    [
        (doorbell(NOW - 14_000), 14.0),
        (doorbell(NOW), 0.0),
        (b"", None),
        (b'{"a": "foreign message"}', None),
        (doorbell(NOW + 60_000), None),
        (doorbell(0), None),
        (b"\xff", None),
    ],
)
def test_a_queue_says_how_long_its_oldest_doorbell_has_waited(
    oldest: bytes, waits_s: float | None
) -> None:
    queues = {Queue.INTERACTIVE: (3, oldest), Queue.BATCH: (0, b"")}
    one, other = made(queues=queues).queues
    assert (one.name, one.waiting, one.oldest_s) == ("router.interactive", 3, waits_s)
    assert (other.name, other.waiting, other.oldest_s) == ("router.batch", 0, None)


# --- workers ----------------------------------------------------------------------------------


def test_a_worker_is_alive_until_it_has_been_silent_for_too_long() -> None:
    just, late = SILENT_S * 1000, SILENT_S * 1000 + 1
    one, other = made(signs=[a_sign("a", just), a_sign("b", late)]).workers
    assert [(one.name, one.alive), (other.name, other.alive)] == [("b", False), ("a", True)]
    assert one.sign_s == pytest.approx(SILENT_S + 0.001)
    assert other.sign_s == SILENT_S


def test_workers_that_need_somebody_come_first() -> None:
    signs = [
        a_sign("sound"),
        a_sign("leaving", fault="the worker is leaving"),
        a_sign("able"),
        a_sign("dead", 60_000),
    ]
    assert [one.name for one in made(signs=signs).workers] == ["dead", "leaving", "able", "sound"]


@pytest.mark.parametrize(("at", "alive"), [(0.0, False), (1e300, True), (-1e300, False)])
def test_a_moment_that_can_be_none_ends_nothing(at: float, alive: bool) -> None:  # noqa: FBT001
    (line,) = made(signs=[replace(a_sign(), at=at)]).workers
    assert line.alive is alive
    assert 0 <= line.sign_s <= 1e9


def test_a_worker_that_says_nothing_that_can_be_read_is_listed_all_the_same() -> None:
    (line,) = made(signs=[Sign("w", NOW, None)]).workers
    assert (line.alive, line.slots, line.taken, line.fault) == (True, None, None, None)


# --- streams ----------------------------------------------------------------------------------


def test_a_stream_says_how_it_goes() -> None:
    line = stream_of(a_stream(93_000, 412, 40, 960), attempt=2, worker="router-worker-7@host")
    assert line == StreamLine(
        task_id=IDS[0],
        model="gpt-4o",
        worker="router-worker-7@host",
        attempt=2,
        age_s=93.0,
        chunks=412,
        chunks_per_s=20.83,
        last_chunk_s=0.04,
        orphaned=False,
    )


def test_the_pace_falls_while_nothing_comes() -> None:
    paces = [
        stream_of(a_stream(90_000, 100, silent, silent + 1000)).chunks_per_s
        for silent in (0, 1000, 9000, 59_000)
    ]
    assert paces == [20.0, 10.0, 2.0, pytest.approx(0.33)]


@pytest.mark.parametrize(
    ("told", "pace", "last_s"),
    [
        (a_stream(5000), None, None),
        (a_stream(5000, 1, 100, 100), None, 0.1),
        (a_stream(5000, 3, 0, 1000), 2.0, 0.0),
        (a_stream(5000, 3, 100, None), None, 0.1),
        # The worker's clock is ahead of Redis's.
        (a_stream(5000, 3, -400, 100), 4.0, 0.0),
        (a_stream(5000, 3, -400, -400), None, 0.0),
        ((), None, None),
    ],
)
def test_a_pace_is_told_only_where_there_is_one(
    told: Sequence[Any], pace: float | None, last_s: float | None
) -> None:
    line = stream_of(told)
    assert (line.chunks_per_s, line.last_chunk_s) == (pace, last_s)


def test_a_stream_whose_lease_has_ended_is_orphaned() -> None:
    assert stream_of(a_stream(1000), lease_until=NOW).orphaned
    assert not stream_of(a_stream(1000), lease_until=NOW + 1).orphaned
    assert stream_of(a_stream(1000), lease_until="x").orphaned


def test_streams_come_by_age_and_are_counted_beyond_those_that_are_looked_at() -> None:
    tasks = dict.fromkeys(IDS[:5], a_task())
    streams = {one: a_stream(1000 * n) for n, one in enumerate(IDS[:4], 1)} | {IDS[4]: ()}
    seen = made(tasks=tasks, streams=streams, signs=[a_sign(taken=800)])
    assert [one.task_id for one in seen.streams] == [IDS[3], IDS[2], IDS[1], IDS[0], IDS[4]]
    assert seen.running == 800
    assert made(tasks=tasks, signs=[a_sign(ago_ms=60_000, taken=800)]).running == 5


# --- retries and failures ---------------------------------------------------------------------


def test_retries_come_by_when_they_are_due_with_what_they_are_for() -> None:
    tasks = {
        IDS[0]: a_task("retrying", due_at=NOW + 12_000, error=an_error(), attempt=3),
        IDS[1]: a_task("retrying", due_at=NOW - 3000, error=an_error("timeout", status=None)),
        IDS[2]: a_task("retrying", due_at="9" * 16, error="{oops", model=None),
        IDS[3]: a_task("queued"),
    }
    lines = made(tasks=tasks).retries
    assert [(one.task_id, one.due_s, one.code, one.status) for one in lines] == [
        (IDS[1], -3.0, "timeout", None),
        (IDS[0], 12.0, "rate_limited", 429),
        (IDS[2], 1e9, None, None),
    ]
    assert [(one.model, one.attempt) for one in lines] == [("gpt-4o", 1), ("gpt-4o", 3), (None, 1)]


def test_failures_are_believed_only_where_the_record_agrees() -> None:
    letters = [
        a_letter(IDS[0], NOW - 60_000),
        a_letter(IDS[1], state="running"),
        a_letter(IDS[2], state=None),
        a_letter(IDS[3], kind="message", model=None, error="{oops"),
    ]
    lines = made(letters=letters).failures
    assert [(one.task_id, one.kind, one.model, one.ago_s, one.code) for one in lines] == [
        (IDS[0], "chat", "gpt-4o", 60.0, "rate_limited"),
        (IDS[3], "message", None, 0.0, None),
    ]


def test_what_the_router_said_of_a_failure_is_not_told() -> None:
    seen = made(
        tasks={IDS[0]: a_task("retrying", error=an_error())},
        letters=[a_letter(error=an_error(provider_code=CANARY, request_id=CANARY))],
    )
    assert (len(seen.retries), len(seen.failures)) == (1, 1)
    assert CANARY not in json.dumps(asdict(seen))


def test_of_what_is_encrypted_code_and_status_are_told_without_a_key() -> None:
    box = Box(Keyring.of(NEW), IDS[0])
    sealed = box.seal_error(an_error())
    assert CANARY not in sealed
    (line,) = made(letters=[a_letter(error=sealed)]).failures
    (retry,) = made(tasks={IDS[0]: a_task("retrying", error=sealed)}).retries
    assert (line.code, line.status) == (retry.code, retry.status) == ("rate_limited", 429)


# --- what anybody may have written ------------------------------------------------------------

JUNK = st.none() | st.binary(max_size=40) | st.integers().map(lambda n: str(n).encode())
LOG = st.tuples(JUNK, st.integers(0, 10**15), JUNK, JUNK) | st.just(())


@given(
    record=st.lists(JUNK, min_size=len(TASK_FIELDS), max_size=len(TASK_FIELDS)),
    state=st.sampled_from([b"running", b"retrying", b"queued", b"?"]),
    told=LOG,
    letter=st.lists(JUNK, min_size=len(DEAD_FIELDS), max_size=len(DEAD_FIELDS)),
    moment=st.floats(allow_nan=False),
)
def test_whatever_stands_in_redis_becomes_json(
    record: list[Any], state: bytes, told: Sequence[Any], letter: list[Any], moment: float
) -> None:
    reading = a_reading(
        queues={Queue.INTERACTIVE: (1, record[0] or b"")},
        signs=[Sign("w", moment, None)],
        tasks={IDS[0]: [state, *record[1:]]},
        streams={IDS[0]: told},
        letters=[Letter("x", moment, [b"failed", *letter[1:]])],
    )
    seen = overview(reading)
    assert json.loads(json.dumps(asdict(seen), allow_nan=False))["at"] == NOW
    assert len(seen.failures) == 1
