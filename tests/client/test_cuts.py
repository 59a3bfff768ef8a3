"""Redis that is cut off, restarted, silent, gone or locked: resumed where that is possible.

Where it is not, the caller hears so in bounded time and in words that say what to do.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from api_contracts.client import connection
from api_contracts.errors import StoreUnavailable
from tests.client.conftest import Begin, Shell, StartShell
from tests.conftest import StartValkey
from tests.parts.cable import Cable
from tests.parts.scripts import KEYS, Hand, a_task, wait_for_subscriber

#: Longest wait for an answer of Redis in these tests, in seconds.
TIMEOUT_S = 0.7
#: The same where it is measured that it is kept once, and not twice.
ONCE_S = 2.0
#: What a machine that is busy may add to it.
BUSY_S = 2.0


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again sooner than a program should."""
    monkeypatch.setattr(connection, "RECONNECT_PAUSE_S", 0.05)


def whole(hand: Hand) -> list[str]:
    """The ids of a task that was completed in its first attempt."""
    return ["0-1", *(f"1-{seq}" for seq in range(hand.seq + 2))]


@contextmanager
def following(shell: Shell, redis: Redis, task_id: str) -> Iterator[Callable[[], list[str]]]:
    """Follow a task beside the test; call what is given for the ids, once it has ended."""
    with ThreadPoolExecutor(1) as pool:
        follows = pool.submit(lambda: [event.id for event in shell.stream(task_id)])
        wait_for_subscriber(redis, task_id)
        yield lambda: follows.result(60)


@pytest.mark.parametrize("kind", ["pubsub", "normal", "both"])
def test_a_stream_survives_the_killing_of_its_connections(
    begin: Begin, shell: Shell, redis: Redis, kind: str
) -> None:
    hand = begin()
    with following(shell, redis, hand.task_id) as ids:
        for _ in range(5):
            wait_for_subscriber(redis, hand.task_id)
            hand.say("a", "b")
            for one in ("pubsub", "normal"):
                if kind in (one, "both"):
                    redis.client_kill_filter(_type=one, skipme=True)
            hand.say("c")
        hand.complete()
        assert ids() == whole(hand)


def test_a_stream_survives_cuts_at_any_moment(
    start_shell: StartShell, cable: Cable, redis: Redis
) -> None:
    shell = start_shell(cable.url)
    task_id = shell.enqueue(a_task())
    hand = Hand(redis, task_id)
    with following(shell, redis, task_id) as ids:
        for n in range(40):
            hand.say("a", "b", "c")
            if n % 4 == 0:
                cable.cut()
            if n % 7 == 0:
                cable.lose_replies()
        hand.complete()
        assert ids() == whole(hand)


def test_a_result_survives_a_cut(start_shell: StartShell, cable: Cable, redis: Redis) -> None:
    shell = start_shell(cable.url)
    task_id = shell.enqueue(a_task())
    hand = Hand(redis, task_id)
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(shell.result, task_id, 30)
        wait_for_subscriber(redis, task_id)
        cable.cut()
        hand.complete("at last")
        cable.cut()
        assert waits.result(30).task_id == task_id


def test_a_stream_survives_a_restart_of_redis(
    start_shell: StartShell, start_valkey: StartValkey
) -> None:
    server = start_valkey(appendfsync="always")
    shell = start_shell(server.url)
    task_id = shell.enqueue(a_task())
    with Redis.from_url(server.url) as redis:
        hand = Hand(redis, task_id)
        with following(shell, redis, task_id) as ids:
            hand.say("a", "b")
            server.stop()
            server = start_valkey(port=server.port, appendfsync="always")
            hand.say("c")
            hand.complete()
            assert ids() == whole(hand)


