"""Streams: every event of the live attempt once, in order, from anywhere to the ending."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis

from api_contracts.client import connection, flows
from api_contracts.client.connection import PAGE
from api_contracts.client.reassembler import Reassembler
from api_contracts.events import EVENT_LIMIT, Chunk, Event
from tests.client.conftest import Begin, Shell
from tests.parts.scripts import KEYS, Hand, Scripts, a_task, chunk, ending, wait_for_subscriber


def ids(events: Iterator[Event]) -> list[str]:
    return [event.id for event in events]


def chunks(attempt: int, last: int, first: int = 1) -> list[str]:
    return [f"{attempt}-{seq}" for seq in range(first, last + 1)]


def test_a_stream_that_was_opened_first_gets_everything_live(
    begin: Begin, shell: Shell, redis: Redis
) -> None:
    hand = begin()
    with ThreadPoolExecutor() as pool:
        follows = pool.submit(lambda: list(shell.stream(hand.task_id)))
        wait_for_subscriber(redis, hand.task_id)
        for n in range(50):
            hand.say(f"word {n}")
        hand.complete()
        events = follows.result(30)
    assert [event.id for event in events] == ["0-1", "1-0", *chunks(1, 51)]
    texts = [
        event.data["choices"][0]["delta"]["content"]
        for event in events[2:-1]
        if isinstance(event, Chunk)
    ]
    assert texts == [f"word {n}" for n in range(50)]


def test_a_stream_of_a_task_that_is_over_is_its_log(begin: Begin, shell: Shell) -> None:
    hand = begin()
    hand.say("a", "b")
    hand.complete()
    assert ids(shell.stream(hand.task_id)) == ["0-1", "1-0", "1-1", "1-2", "1-3"]


@pytest.mark.parametrize("after", ["0-1", "1-0", "1-1", "1-2", "1-3"])
def test_a_stream_resumes_behind_any_event(begin: Begin, shell: Shell, after: str) -> None:
    """Behind the ending there is nothing but the end."""
    hand = begin()
    hand.say("a", "b")
    hand.complete()
    everything = ["0-1", "1-0", "1-1", "1-2", "1-3"]
    rest = everything[everything.index(after) + 1 :]
    assert ids(shell.stream(hand.task_id, after)) == rest


def test_a_cursor_that_is_no_id_is_refused_at_once(shell: Shell) -> None:
    with pytest.raises(ValueError, match="an event id reads ATTEMPT-SEQ"):
        shell.stream(a_task().id, "the beginning")


def test_an_attempt_that_changes_live_says_what_is_void(
    begin: Begin, shell: Shell, redis: Redis
) -> None:
    hand = begin()
    events = shell.stream(hand.task_id)
    hand.say("a", "b")
    assert [next(events).id for _ in range(4)] == ["0-1", "1-0", "1-1", "1-2"]
    hand.vanish()
    again = Hand(redis, hand.task_id)
    started = next(events)
    assert (started.id, started.type, getattr(started, "resets", None)) == ("2-0", "started", True)
    again.say("c")
    again.retry()
    last = Hand(redis, hand.task_id)
    last.say("d")
    last.complete()
    # Whether the chunk of attempt 2 was still heard before it became void is a matter of luck.
    rest = [place for place in ids(events) if place != "2-1"]
    assert rest == ["2-2", "3-0", "3-1", "3-2"]


@pytest.mark.parametrize("size", [PAGE - 3, PAGE - 2, PAGE - 1, 2 * PAGE - 2, 2 * PAGE + 5])
def test_a_log_longer_than_a_page_is_read_whole(
    begin: Begin, shell: Shell, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The log has ``size`` chunks, and three entries more. Nobody waits between two pages."""
    monkeypatch.setattr(connection, "SILENCE_S", 600)
    hand = begin()
    hand.say(*(["x"] * size))
    hand.complete()
    assert ids(shell.stream(hand.task_id)) == ["0-1", "1-0", *chunks(1, size + 1)]
    assert ids(shell.stream(hand.task_id, "1-7")) == chunks(1, size + 1, 8)


