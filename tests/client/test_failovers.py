"""Both clients over a failover of Redis Sentinel: told in time, or resumed without a gap."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from api_contracts.client import connection, servers
from api_contracts.client.servers import open_async, open_sync
from api_contracts.errors import StoreUnavailable
from tests.client.conftest import Shell, StartShell
from tests.parts.scripts import KEYS, Hand, a_task, wait_for_subscriber
from tests.parts.sentinels import MASTER, Sentinels
from tests.parts.wait import until

#: Longest wait for an answer of Redis in these tests, in seconds.
TIMEOUT_S = 1.0
#: Longest that a call may take: a silent master and three silent sentinels, twice each, and what
#: a machine that is busy adds.
BOUND_S = 2 * TIMEOUT_S + 6 * servers.SENTINEL_TIMEOUT_S + 2.0


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again sooner than a program should."""
    monkeypatch.setattr(connection, "RECONNECT_PAUSE_S", 0.05)
    monkeypatch.setattr(connection, "SILENCE_S", 0.5)


@pytest.fixture
def shell(start_shell: StartShell, sentinels: Sentinels) -> Shell:
    return start_shell(sentinels.url, timeout_s=TIMEOUT_S)


@pytest.fixture
def master(sentinels: Sentinels) -> Iterator[Redis]:
    """A client of whichever server is the master."""
    with open_sync(sentinels.url, **connection.connection_options(TIMEOUT_S)) as client:
        yield client


def insist(act: Callable[[], Any]) -> None:
    """Do it as soon as Redis takes it; it may come twice."""

    def done() -> bool:
        with suppress(RedisConnectionError, RedisTimeoutError):
            act()
            return True
        return False

    until(done, "the new master has taken it", within=30)


def kill(sentinels: Sentinels) -> None:
    sentinels.kill_master()


def hang(sentinels: Sentinels) -> None:
    os.kill(sentinels.master.pid, signal.SIGSTOP)


def demote(sentinels: Sentinels) -> None:
    """It lives on, and its connections with it."""
    sentinels.demote_master()


@pytest.mark.parametrize("end", [kill, hang, demote])
def test_streams_and_results_go_on_over_a_failover_and_enqueues_are_answered_in_time(
    sentinels: Sentinels, shell: Shell, master: Redis, end: Callable[[Sentinels], None]
) -> None:
    """An enqueue succeeds or is refused, and succeeds once there is a master again."""
    task_id = shell.enqueue(a_task())
    hand = Hand(master, task_id)
    with ThreadPoolExecutor(2) as pool:
        follows = pool.submit(lambda: [event.id for event in shell.stream(task_id)])
        waits = pool.submit(shell.result, task_id, 60)
        wait_for_subscriber(master, task_id, 2)
        hand.say("a", "b")
        assert master.wait(1, 5_000) == 1, "the replica has it"
        old = sentinels.master
        end(sentinels)
        refused = enqueue_until_another_than(old, sentinels, shell)
        if end is demote:
            assert refused == [], "whoever meets READONLY finds the new master by himself"
        insist(lambda: hand.say("c", "d"))
        insist(hand.complete)
        assert follows.result(60) == ["0-1", *(f"1-{seq}" for seq in range(6))]
        assert waits.result(60).task_id == task_id


def enqueue_until_another_than(old: Any, sentinels: Sentinels, shell: Shell) -> list[str]:
    """Enqueue until a new master has taken it; return the words of those that were refused."""
    refused: list[str] = []

    def taken() -> bool:
        began = time.monotonic()
        try:
            task_id = shell.enqueue(a_task())
        except StoreUnavailable as error:
            refused.append(str(error))
            return False
        finally:
            assert time.monotonic() - began < BOUND_S
        if (new := sentinels.master).port == old.port:
            return False
        with Redis.from_url(new.url) as client:
            return bool(client.exists(KEYS.record(task_id)))

    until(taken, "the new master has taken a task", within=30)
    assert all("Redis" in one and len(one) < 300 for one in refused)
    return refused


def test_a_master_that_hung_is_left_and_gives_nobody_its_late_answers(
    sentinels: Sentinels, shell: Shell
) -> None:
    """Nor does a lone caller wait for it again and again."""
    ids = [shell.enqueue(a_task()) for _ in range(3)]
    old = sentinels.master
    with Redis.from_url(old.url) as client:
        client.set("behind", "them")
        assert client.wait(1, 10_000) == 1, "the replica has them"
    os.kill(old.pid, signal.SIGSTOP)
    for task_id in ids:
        with suppress(StoreUnavailable):
            shell.status(task_id)
    enqueue_until_another_than(old, sentinels, shell)
    os.kill(old.pid, signal.SIGCONT)
    assert [shell.status(task_id).id for task_id in ids * 5] == ids * 5


def test_sentinels_that_are_silent_or_gone_are_told_in_time(
    sentinels: Sentinels, start_shell: StartShell
) -> None:
    """One of them costs a second, all of them the caller his answer; who is connected goes on."""
    used = start_shell(sentinels.url, timeout_s=TIMEOUT_S)
    used.enqueue(a_task())
    stranger = start_shell(sentinels.url.replace(MASTER, "nobody"), timeout_s=TIMEOUT_S)
    with pytest.raises(StoreUnavailable, match="names a living master 'nobody'"):
        stranger.enqueue(a_task())
    sentinels.sentinels[0].pause()
    began = time.monotonic()
    start_shell(sentinels.url, timeout_s=TIMEOUT_S).enqueue(a_task())
    assert time.monotonic() - began < 2 * servers.SENTINEL_TIMEOUT_S + 2
    for sentinel in sentinels.sentinels:
        sentinel.kill()
    began = time.monotonic()
    names = f"Redis cannot be used .no sentinel that answers names a living master '{MASTER}'.; "
    with pytest.raises(StoreUnavailable, match=names + "look at REDIS_URL"):
        start_shell(sentinels.url, timeout_s=TIMEOUT_S).enqueue(a_task())
    assert time.monotonic() - began < BOUND_S
    assert used.status(used.enqueue(a_task())).state == "queued"


async def test_sentinels_are_not_forgotten_by_many_who_ask_at_once(sentinels: Sentinels) -> None:
    """One that is down when a failover lets all connect anew is asked again later."""
    sentinels.sentinels[0].kill()
    with open_sync(sentinels.url) as client:
        manager: Any = client.connection_pool.sentinel_manager
        first = repr(manager.sentinels[0])
        with ThreadPoolExecutor(16) as pool:
            start = threading.Barrier(16)
            ask = lambda _: (start.wait(), manager.discover_master(MASTER))[1]  # noqa: E731
            found = set(pool.map(ask, range(16)))
        assert len(set(map(id, manager.sentinels))) == 3
        assert repr(manager.sentinels[0]) != first, "who answers is asked first"
    async with open_async(sentinels.url) as asyncs:
        manager = asyncs.connection_pool.sentinel_manager  # type: ignore[attr-defined]
        asked = [manager.discover_master(MASTER) for _ in range(16)]
        assert set(await asyncio.gather(*asked)) == found
        assert len(set(map(id, manager.sentinels))) == 3
