"""Connections: given back however a stream ends, never shared by two who speak at once."""

import asyncio
import signal
import statistics
import sys
import threading
import time
import timeit
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, closing, contextmanager, suppress
from typing import Any

import pytest
from redis import Redis
from redis.connection import HiredisRespSerializer
from redis.exceptions import DataError

from api_contracts.client import AsyncClient, AsyncHandle, Client, Handle, connection
from api_contracts.errors import ResultTimeout
from tests.parts.cable import Cable
from tests.parts.scripts import Hand, a_task, wait_for_subscriber
from tests.parts.wait import until, until_async

#: How often a caller is interrupted at a moment of chance.
INTERRUPTS = 150


@pytest.fixture
def hand(redis: Redis, redis_url: str) -> Hand:
    """A task that runs and has said one word."""
    with Client(redis_url) as client:
        hand = Hand(redis, client.enqueue(a_task()).id)
    hand.say("a")
    return hand


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    with Client(redis_url) as client:
        yield client


@pytest.fixture
async def async_client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(redis_url) as client:
        yield client


def nobody_listens(redis: Redis) -> None:
    """Wait until Redis has seen every subscriber go."""
    until(lambda: not redis.client_list(_type="pubsub"), "nobody is subscribed")


def ids_of_clients(redis: Redis) -> set[str]:
    """Return what Redis calls those who are connected."""
    return {one["id"] for one in redis.client_list()}


class Spoilt(Exception):
    """What goes wrong in the code of a stream's reader."""


def left(client: Client, hand: Hand) -> None:
    for _ in client.stream(hand.task_id):
        break


def closed(client: Client, hand: Hand) -> None:
    with closing(client.stream(hand.task_id)) as events:
        next(events)


def closed_text(client: Client, hand: Hand) -> None:
    with closing(Handle(client, hand.task_id).text()) as pieces:
        assert next(pieces) == "a"


def spoilt(client: Client, hand: Hand) -> None:
    with suppress(Spoilt):
        for _ in client.stream(hand.task_id):
            raise Spoilt


def timed_out(client: Client, hand: Hand) -> None:
    with pytest.raises(ResultTimeout):
        client.result(hand.task_id, 0.05)


def seen_to_its_end(client: Client, hand: Hand) -> None:
    hand.complete()
    assert list(client.stream(hand.task_id))[-1].type == "completed"


@pytest.mark.parametrize("end", [left, closed, closed_text, spoilt, timed_out, seen_to_its_end])
def test_a_stream_gives_its_connection_back_however_it_ends(
    client: Client, redis: Redis, hand: Hand, end: Callable[[Client, Hand], None]
) -> None:
    before = len(redis.client_list())
    for _ in range(5):
        if end is not seen_to_its_end or client.status(hand.task_id).state == "running":
            end(client, hand)
    nobody_listens(redis)
    assert len(redis.client_list()) <= before + 2, "and those that it keeps are used again"


async def left_async(client: AsyncClient, hand: Hand) -> None:
    async for _ in client.stream(hand.task_id):
        break


async def closed_async(client: AsyncClient, hand: Hand) -> None:
    async with aclosing(client.stream(hand.task_id)) as events:
        await anext(events)


async def closed_text_async(client: AsyncClient, hand: Hand) -> None:
    async with aclosing(AsyncHandle(client, hand.task_id).text()) as pieces:
        assert await anext(pieces) == "a"


async def spoilt_async(client: AsyncClient, hand: Hand) -> None:
    with suppress(Spoilt):
        async for _ in client.stream(hand.task_id):
            raise Spoilt


async def timed_out_async(client: AsyncClient, hand: Hand) -> None:
    with pytest.raises(ResultTimeout):
        await client.result(hand.task_id, 0.05)


async def cancelled_async(client: AsyncClient, hand: Hand) -> None:
    """Whether it waits for an event or for the result."""
    for wait in (client.result(hand.task_id), _drain(client, hand.task_id)):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await wait


async def _read(client: AsyncClient, task_id: str) -> None:
    async for _ in AsyncHandle(client, task_id).text():
        continue


async def _drain(client: AsyncClient, task_id: str) -> None:
    async for _ in client.stream(task_id):
        continue


@pytest.mark.parametrize(
    "end",
    [
        left_async,
        closed_async,
        closed_text_async,
        spoilt_async,
        timed_out_async,
        cancelled_async,
    ],
)
async def test_an_async_stream_gives_its_connection_back_however_it_ends(
    async_client: AsyncClient,
    redis: Redis,
    hand: Hand,
    end: Callable[[AsyncClient, Hand], Awaitable[None]],
) -> None:
    before = len(redis.client_list())
    for _ in range(5):
        await end(async_client, hand)
    await asyncio.to_thread(nobody_listens, redis)
    assert len(redis.client_list()) <= before + 3, "and those that it keeps are used again"


@contextmanager
def forgotten() -> Iterator[list[object]]:
    """Gather the generators that are left to the garbage collector to close."""
    found: list[object] = []
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(finalizer=found.append)
    try:
        yield found
    finally:
        sys.set_asyncgen_hooks(*hooks)


async def test_a_result_gives_its_connection_back_before_it_returns(
    async_client: AsyncClient, redis: Redis, hand: Hand
) -> None:
    with forgotten() as found:
        waits = asyncio.create_task(async_client.result(hand.task_id, 30))
        await asyncio.to_thread(wait_for_subscriber, redis, hand.task_id)
        hand.complete()
        await waits
    assert found == []


async def test_a_text_that_is_closed_closes_its_stream(
    async_client: AsyncClient, hand: Hand
) -> None:
    with forgotten() as found:
        await closed_text_async(async_client, hand)
    assert found == []