def test_a_stream_whose_channel_fell_silent_goes_on_from_the_log(
    start_shell: StartShell, cable: Cable, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a firewall that forgets connections: nobody is told that they are gone."""
    monkeypatch.setattr(connection, "SILENCE_S", 0.3)
    shell = start_shell(cable.url, timeout_s=TIMEOUT_S)
    task_id = shell.enqueue(a_task())
    hand = Hand(redis, task_id)
    with following(shell, redis, task_id) as ids:
        hand.say("a")
        with cable.silent():
            hand.say("b")
        hand.say("c")
        hand.complete()
        assert ids() == whole(hand)


def test_a_reader_too_slow_for_its_channel_misses_nothing(
    start_shell: StartShell, start_valkey: StartValkey
) -> None:
    """Redis cuts off a subscriber whose buffer is full; the log has what it did not get."""
    server = start_valkey(persistence=False)
    shell = start_shell(server.url)
    task_id = shell.enqueue(a_task())
    with Redis.from_url(server.url) as redis:
        redis.config_set("client-output-buffer-limit", "pubsub 100kb 0 0")
        hand = Hand(redis, task_id)
        events = shell.stream(task_id)
        assert [next(events).id for _ in range(2)] == ["0-1", "1-0"]
        while redis.pubsub_numsub(KEYS.live(task_id))[0][1]:
            hand.say("x" * 60_000)
            assert hand.seq < 5_000, "it was not cut off"
        hand.complete()
        assert ["0-1", "1-0", *(event.id for event in events)] == whole(hand)


#: What a caller may ask of a Redis, each by its name.
ASKED: Final[dict[str, Callable[[Shell], Any]]] = {
    "enqueue": lambda shell: shell.enqueue(a_task(idempotency_key="k")),
    "status": lambda shell: shell.status(a_task().id),
    "result": lambda shell: shell.result(a_task().id, 30),
}


@pytest.mark.parametrize("ask", [ASKED["enqueue"], ASKED["status"]], ids=["enqueue", "status"])
def test_a_silent_redis_is_told_in_time(
    start_shell: StartShell, start_valkey: StartValkey, ask: Callable[[Shell], Any]
) -> None:
    """Whether it fell silent before the first call or between two."""
    server = start_valkey(persistence=False)
    new, used = (start_shell(server.url, timeout_s=ONCE_S) for _ in range(2))
    used.enqueue(a_task())
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for shell in (new, used):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="Redis did not answer in time"):
                ask(shell)
            assert ONCE_S <= time.monotonic() - began < 2 * ONCE_S, "it waited twice"
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert used.status(used.enqueue(a_task())).state == "queued"


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED.keys())
def test_a_redis_that_is_away_is_told_at_once(
    start_shell: StartShell, start_valkey: StartValkey, ask: Callable[[Shell], Any]
) -> None:
    server = start_valkey(persistence=False)
    new, used = start_shell(server.url), start_shell(server.url)
    used.enqueue(a_task())
    server.stop()
    for shell in (new, used):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=f"{server.port}.*look at REDIS_URL"):
            ask(shell)
        assert time.monotonic() - began < BUSY_S


@pytest.mark.parametrize("how", ["silent", "away"])
def test_a_stream_gives_up_on_a_redis_that_does_not_come_back(
    start_shell: StartShell,
    start_valkey: StartValkey,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    monkeypatch.setattr(connection, "RECONNECT_S", 0.5)
    monkeypatch.setattr(connection, "SILENCE_S", 0.3)
    server = start_valkey(persistence=False)
    shell = start_shell(server.url, timeout_s=TIMEOUT_S)
    events = shell.stream(shell.enqueue(a_task()))
    assert next(events).type == "queued"
    if how == "silent":
        os.kill(server.pid, signal.SIGSTOP)
    else:
        server.stop()
    began = time.monotonic()
    try:
        with pytest.raises(StoreUnavailable, match=r"Redis (did not answer|cannot be used)"):
            next(events)
        assert 0.5 < time.monotonic() - began < 0.5 + 3 * TIMEOUT_S + 2 * BUSY_S
    finally:
        if how == "silent":
            os.kill(server.pid, signal.SIGCONT)


def test_waiting_for_a_result_ends_with_its_time_when_redis_is_away(
    start_shell: StartShell, start_valkey: StartValkey
) -> None:
    server = start_valkey(persistence=False)
    shell = start_shell(server.url)
    task_id = shell.enqueue(a_task())
    with ThreadPoolExecutor(1) as pool, Redis.from_url(server.url) as redis:
        began = time.monotonic()
        waits = pool.submit(shell.result, task_id, 3)
        wait_for_subscriber(redis, task_id)
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(StoreUnavailable):
            waits.result(30)
    assert time.monotonic() - began < 3 + BUSY_S


def test_a_redis_that_wants_another_password_is_told_at_once(
    start_shell: StartShell, start_valkey: StartValkey
) -> None:
    """No new try would help, and no password is said."""
    server = start_valkey(persistence=False)
    open_url = server.url
    with Redis.from_url(open_url) as admin:
        admin.config_set("requirepass", "right-one")
    shell = start_shell(open_url.replace("redis://", "redis://:wrong-one@"))
    began = time.monotonic()
    for ask in ASKED.values():
        with pytest.raises(StoreUnavailable, match="look at REDIS_URL") as caught:
            ask(shell)
        assert "wrong-one" not in str(caught.value)
    with pytest.raises(StoreUnavailable, match="look at REDIS_URL"):
        next(shell.stream(a_task().id))
    assert time.monotonic() - began < BUSY_S


def test_a_redis_that_is_full_is_told(start_shell: StartShell, start_valkey: StartValkey) -> None:
    server = start_valkey(persistence=False, maxmemory="1")
    shell = start_shell(server.url)
    with pytest.raises(StoreUnavailable, match="maxmemory"):
        shell.enqueue(a_task())


#: An error, so many seconds after the first one, and whether it is worth another try.
PATIENCE = [
    (RedisConnectionError("cut"), 0, True),
    (RedisTimeoutError("silent"), 59, True),
    (BusyLoadingError("loading"), 59, True),
    (RedisConnectionError("cut"), 61, False),
    (RedisTimeoutError("silent"), 61, False),
    (ResponseError("WRONGTYPE"), 0, False),
    (AuthenticationError("wrong password"), 0, False),
]


@pytest.mark.parametrize(("error", "after", "again"), PATIENCE)
def test_a_subscriber_is_patient_for_a_minute_where_that_may_help(
    error: RedisError, after: int, *, again: bool
) -> None:
    patience = connection.Patience()
    patience.pause(RedisConnectionError("first"), 1000.0)
    if again:
        assert patience.pause(error, 1000.0 + after) == connection.RECONNECT_PAUSE_S
        return
    with pytest.raises(StoreUnavailable) as caught:
        patience.pause(error, 1000.0 + after)
    assert caught.value.__cause__ is error


def test_patience_is_whole_again_when_redis_has_answered() -> None:
    patience = connection.Patience()
    patience.pause(RedisConnectionError("cut"), 1000.0)
    patience.restore()
    assert patience.pause(RedisConnectionError("cut"), 2000.0) == connection.RECONNECT_PAUSE_S