@pytest.mark.parametrize("size", [PAGE - 3, PAGE - 2, PAGE - 1, PAGE + 5, 2 * PAGE])
def test_a_page_that_ends_inside_a_void_attempt_shows_no_chunk_behind_a_newer_one(
    begin: Begin, shell: Shell, redis: Redis, size: int
) -> None:
    hand = begin()
    hand.say(*(["x"] * size))
    hand.vanish()
    again = Hand(redis, hand.task_id)
    again.say("y", "z")
    again.complete()
    events = list(shell.stream(hand.task_id))
    newer = [event.id for event in events].index("2-0")
    assert [event.id for event in events[newer:]] == ["2-0", "2-1", "2-2", "2-3"]
    void = [event.id for event in events[2:newer]]
    assert void == chunks(1, len(void)), "of the void ones, those of the pages before"
    assert len(void) in (0, PAGE - 2, 2 * PAGE - 2)


def test_events_over_the_channel_s_limit_come_whole_and_in_their_place(
    begin: Begin, shell: Shell, redis: Redis
) -> None:
    hand = begin()
    large = "x" * EVENT_LIMIT
    with ThreadPoolExecutor() as pool:
        follows = pool.submit(lambda: list(shell.stream(hand.task_id)))
        wait_for_subscriber(redis, hand.task_id)
        for text in ("a", large, "b", large, large, "c"):
            hand.say(text)
        hand.complete()
        events = follows.result(30)
    texts = [
        event.data["choices"][0]["delta"]["content"] for event in events if isinstance(event, Chunk)
    ]
    assert texts == ["a", large, "b", large, large, "c"]
    assert [event.id for event in events] == ["0-1", "1-0", *chunks(1, 7)]


def test_what_the_channel_swallowed_is_read_from_the_log(
    begin: Begin, shell: Shell, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that were never published: with the next message, or after a silence."""
    monkeypatch.setattr(connection, "SILENCE_S", 0.2)
    hand = begin()
    events = shell.stream(hand.task_id)
    assert [next(events).id for _ in range(2)] == ["0-1", "1-0"]
    silently(redis, hand, 2)
    assert [next(events).id for _ in range(2)] == ["1-1", "1-2"]
    silently(redis, hand, 1)
    hand.say("a")
    assert [next(events).id for _ in range(2)] == ["1-3", "1-4"]
    silently(redis, hand, 1)
    hand.complete()
    assert ids(events) == ["1-5", "1-6"]


def silently(redis: Redis, hand: Hand, count: int) -> None:
    """Write chunks to the log alone, as when the channel's connection had lost them."""
    for _ in range(count):
        hand.seq += 1
        place = f"{hand.claim.attempt}-{hand.seq}"
        event: Any = {"event": chunk(hand.task_id, hand.claim.attempt, hand.seq)}
        redis.xadd(KEYS.events(hand.task_id), event, id=place)


def commands(asked: flows.Batch | flows.Rings) -> tuple[flows.Command, ...]:
    """What a flow asks of the Redis of the records."""
    assert isinstance(asked, flows.Batch)
    return asked.commands


@pytest.mark.parametrize("state", [b"running", b"cancelled"])
def test_an_ending_that_is_written_between_two_questions_is_seen(state: bytes) -> None:
    """The log had nothing new, then it has, whatever the record said before: read once more."""
    task_id, seen = a_task().id, Reassembler("1-4")
    last = [(b"1-5", {b"event": ending(task_id, "1-5")})]
    flow = flows.log_page(task_id, KEYS, seen)
    assert commands(next(flow))[0][:2] == ("XRANGE", KEYS.events(task_id))
    assert [one[0] for one in commands(flow.send([[], [], []]))] == ["HMGET", "XREVRANGE"]
    with pytest.raises(StopIteration) as over:
        flow.send([[state], last])
    assert (over.value.value, seen.behind, seen.ended) == ([], True, False)
    flow = flows.log_page(task_id, KEYS, seen)
    next(flow)
    with pytest.raises(StopIteration) as over:
        flow.send([last, [], []])
    assert [event.type for event in over.value.value] == ["cancelled"]
    assert (seen.behind, seen.ended) == (False, True)


def test_messages_that_come_again_are_shown_once(begin: Begin, shell: Shell, redis: Redis) -> None:
    hand = begin()
    events = shell.stream(hand.task_id)
    assert [next(events).id for _ in range(2)] == ["0-1", "1-0"]
    hand.say("a", "b")
    for _, event in Scripts(redis).log(hand.task_id):
        redis.publish(KEYS.live(hand.task_id), event)
    hand.complete()
    assert ids(events) == ["1-1", "1-2", "1-3"]
