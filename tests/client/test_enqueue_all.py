"""Many tasks at once: the same promises as for each, in fewer round trips."""

from typing import Any

import pytest
from redis import Redis

from api_contracts.client.flows import TOGETHER
from api_contracts.errors import IdempotencyConflict, InvalidTask, TaskExists
from api_contracts.names import Queue
from tests.client.conftest import Shell, StartShell
from tests.client.test_enqueue import rung
from tests.conftest import StartValkey
from tests.parts.scripts import KEYS, Scripts, a_task, types


def test_all_are_on_record_looked_after_and_rung_in_their_order(shell: Shell, redis: Redis) -> None:
    shell.enqueue(a_task())  # the first one loads the script, and may ring twice for it
    redis.delete(Queue.INTERACTIVE, Queue.BATCH)
    tasks = [
        a_task(priority="batch" if number % 2 else "interactive")
        for number in range(2 * TOGETHER + 1)
    ]
    ids = [task.id for task in tasks]
    assert shell.enqueue_all(tasks) == ids
    assert rung(redis) == ids[::2]
    assert rung(redis, Queue.BATCH) == ids[1::2]
    scripts = Scripts(redis)
    assert all(types(scripts.log(task_id)) == ["queued"] for task_id in ids)
    assert None not in redis.zmscore(KEYS.due, ids)


def test_they_take_a_few_round_trips(shell: Shell, redis: Redis) -> None:
    shell.enqueue(a_task())
    before: Any = redis.info("commandstats")
    shell.enqueue_all(a_task() for _ in range(TOGETHER))
    after: Any = redis.info("commandstats")
    sent = {
        name: after[f"cmdstat_{name}"]["calls"] - before[f"cmdstat_{name}"]["calls"]
        for name in ("evalsha", "lpush")
    }
    assert sent == {"evalsha": TOGETHER, "lpush": 1}


def test_no_task_is_no_fault(shell: Shell, redis: Redis) -> None:
    assert shell.enqueue_all([]) == []
    assert redis.keys() == []


@pytest.mark.parametrize("options", [{"deadline": 1_000_000_000_001}, {"priority": "soon"}])
def test_nothing_is_sent_where_one_breaks_the_contract(
    shell: Shell, redis: Redis, options: dict[str, Any]
) -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    broken = {"kind": "chat", "request": request, "options": options}
    with pytest.raises(InvalidTask, match=rf"options\.{next(iter(options))}"):
        shell.enqueue_all([a_task(), broken])
    assert redis.keys() == []


def test_where_one_is_refused_the_others_are_on_record(shell: Shell, redis: Redis) -> None:
    shell.enqueue(taken := a_task("hello"))
    others = [a_task(), a_task()]
    another = a_task("bye").model_copy(update={"id": taken.id})
    with pytest.raises(TaskExists, match=taken.id):
        shell.enqueue_all([others[0], another, others[1]])
    assert [shell.status(task.id).state for task in others] == ["queued"] * 2
    assert set(rung(redis)) >= {task.id for task in others}


def test_keys_are_held_among_them_too(shell: Shell, redis: Redis) -> None:
    first, plain, again = a_task(idempotency_key="k"), a_task(), a_task(idempotency_key="k")
    assert shell.enqueue_all([first, plain, again]) == [first.id, plain.id, first.id]
    assert not redis.exists(KEYS.record(again.id))
    with pytest.raises(IdempotencyConflict, match=first.id):
        shell.enqueue_all([a_task("bye", idempotency_key="k")])


def test_large_bodies_go_one_by_one(shell: Shell) -> None:
    tasks = [a_task("x" * 3_000_000) for _ in range(4)]
    assert shell.enqueue_all(tasks) == [task.id for task in tasks]


def test_doorbells_ring_on_a_broker_of_its_own(
    start_shell: StartShell, redis_url: str, redis: Redis, start_valkey: StartValkey
) -> None:
    server = start_valkey(persistence=False)
    shell = start_shell(redis_url, broker_url=server.url)
    ids = shell.enqueue_all([a_task(), a_task()])
    assert rung(redis) == []
    with Redis.from_url(server.url) as broker:
        assert rung(broker) == ids
