"""A log that has lost what follows the cursor: told, shown anew, never silently skipped."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from api_contracts.client import connection
from api_contracts.errors import CursorExpired, TaskNotFound
from api_contracts.events import Chunk, Event, Started
from tests.client.conftest import Begin, Shell, StartShell
from tests.conftest import StartValkey
from tests.parts.cable import Cable
from tests.parts.scripts import KEYS, Hand, Scripts, a_task


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look into the log sooner than a program should."""
    monkeypatch.setattr(connection, "SILENCE_S", 0.1)
    monkeypatch.setattr(connection, "RECONNECT_PAUSE_S", 0.05)


def ids(events: Iterator[Event]) -> list[str]:
    return [event.id for event in events]


# Its beginning is gone.


def trim(redis: Redis, hand: Hand) -> None:
    redis.xtrim(KEYS.events(hand.task_id), maxlen=2, approximate=False)


def delete(redis: Redis, hand: Hand) -> None:
    redis.delete(KEYS.events(hand.task_id))


def expire(redis: Redis, hand: Hand) -> None:
    redis.pexpire(KEYS.events(hand.task_id), 0)


#: What somebody did to the log, where it is read from, and what is said.
GONE = [
    (trim, None, r"begins at 1-\d, in the middle of an attempt; ask for the task's result"),
    (trim, "0-1", r"no longer holds what follows 0-1: it goes on at 1-\d; ask for the task's res"),
    (trim, "1-1", r"no longer holds what follows 1-1: it goes on at 1-\d; ask for the task's res"),
    (delete, None, "is gone: ask for its status or its result"),
    (delete, "1-1", "is gone: ask for its status or its result"),
    (delete, "1-5", "is gone: ask for its status or its result"),
    (expire, "1-1", "is gone: ask for its status or its result"),
]


@pytest.mark.parametrize("over", [False, True], ids=["running", "ended"])
@pytest.mark.parametrize(("lose", "after", "says"), GONE)
def test_a_cursor_older_than_the_log_is_told(  # noqa: PLR0913, PLR0917 - two fixtures, a table
    begin: Begin,
    shell: Shell,
    redis: Redis,
    lose: Callable[[Redis, Hand], None],
    after: str | None,
    says: str,
    *,
    over: bool,
) -> None:
    hand = begin()
    hand.say("a", "b", "c", "d")
    if over:
        hand.complete("It is 42.")
    lose(redis, hand)
    with pytest.raises(CursorExpired, match=f"^the log of task {hand.task_id} {says}"):
        list(shell.stream(hand.task_id, after))
    assert issubclass(CursorExpired, TaskNotFound)
    if over:
        assert shell.result(hand.task_id).finish_reason == "stop", "the result is told all the same"


@pytest.mark.parametrize("lose", [trim, delete])
def test_a_log_that_is_lost_while_somebody_follows_is_told(
    begin: Begin, shell: Shell, redis: Redis, lose: Callable[[Redis, Hand], None]
) -> None:
    """Whoever had not read it all; and a log that is gone, whatever he had read."""
    hand = begin()
    events = shell.stream(hand.task_id)
    assert [next(events).id for _ in range(2)] == ["0-1", "1-0"]
    redis.client_kill_filter(_type="pubsub")
    with redis.pipeline() as at_once:
        for seq in range(1, 5):
            at_once.xadd(KEYS.events(hand.task_id), _chunk(hand, seq), id=f"1-{seq}")
        at_once.execute()
    lose(redis, hand)
    with pytest.raises(CursorExpired, match="ask for"):
        list(events)


def test_a_log_that_was_trimmed_behind_the_cursor_goes_on(
    begin: Begin, shell: Shell, redis: Redis
) -> None:
    hand = begin()
    hand.say("a", "b", "c")
    events = shell.stream(hand.task_id, "1-1")
    trim(redis, hand)
    assert next(events).id == "1-2"
    trim(redis, hand)
    hand.say("d")
    hand.complete()
    assert ids(events) == ["1-3", "1-4", "1-5"]


def test_a_log_that_was_trimmed_to_an_attempt_s_beginning_is_whole(
    begin: Begin, shell: Shell, redis: Redis
) -> None:
    hand = begin()
    hand.say("a", "b")
    hand.vanish()
    Hand(redis, hand.task_id).complete()
    trim(redis, hand)
    for after in (None, "0-1", "1-1", "1-2"):
        assert ids(shell.stream(hand.task_id, after)) == ["2-0", "2-1"]


def test_a_replayed_log_goes_on_from_every_cursor(begin: Begin, shell: Shell, redis: Redis) -> None:
    hand = begin()
    hand.say("a", "b")
    events = shell.stream(hand.task_id)
    assert [next(events).id for _ in range(4)] == ["0-1", "1-0", "1-1", "1-2"]
    redis.client_kill_filter(_type="pubsub")
    hand.fail()
    redis.zadd(KEYS.dead, {hand.task_id: 1})
    shell.replay(hand.task_id)
    again = Hand(redis, hand.task_id)
    again.say("c")
    again.complete()
    new = ["1-4", "2-0", "2-1", "2-2"]
    for after in (None, "0-1", "1-0", "1-2", "1-3"):
        assert ids(shell.stream(hand.task_id, after)) == new
    assert ids(events) == new


def _chunk(hand: Hand, seq: int) -> dict[Any, Any]:
    place = f"1-{seq}"
    event = f'{{"id":"{place}","task_id":"{hand.task_id}","type":"chunk","at":1,"data":{{}}}}'
    return {"event": event}


# Its end is gone: as after a failover to a server that had not got the last events.


