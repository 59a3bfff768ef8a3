"""Producers whose doorbells ring on RabbitMQ: both clients, whatever it does."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from redis import Redis

from api_contracts.client import Client, rabbitmq
from tests.client.conftest import Shell, StartShell, start_shell  # noqa: F401 - a fixture
from tests.parts.cable import Cable
from tests.parts.rabbitmq import Host
from tests.parts.scripts import KEYS, a_task
from tests.parts.wait import until


@pytest.fixture
def shell(start_shell: StartShell, redis_url: str) -> Shell:  # noqa: F811 - a fixture
    return start_shell(redis_url)


@pytest.fixture
def cable(queue: Host) -> Iterator[Cable]:
    """The way to RabbitMQ, which the test may cut."""
    cable = Cable(urlsplit(queue.url).port or 0)
    yield cable
    cable.close()


def through(cable: Cable, queue: Host) -> str:
    """Return the queue's URL by this way."""
    here, there = urlsplit(cable.url).port, urlsplit(queue.url).port
    return queue.url.replace(f":{there}/", f":{here}/")


def test_a_task_is_on_record_and_rung_before_any_worker_has_been(
    shell: Shell, redis: Redis, queue: Host
) -> None:
    ids = shell.enqueue_all([a_task() for _ in range(3)])
    ids.append(shell.enqueue(a_task()))
    assert {shell.status(one).state for one in ids} == {"queued"}
    assert redis.zcard(KEYS.due) == len(ids)
    assert redis.llen("router.interactive") == 0
    until(lambda: queue.waiting() == len(ids), "all are rung")


def test_a_connection_that_was_cut_is_made_anew(
    start_shell: StartShell,  # noqa: F811 - a fixture
    redis_url: str,
    queue: Host,
    cable: Cable,
) -> None:
    shell = start_shell(redis_url, broker_url=through(cable, queue))
    shell.enqueue(a_task())
    until(lambda: queue.waiting() == 1, "it is rung")
    cable.cut()
    shell.enqueue(a_task())
    until(lambda: queue.waiting() == 2, "both are rung")


def test_a_rabbitmq_that_is_silent_costs_one_wait_and_no_task(  # noqa: PLR0913, PLR0917
    start_shell: StartShell, redis_url: str, queue: Host, cable: Cable,  # noqa: F811 - a fixture
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(rabbitmq, "PAUSE_S", 600.0)
    shell = start_shell(redis_url, broker_url=through(cable, queue), timeout_s=0.5)
    with cable.silent():
        tasks = [shell.enqueue(a_task()) for _ in range(20)]
    assert {shell.status(one).state for one in tasks} == {"queued"}
    told = [record.message for record in caplog.records if "doorbells not rung" in record.message]
    waited, *others = told
    assert waited.startswith("doorbells not rung, a worker will ring them: 1 (")
    assert len(others) == 19
    assert all("could not be used a moment ago" in one for one in others)


def test_threads_share_a_connection(redis_url: str, queue: Host) -> None:
    with Client(redis_url) as client, ThreadPoolExecutor(8) as pool:
        tasks = list(pool.map(lambda _: client.enqueue(a_task()).id, range(80)))
    assert len(set(tasks)) == 80
    until(lambda: queue.waiting() == 80, "all are rung")


def test_a_process_that_forks_leaves_its_parents_connection_alone(
    redis_url: str, queue: Host
) -> None:
    with Client(redis_url) as client:
        client.enqueue(a_task())
        child = os.fork()
        if child == 0:
            client.enqueue(a_task())
            client._queues.close()  # noqa: SLF001 - so that the server has all of it
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        client.enqueue(a_task())
    until(lambda: queue.waiting() == 3, "all are rung")
