"""Cancelling with a real worker: it ends at once, its call stops, and nothing of it comes back."""

import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
import redis as redis_library

from api_contracts.client import Client, Handle
from api_contracts.errors import TaskCancelled
from api_contracts.names import Queue, State
from tests.e2e.conftest import StartModuleWorker
from tests.parts import answers
from tests.parts.following import KEYS, ended, kinds, log_of, result_of, until_over
from tests.parts.gate import Answer, Do, Gate, Pause, stream, whole
from tests.parts.wait import until
from tests.parts.worker import Worker

MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]
#: Seconds within which an ending is there, and within which a call's connection is closed where
#: the word of it comes: the heartbeat, which is the net under that, would take up to 5 s.
ENDED_S, CLOSED_S = 0.1, 3.0
GOOD = whole({"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]})
HALF: Answer = stream(*answers.openai("one ", "two ", finish=False), Do.HANG)
#: What a call hangs in, and what is seen of it before that.
HANGS: dict[str, tuple[Answer, list[str]]] = {
    "before-an-answer": ((Do.HANG,), ["queued", "started"]),
    "before-a-chunk": (stream(Do.HANG), ["queued", "started"]),
    "in-the-middle": (HALF, ["queued", "started", "chunk"]),
}


@pytest.fixture(scope="module")
def _alone(module_worker: StartModuleWorker) -> Worker:
    return module_worker(ROUTER_WORKER_CONCURRENCY="1", ROUTER_WORKER_HEARTBEAT_S="0.5")


@pytest.fixture
def alone(_alone: Worker, gate: Gate, module_url: str) -> Iterator[tuple[Worker, Client]]:
    """A worker with one slot and a quick heart, which calls the gate; and its producer."""
    with Client(module_url) as client:
        yield _alone, client


def begin(gate: Gate, client: Client, answer: Answer = HALF, **options: Any) -> Handle:
    """Enqueue a task whose call hangs, and wait until it does."""
    calls = len(gate.requests)
    gate.answer(answer)
    handle = client.chat("gpt-4o", MESSAGES, stream=True, options=options)
    until(lambda: len(gate.requests) > calls, "the call")
    if answer is HALF:
        with closing(handle.events()) as events:
            next(event for event in events if event.id == "1-2")
    return handle


def counted(worker: Worker, outcome: str) -> int:
    """How many tasks a worker says have ended so, since Redis was emptied."""

    def told() -> str:
        page = worker.get("/metrics")[1]
        # Where Redis is slow, nothing is told of the fleet.
        return page if "router_worker_open_tasks " in page else ""

    page = until(told, "the worker tells of the fleet", within=30)
    rows = re.findall(rf'tasks_total{{.*outcome="{outcome}".*}} (\S+)', page)
    return int(sum(map(float, rows)))


def goes_on(gate: Gate, client: Client) -> None:
    """Check that the next task is run as if nothing had been."""
    gate.answer(GOOD, to="the next task")
    client.chat("m", [{"role": "user", "content": "the next task"}]).result(timeout=10)


def test_a_queued_task_ends_at_once_and_is_never_sent(
    alone: tuple[Worker, Client], gate: Gate
) -> None:
    worker, client = alone
    before = counted(worker, "cancelled")
    first = begin(gate, client)
    took = []
    for _ in range(5):
        queued = client.chat("m", [{"role": "user", "content": "never"}])
        with closing(queued.events()) as events:
            assert next(events).type == "queued"
            began = time.monotonic()
            assert queued.cancel()
            assert next(events).type == "cancelled"
            took.append(time.monotonic() - began)
        with pytest.raises(TaskCancelled):
            queued.result()
    assert sorted(took)[2] < ENDED_S
    assert first.cancel()
    goes_on(gate, client)
    assert [request for request in gate.requests if b"never" in request.body] == []
    until(lambda: counted(worker, "cancelled") >= before + 6, "all are counted")
    assert counted(worker, "cancelled") == before + 6


@pytest.mark.parametrize("hang", HANGS)
def test_a_running_task_s_connection_is_closed(
    worker: Worker, gate: Gate, client: Client, redis: redis_library.Redis, hang: str
) -> None:
    answer, seen = HANGS[hang]
    before = counted(worker, "cancelled")
    handle = begin(gate, client, answer)
    began = time.monotonic()
    assert handle.cancel()
    assert gate.requests[0].left.wait(CLOSED_S)
    assert time.monotonic() - began < CLOSED_S
    assert kinds(ended(redis, handle.id)) == [*seen, "cancelled"]
    assert b"request" not in redis.hgetall(KEYS.record(handle.id))
    goes_on(gate, client)
    until(lambda: counted(worker, "cancelled") > before, "it is counted")
    until_over(redis, handle.id)
    assert counted(worker, "cancelled") == before + 1
    assert len(gate.requests) == 2
    assert kinds(log_of(redis, handle.id)) == [*seen, "cancelled"]


def test_a_retrying_task_never_comes_back(
    gate: Gate, client: Client, redis: redis_library.Redis, worker: Worker
) -> None:
    gate.answer(whole({"error": {"message": "slow down"}}, 429, retry_after="2"))
    handle = client.chat("m", MESSAGES)
    until(lambda: handle.status().state is State.RETRYING, "it waits for its next attempt")
    due = handle.status().due_at or 0
    assert handle.cancel()
    until(lambda: time.time() * 1000 > due + 200, "the next attempt would have been made")
    until(lambda: redis.llen(Queue.INTERACTIVE) == 0, "its doorbell was heard")
    goes_on(gate, client)
    assert len(gate.requests) == 2
    assert kinds(log_of(redis, handle.id)) == ["queued", "started", "retrying", "cancelled"]


def test_a_task_is_cancelled_once_however_many_cancel_it(
    worker: Worker, gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    before = counted(worker, "cancelled")
    handle = begin(gate, client)
    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(lambda _: handle.cancel(), range(40)))
    assert gate.requests[0].left.wait(CLOSED_S)
    assert kinds(ended(redis, handle.id)) == ["queued", "started", "chunk", "cancelled"]
    until_over(redis, handle.id)
    assert counted(worker, "cancelled") == before + 1


def test_what_has_ended_stays_as_it_is(
    worker: Worker, gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.answer(GOOD)
    handle = client.chat("m", MESSAGES)
    result = handle.result(timeout=10)
    assert handle.cancel() is False
    assert handle.result() == result
    assert kinds(log_of(redis, handle.id)) == ["queued", "started", "completed"]
    gate.answer(whole({"error": {"message": "no"}}, 400))
    failed = client.chat("m", MESSAGES)
    until(lambda: failed.status().state is State.FAILED, "it fails")
    assert failed.cancel() is False


def test_who_goes_away_cancels_nothing(
    worker: Worker, gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.answer(stream(*answers.openai("one ", finish=False), Pause(0.3), *answers.openai("two")))
    handle = client.chat("m", MESSAGES, stream=True)
    with closing(handle.events()) as events:
        next(event for event in events if event.type == "chunk")
    assert result_of(redis, handle.id).finish_reason == "stop"


def test_whenever_the_cancel_comes_there_is_one_ending_and_it_is_the_one_that_was_told(
    worker: Worker, gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    count, moments = 60, random.Random(5)
    pieces = answers.openai(*"abcdefgh")
    steps = [step for piece in pieces for step in (piece, Pause(0.004))]
    gate.answer((Do.HANG,), to="endless")
    gate.answer(*[stream(*steps)] * (count + 1))

    def race(after_s: float) -> tuple[str, bool]:
        handle = client.chat("m", MESSAGES, stream=True)
        until(lambda: time.monotonic() > began + after_s, "the moment", within=30)
        return handle.id, handle.cancel()

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(race, (n * 0.01 + moments.uniform(0, 0.08) for n in range(count))))
    # However slow the machine is, one cancel comes in time and one too late.
    endless = client.chat("m", [{"role": "user", "content": "endless"}], stream=True)
    over = client.chat("m", MESSAGES, stream=True)
    over.result(timeout=30)
    told += [(one.id, one.cancel()) for one in (endless, over)]
    assert {cancelled for _, cancelled in told} == {True, False}
    for task_id, cancelled in told:
        story = ended(redis, task_id)
        assert story[-1].type == ("cancelled" if cancelled else "completed")
        assert client.cancel(task_id) is cancelled
    gate.reset()  # the answers to calls that were never made
    goes_on(gate, client)
    for task_id, _ in told:
        assert kinds(log_of(redis, task_id)).count("cancelled") <= 1
        assert log_of(redis, task_id)[-1].type in ("cancelled", "completed")


def test_whenever_the_cancel_comes_its_call_is_closed_and_it_is_told_once(
    worker: Worker, gate: Gate, client: Client
) -> None:
    """Also between a claim's answer and the call."""
    count, moments = 150, random.Random(6)
    before = counted(worker, "cancelled")
    gate.answer(*[(Do.HANG,)] * count)

    def race(after_s: float) -> tuple[str, float]:
        handle = client.chat("m", MESSAGES, stream=True)
        due = time.monotonic() + after_s
        until(lambda: time.monotonic() > due, "the moment")
        assert handle.cancel()
        return handle.id, time.monotonic()

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(race, (moments.uniform(0, 0.1) for _ in range(count))))
    last = max(at for _, at in told)
    assert len(gate.requests) > 10, "some had begun"
    for request in tuple(gate.requests):
        assert request.left.wait(max(0, last + CLOSED_S - time.monotonic()))
    until(lambda: counted(worker, "cancelled") >= before + count, "all are counted", within=30)
    assert counted(worker, "cancelled") == before + count
    tasks = {task_id for task_id, _ in told}

    def lines() -> dict[str, int]:
        said = Counter(re.findall(r"cancelled .*task_id=(\S+)", worker.output))
        return {task_id: said[task_id] for task_id in tasks} if tasks <= said.keys() else {}

    assert until(lines, "each has a line") == dict.fromkeys(tasks, 1)


def test_a_worker_that_hangs_delays_no_ending_and_writes_nothing_when_it_wakes(
    alone: tuple[Worker, Client], gate: Gate, module_url: str
) -> None:
    worker, client = alone
    unheard = Pause(60)
    gate.answer(stream(*answers.openai("one ", finish=False), unheard, *answers.openai("two")))
    handle = client.chat("m", MESSAGES, stream=True)
    with closing(handle.events()) as events:
        next(event for event in events if event.type == "chunk")
        worker.pause()
        try:
            began = time.monotonic()
            assert handle.cancel()
            assert next(events).type == "cancelled"
            assert time.monotonic() - began < CLOSED_S
            # What the worker has to write when it wakes.
            unheard.over.set()
        finally:
            worker.resume()
    goes_on(gate, client)
    with redis_library.Redis.from_url(module_url) as redis:
        assert kinds(log_of(redis, handle.id)) == ["queued", "started", "chunk", "cancelled"]


def test_a_signal_that_is_lost_is_made_good_by_the_heartbeat(
    alone: tuple[Worker, Client], gate: Gate, module_url: str
) -> None:
    _, client = alone
    handle = begin(gate, client)
    with redis_library.Redis.from_url(module_url) as redis:

        def hear() -> int:
            return int(redis.pubsub_numsub(KEYS.cancel)[0][1])

        # Channels are of the whole server: other workers may listen beside this one.
        all_of_them = until(hear, "the worker hears")
        redis.client_kill_filter(_type="pubsub")
        assert handle.cancel()
        assert gate.requests[0].left.wait(0.5 + CLOSED_S)
        until(lambda: hear() == all_of_them, "the worker hears again")
    again = begin(gate, client)
    assert again.cancel()
    assert gate.requests[1].left.wait(CLOSED_S)


def test_a_call_that_is_cancelled_before_its_answer_is_no_failure_of_the_router(
    alone: tuple[Worker, Client], gate: Gate
) -> None:
    """Or whoever cancels much would have somebody called at night."""
    worker, client = alone
    # Its one slot is free again: the calls of other tests are counted.
    goes_on(gate, client)
    before = worker.samples("calls_total")
    assert begin(gate, client, (Do.HANG,)).cancel()

    def rises() -> dict[str, float]:
        now = worker.samples("calls_total").items()
        return {row: count for row, count in now if count != before.get(row)}

    row = "protocol=openai,status_class=stopped,vendor=auto"
    assert until(rises, "the call is counted") == {row: before.get(row, 0) + 1}