class Pair:
    """A server, another that lacks its last events, and a subscriber who is led to that one."""

    def __init__(self, start_valkey: StartValkey, start_shell: StartShell) -> None:
        self.servers = [start_valkey(persistence=False) for _ in range(2)]
        self.cable = Cable(self.servers[0].port)
        self.shell = start_shell(self.cable.url)
        self.old, self.new = (Redis.from_url(server.url) for server in self.servers)

    def replicate(self, task_id: str) -> None:
        """Bring the second server to where the first is."""
        for key in (KEYS.record(task_id), KEYS.events(task_id)):
            content: Any = self.old.dump(key)
            self.new.restore(key, 0, content, replace=True)

    def fail_over(self, task_id: str) -> None:
        """Lead to the second server; there, whoever ran the task does so no more."""
        Scripts(self.new).set(task_id, lease_until=1)
        self.cable.lead_to(self.servers[1].port)

    def close(self) -> None:
        self.cable.close()
        self.old.close()
        self.new.close()


@pytest.fixture
def pair(start_valkey: StartValkey, start_shell: StartShell) -> Iterator[Pair]:
    pair = Pair(start_valkey, start_shell)
    yield pair
    pair.close()


def words(events: list[Event]) -> list[str]:
    """What stands before somebody who clears it whenever an event says so."""
    text: list[str] = []
    for event in events:
        if isinstance(event, Started) and event.resets:
            text = []
        if isinstance(event, Chunk):
            text.append(event.data["choices"][0]["delta"]["content"])
    return text


def test_a_claim_that_is_lost_is_void_with_all_that_it_said(pair: Pair) -> None:
    """Its number is given to another attempt, which is shown from its beginning."""
    task_id = pair.shell.enqueue(a_task())
    first = Hand(pair.old, task_id)
    first.say("one")
    first.retry()
    pair.replicate(task_id)
    events = pair.shell.stream(task_id)
    seen = [next(events) for _ in range(4)]
    lost = Hand(pair.old, task_id, worker="lost")
    lost.say("x", "y", "z")
    seen += [next(events) for _ in range(4)]
    assert [event.id for event in seen[-4:]] == ["2-0", "2-1", "2-2", "2-3"]

    pair.fail_over(task_id)
    again = Hand(pair.new, task_id, worker="again")
    assert again.claim.attempt == 2
    again.say("p", "q")
    seen += [next(events) for _ in range(3)]
    assert [event.id for event in seen[-3:]] == ["2-0", "2-1", "2-2"]
    assert isinstance(seen[-3], Started)
    assert (seen[-3].worker, seen[-3].resets) == ("again", True)
    again.say("r", "s")
    again.complete()
    seen += events
    assert words(seen) == ["p", "q", "r", "s"]
    assert [event.id for event in seen[-3:]] == ["2-3", "2-4", "2-5"]


def test_a_claim_that_is_lost_before_anybody_claims_again_is_void(pair: Pair) -> None:
    """The subscriber is there first: the claim comes by the channel."""
    task_id = pair.shell.enqueue(a_task())
    pair.replicate(task_id)
    events = pair.shell.stream(task_id)
    lost = Hand(pair.old, task_id, worker="lost")
    lost.say("x", "y")
    seen = [next(events) for _ in range(4)]
    pair.fail_over(task_id)
    seen.append(next(events))
    assert seen[-1].type == "queued", "the log ends where it began"
    again = Hand(pair.new, task_id, worker="again")
    again.say("p", "q", "r")
    again.complete()
    seen += events
    assert [event.id for event in seen[5:]] == ["1-0", "1-1", "1-2", "1-3", "1-4"]
    assert words(seen) == ["p", "q", "r"]


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_an_ending_before_or_at_the_cursor_is_seen(pair: Pair, kept: int) -> None:
    """The last chunks are lost; the ending takes the place of one of them."""
    task_id = pair.shell.enqueue(a_task())
    hand = Hand(pair.old, task_id)
    events = pair.shell.stream(task_id)
    seen = [next(events) for _ in range(2)]
    for number in range(4):
        if number == kept:
            pair.replicate(task_id)
        hand.say(f"word {number}")
    seen += [next(events) for _ in range(4)]
    pair.fail_over(task_id)
    assert pair.shell.cancel(task_id)
    seen += events
    assert seen[-1].type == "cancelled"
    assert seen[-1].id == f"1-{kept + 1}"
    assert words(seen) == [f"word {number}" for number in range(kept)]


def test_text_of_a_claim_that_is_lost_is_not_joined(pair: Pair) -> None:
    task_id = pair.shell.enqueue(a_task())
    pair.replicate(task_id)
    told: list[str] = []
    resets: list[list[str]] = []
    pieces = pair.shell.text(task_id, lambda: resets.append(list(told)))
    Hand(pair.old, task_id).say("lost", " words")
    told += [next(pieces), next(pieces)]
    pair.fail_over(task_id)
    again = Hand(pair.new, task_id)
    again.say("new")
    told.append(next(pieces))
    assert (resets, told[-1]) == ([["lost", " words"]], "new")
    again.complete("new")
    assert list(pieces) == []


def test_a_result_is_waited_for_though_the_server_lost_its_end(pair: Pair) -> None:
    task_id = pair.shell.enqueue(a_task())
    pair.replicate(task_id)
    Hand(pair.old, task_id).say("lost")
    assert pair.shell.status(task_id).state == "running"
    pair.fail_over(task_id)
    Hand(pair.new, task_id).complete("It is 42.")
    assert pair.shell.result(task_id, 30).finish_reason == "stop"