async def test_hundreds_of_streams_in_one_process_each_see_their_own_task(
    async_client: AsyncClient, redis: Redis
) -> None:
    streams = 300
    handles = [await async_client.enqueue(a_task()) for _ in range(streams)]

    async def follow(handle: AsyncHandle) -> list[str]:
        events = [event async for event in handle]
        assert {event.task_id for event in events} == {handle.id}
        return [event.id for event in events]

    def work() -> None:
        hands = [Hand(redis, handle.id) for handle in handles]
        for _ in range(5):
            for hand in hands:
                hand.say("a", "b")
        for hand in hands:
            hand.complete()

    *ids, _ = await asyncio.gather(*map(follow, handles), asyncio.to_thread(work))
    assert ids == [["0-1", *(f"1-{seq}" for seq in range(12))]] * streams
    await asyncio.to_thread(nobody_listens, redis)


async def test_a_closed_client_keeps_no_connection(redis: Redis, redis_url: str) -> None:
    # Who came before the test may go in the middle of it.
    before = ids_of_clients(redis)
    async with AsyncClient(redis_url) as client:
        for _ in range(3):
            handle = await client.enqueue(a_task())
            await anext(handle.events())
    await until_async(lambda: ids_of_clients(redis) <= before, "every connection is closed")


async def test_answers_never_go_to_another_question_when_calls_are_cancelled(
    async_client: AsyncClient,
) -> None:
    handles = [await async_client.enqueue(a_task()) for _ in range(20)]
    cancelled = 0
    for turn in range(INTERRUPTS):
        handle = handles[turn % len(handles)]
        call = asyncio.ensure_future(async_client.status(handle.id))
        for _ in range(turn % 9):
            await asyncio.sleep(0)
        cancelled += call.cancel()
        with suppress(asyncio.CancelledError):
            assert (await call).id == handle.id
        task = a_task()
        assert (await async_client.enqueue(task)).id == task.id
        assert (await async_client.status(task.id)).created_at > 0
    assert cancelled > INTERRUPTS // 2


@pytest.mark.parametrize("ask", [AsyncClient.result, _drain, _read])
async def test_a_wait_that_is_cancelled_ends_at_once_at_whatever_moment(
    redis_url: str,
    hand: Hand,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[AsyncClient, str], Awaitable[Any]],
) -> None:
    """A cancellation that meets an answer must not get lost: the wait would go on for ever."""
    monkeypatch.setattr(connection, "SILENCE_S", 600)
    for moment in range(INTERRUPTS):
        async with AsyncClient(redis_url) as client:
            call = asyncio.ensure_future(ask(client, hand.task_id))
            for _ in range(moment):
                await asyncio.sleep(0)
            call.cancel()
            done, _ = await asyncio.wait([call], timeout=30)
            assert done, f"cancelled after {moment} rounds of the loop, it goes on"
            assert call.cancelled()


async def test_a_caller_who_is_cancelled_may_still_ask(
    async_client: AsyncClient, hand: Hand
) -> None:
    """In the block that cleans up behind him."""
    asked: list[str] = []

    async def follow() -> None:
        try:
            await _drain(async_client, hand.task_id)
        finally:
            asked.append((await async_client.status(hand.task_id)).state)
            async with aclosing(async_client.stream(hand.task_id)) as events:
                asked.append((await anext(events)).type)

    call = asyncio.ensure_future(follow())
    await asyncio.sleep(0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert asked == ["running", "queued"]


@contextmanager
def ctrl_c(after_s: float) -> Iterator[None]:
    """Interrupt the block, so late; it must be waiting then."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    strike = threading.Timer(after_s, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1))
    strike.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        strike.join()
        signal.signal(signal.SIGUSR1, before)


def test_an_answer_that_comes_after_a_keyboard_interrupt_goes_to_nobody(
    cable: Cable, hand: Hand
) -> None:
    with Client(cable.url) as client:
        other = client.enqueue(a_task())
        for ask in (client.status, client.result, lambda one: client.enqueue(a_task(one))):
            with cable.silent(cut=False), ctrl_c(0.1):
                ask(hand.task_id)
            for _ in range(3):
                assert (other.status().id, other.status().state) == (other.id, "queued")


def test_a_keyboard_interrupt_gives_the_connection_of_a_stream_back(
    client: Client, redis: Redis, hand: Hand
) -> None:
    with ctrl_c(0.2):
        for _ in client.stream(hand.task_id):
            continue
    with ctrl_c(0.2):
        client.result(hand.task_id)
    nobody_listens(redis)
    assert client.status(hand.task_id).state == "running"


def their_packer() -> Any:
    """Make redis-py's own; its annotations are wrong."""
    return HiredisRespSerializer()


@pytest.mark.parametrize(
    "command",
    [("PING",), ("SCRIPT LOAD", "return 1"), ("SET", "grün", b"\0\xff", 7, 1.5), ("AUTH", "a b")],
)
def test_commands_are_written_as_redis_py_writes_them(command: tuple[Any, ...]) -> None:
    theirs = their_packer().pack(*command)
    assert connection.Packer().pack(*command) == theirs


def test_what_is_no_value_is_refused_as_redis_py_refuses_it() -> None:
    with pytest.raises(DataError):
        connection.Packer().pack("SET", "a", None)


def test_commands_are_written_in_less_than_half_of_redis_py_s_time() -> None:
    command = ("EVALSHA", "0" * 40, 2, "a", "b", *("word",) * 12)
    ours, theirs = connection.Packer(), their_packer()

    def took(packer: Any) -> float:
        # This thread's own time: whoever has the core meanwhile costs one of them more.
        return timeit.timeit(lambda: packer.pack(*command), timer=time.thread_time, number=500)

    # Both, one right after the other: a slow moment is one for both.
    assert statistics.median(took(ours) / took(theirs) for _ in range(41)) < 0.5
