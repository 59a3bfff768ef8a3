"""A worker that is asked to leave does so soon, loses nothing, and nobody waits for its leases."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis as redis_library

from api_contracts.client import Client
from api_contracts.events import ENDINGS, Chunk, Started
from api_contracts.names import Queue
from tests.conftest import StartValkey, StartWorker
from tests.parts import answers, foreign
from tests.parts.following import KEYS, ended, log_of, result_of
from tests.parts.foreign import AnyQueue
from tests.parts.gate import Answer, Do, Gate, Pause, stream, whole
from tests.parts.wait import until
from tests.parts.worker import Worker
from worker import embedded

QUESTION = [{"role": "user", "content": "hello"}]
HEAD, *REST = answers.openai("a", "b", "c")
#: A stream that would go on for longer than anybody waits, one that ends, and one that takes 0.6 s.
ENDLESS = stream(HEAD, Do.HANG)
QUICK = stream(HEAD, *REST)
STEADY = stream(HEAD, *(step for one in REST for step in (Pause(0.15), one)))
#: Longest way of a task that is handed back to another worker's answer, in seconds: below the 20 s
#: of a lease, and of a doorbell that somebody must ring again.
SOON_S = 15.0
#: What a worker may need beyond its grace to leave, in seconds: what the examples in deploy/ give
#: it. It is 1 to 2 where nothing is in its way.
LEAVE_S = 15.0


@pytest.fixture
def server(start_valkey: StartValkey) -> embedded.EmbeddedServer:
    """A server of the test's own: the workers of other tests take none of its tasks."""
    return start_valkey()


@pytest.fixture
def client(server: embedded.EmbeddedServer) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


@pytest.fixture(name="redis")
def own_redis(server: embedded.EmbeddedServer) -> Iterator[redis_library.Redis]:
    with redis_library.Redis.from_url(server.url) as redis:
        yield redis


Start = Callable[..., Worker]


@pytest.fixture
def start(worker_process: StartWorker, gate: Gate, server: embedded.EmbeddedServer) -> Start:
    """Start a worker with this grace, in seconds."""

    def start(grace_s: float = 25, *, ready: bool = True) -> Worker:
        settings = {"REDIS_URL": server.url, "ROUTER_WORKER_DRAIN_S": str(grace_s)}
        return worker_process(gate.url, ready=ready, **settings)

    return start


Begin = Callable[..., list[str]]


@pytest.fixture
def begin(gate: Gate, client: Client, redis: redis_library.Redis) -> Begin:
    """Enqueue a task for each of these answers, and wait until each has its first chunk."""

    def chunked(task: str) -> bool:
        return any(isinstance(event, Chunk) for event in log_of(redis, task))

    def begin(*streams: Answer) -> list[str]:
        gate.answer(*streams)
        tasks = [client.chat("m", QUESTION, stream=True).id for _ in streams]
        until(lambda: all(map(chunked, tasks)), "the first chunks", within=30)
        return tasks

    return begin


def left(worker: Worker, *, within: float) -> None:
    """Wait until the worker has ended, with status 0."""
    assert worker.program.wait(within=within) == 0, worker.output


def asked_to_leave(worker: Worker, *, within: float) -> float:
    """Ask a worker to leave, and wait until it has; return the seconds that it took."""
    began = time.monotonic()
    worker.program.terminate()
    left(worker, within=within)
    return time.monotonic() - began


def send(worker: Worker, *signals: signal.Signals) -> None:
    """Send signals, each once the one before was answered."""
    for number in signals:
        os.kill(worker.program.pid, number)
        until(lambda: "the worker is leaving" in worker.get("/readyz")[1], "it is leaving")


def spent_nothing(redis: redis_library.Redis, task: str) -> bool:
    """Tell whether a task that ended has spent no attempt, and killed nobody."""
    return redis.hmget(KEYS.record(task), "failures", "deaths") in ([b"0", None], [b"0", b"0"])


def test_streams_that_outlast_the_grace_are_handed_back_and_run_elsewhere(  # noqa: PLR0913, PLR0917
    gate: Gate, client: Client, redis: redis_library.Redis, queue: AnyQueue, start: Start,
    begin: Begin,
) -> None:  # fmt: skip
    first = start(grace_s=1)
    tasks = begin(*[ENDLESS] * 20)
    took = asked_to_leave(first, within=1 + LEAVE_S)
    assert took >= 0.9, "it left before its grace was over"
    assert all(request.left.wait(10) for request in gate.requests)
    assert {client.status(task).state for task in tasks} == {"queued"}
    assert queue.waiting() == len(tasks)
    gate.answer(*[QUICK] * len(tasks))
    start()
    for task in tasks:
        assert [attempt.outcome for attempt in result_of(redis, task, within=SOON_S).attempts] == [
            "interrupted",
            "completed",
        ]
        events = list(client.stream(task))
        assert [one.resets for one in events if isinstance(one, Started)] == [False, True]
        assert spent_nothing(redis, task)


@pytest.mark.parametrize(
    "signals",
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGHUP, signal.SIGTERM),
        (signal.SIGQUIT,),
    ],
    ids=lambda signals: "-".join(one.name for one in signals),
)
def test_a_second_signal_hands_back_at_once(
    client: Client, redis: redis_library.Redis, start: Start, begin: Begin,
    signals: tuple[signal.Signals, ...],
) -> None:  # fmt: skip
    worker = start(grace_s=600)
    (task,) = begin(ENDLESS)
    send(worker, *signals[:-1])
    os.kill(worker.program.pid, signals[-1])
    left(worker, within=LEAVE_S)
    assert client.status(task).state == "queued"
    assert redis.llen(Queue.INTERACTIVE) == 1


def test_who_tells_of_the_fleet_lets_another_do_it(
    redis: redis_library.Redis, start: Start
) -> None:
    worker = start()
    until(lambda: redis.exists(KEYS.exporter), "it is elected")
    asked_to_leave(worker, within=LEAVE_S)
    assert not redis.exists(KEYS.exporter)


def test_tasks_that_end_within_the_grace_are_not_handed_back(
    redis: redis_library.Redis, start: Start, begin: Begin
) -> None:
    worker = start(grace_s=60)
    tasks = begin(*[stream(HEAD, Pause(1.5), *REST)] * 5)
    took = asked_to_leave(worker, within=90)
    assert took < 1.5 + LEAVE_S, "it waited for its grace to pass"
    for task in tasks:
        assert [attempt.outcome for attempt in result_of(redis, task).attempts] == ["completed"]


def test_an_idle_worker_leaves_within_two_seconds(start: Start) -> None:
    """Of three tries the best, since machines are noisy."""
    seconds = [asked_to_leave(start(), within=LEAVE_S) for _ in range(3)]
    assert min(seconds) < 2, seconds


def test_a_task_that_must_not_be_restarted_fails_as_interrupted_when_its_grace_is_over(
    gate: Gate, client: Client, redis: redis_library.Redis, start: Start
) -> None:
    worker = start(grace_s=0.2)
    gate.answer(ENDLESS)
    task = client.chat("m", QUESTION, stream=True, options={"on_interrupt": "fail"}).id
    until(lambda: gate.requests, "the call is made")
    asked_to_leave(worker, within=LEAVE_S)
    ending = ended(redis, task)[-1]
    assert ending.type == "failed"
    assert ending.error.code == "interrupted"


def test_messages_that_come_while_a_worker_leaves_are_the_next_ones(
    gate: Gate, redis: redis_library.Redis, queue: AnyQueue, start: Start
) -> None:
    gate.answer(*[whole({"choices": [{"message": {"content": "ok"}}]})] * 3000)
    tasks: list[str] = []
    for _ in range(3):
        worker = start()
        worker.program.terminate()
        while worker.program.running:
            tasks.append(queue.send())
            time.sleep(0.01)
        left(worker, within=0)
    assert len(tasks) > 20
    start()
    began = time.monotonic()
    for task in tasks:
        assert len(result_of(redis, task).attempts) == 1
    assert time.monotonic() - began < SOON_S
    assert len(gate.requests) == len(tasks)
    until(lambda: redis.hlen(foreign.UNACKED) == 0, "all are acknowledged")


@pytest.mark.parametrize("trouble", [signal.SIGKILL, signal.SIGSTOP], ids=["gone", "silent"])
@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
def test_a_worker_leaves_in_bounded_time_while_redis_is_away(
    server: embedded.EmbeddedServer, start: Start, begin: Begin, trouble: signal.Signals,
    *, busy: bool,
) -> None:  # fmt: skip
    worker = start(grace_s=1)
    if busy:
        begin(ENDLESS)
    os.kill(server.pid, trouble)
    worker.program.terminate()
    try:
        left(worker, within=1 + LEAVE_S)
    finally:
        if trouble is signal.SIGSTOP:
            os.kill(server.pid, signal.SIGCONT)


class Load:
    """Producers of both kinds that go on until they are stopped."""

    def __init__(self, url: str, queue: AnyQueue) -> None:
        self._url = url
        self._queue = queue
        self._stop = threading.Event()
        self.tasks: list[str] = []
        self._threads = [threading.Thread(target=one) for one in (self._ours, self._foreign)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[str]:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.tasks

    def _ours(self) -> None:
        with Client(self._url) as client:
            while not self._stop.wait(0.04):
                self.tasks.append(client.chat("m", QUESTION, stream=True).id)

    def _foreign(self) -> None:
        request = {"model": "m", "messages": QUESTION, "stream": True}
        while not self._stop.wait(0.04):
            self.tasks.append(self._queue.send({"kind": "chat", "request": request}))


def test_rolling_restarts_under_load_lose_nothing_and_spend_no_attempts(
    gate: Gate, redis: redis_library.Redis, queue: AnyQueue, start: Start,
    server: embedded.EmbeddedServer,
) -> None:  # fmt: skip
    """Every other restart leaves its tasks no time."""
    restarts = int(os.environ.get("RESTARTS", "4"))
    gate.answer(*[STEADY] * (1000 + 1000 * restarts))
    workers = [start(grace_s=25), start(grace_s=0.05)]
    load = Load(server.url, queue)
    for restart in range(restarts):
        workers.append(start(grace_s=25 if restart % 2 else 0.05))
        oldest = workers.pop(0)
        oldest.program.terminate()
        left(oldest, within=10)
    tasks = load.stop()
    handed_back = 0
    for task in tasks:
        events = ended(redis, task, within=SOON_S)
        assert [event.type for event in events if event.type in ENDINGS] == ["completed"]
        assert spent_nothing(redis, task)
        handed_back += int(redis.hget(KEYS.record(task), "attempt") or 0) - 1
    assert handed_back > 0, "no restart met a task"
    print(f"{len(tasks)} tasks, {handed_back} handed back, {len(gate.requests)} calls")  # noqa: T201
