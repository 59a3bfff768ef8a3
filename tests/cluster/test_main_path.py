"""What tests/e2e shows of a worker and one server, shown of a worker and a cluster.

The tests are those of tests/e2e; the fixtures beside this file say where they take place.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from api_contracts.client import Client
from api_contracts.events import parse_event
from tests.cli.shell import Shell
from tests.e2e.test_broken_streams import test_after_a_cut_the_answer_begins_anew_and_says_so
from tests.e2e.test_cancel import (
    test_a_retrying_task_never_comes_back,
    test_a_running_task_s_connection_is_closed,
    test_a_task_is_cancelled_once_however_many_cancel_it,
    test_what_has_ended_stays_as_it_is,
)
from tests.e2e.test_deadlines import test_a_task_that_is_past_its_start_by_is_never_sent
from tests.e2e.test_foreign import (
    test_a_hundred_messages_with_one_key_are_one_call,
    test_a_key_that_another_content_has_is_refused_whoever_has_it,
)
from tests.e2e.test_guide import router, test_every_request_of_the_guide_is_answered
from tests.e2e.test_retries import (
    test_every_attempt_is_on_record_with_its_request_id,
    test_it_gives_up_after_as_many_calls_as_the_policy_or_the_task_says,
)
from tests.parts import answers, foreign
from tests.parts.cluster import Cluster
from tests.parts.following import KEYS, ended, error_of, result_of
from tests.parts.gate import Gate, stream, whole
from tests.parts.wait import until
from tests.parts.web import free_port
from tests.parts.worker import Worker
from worker import embedded

pytestmark = pytest.mark.usefixtures("worker")

QUESTION = [{"role": "user", "content": "hello"}]
GOOD = whole({"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]})
REFUSED = whole({"error": {"message": "no"}}, 401)


def test_records_are_shared_out_among_all_masters(
    gate: Gate, client: Client, redis: Redis, cluster: Cluster
) -> None:
    gate.answer(*[GOOD] * 30)
    tasks = client.enqueue_all(
        {"kind": "chat", "request": {"model": "m", "messages": QUESTION}} for _ in range(30)
    )
    assert all(task.result(timeout=20).finish_reason == "stop" for task in tasks)
    assert min(cluster.sizes()) > 0
    until(lambda: redis.zcard(KEYS.due) == 0, "nobody needs to look after them")


def test_what_is_new_of_a_task_is_said_by_its_master_alone(
    gate: Gate, client: Client, redis: Redis, cluster: Cluster
) -> None:
    """Who says `SUBSCRIBE`, as on one server, hears nothing."""
    task = str(uuid4())
    master = cluster.master_of(KEYS.record(task))
    gate.answer(stream(*answers.openai("a", "b")))
    with ExitStack() as stack:
        listener = stack.enter_context(Redis.from_url(master.url))
        plain, sharded = [stack.enter_context(listener.pubsub()) for _ in range(2)]
        plain.subscribe(KEYS.live(task))
        sharded.ssubscribe(KEYS.live(task))
        request = {"model": "m", "messages": QUESTION, "stream": True}
        client.enqueue({"kind": "chat", "id": task, "request": request})
        log = ended(redis, task)
        heard = [sharded.get_message(timeout=5) for _ in range(1 + len(log))]
        assert [parse_event(one["data"]) for one in heard[1:]] == log
        assert plain.get_message(timeout=5)["type"] == "subscribe"
        assert plain.get_message() is None


def test_a_dead_letter_is_listed_replayed_and_dropped(
    gate: Gate, client: Client, redis: Redis
) -> None:
    gate.answer(REFUSED, REFUSED)
    tasks = [client.chat("m", QUESTION).id for _ in range(2)]
    assert [error_of(redis, task)["code"] for task in tasks] == ["authentication"] * 2
    until(lambda: len(client.dead_letters()) == 2, "both are listed")
    gate.answer(GOOD)
    client.replay(tasks[0])
    assert [attempt.outcome for attempt in result_of(redis, tasks[0]).attempts] == [
        "authentication",
        "completed",
    ]
    client.drop(tasks[1])
    assert client.dead_letters() == []


def test_what_is_no_message_is_put_aside(gate: Gate, client: Client, redis: Redis) -> None:
    redis.lpush(foreign.QUEUE, "no message")
    (letter,) = until(client.dead_letters, "it is listed")
    assert client.dead_letter_body(letter.id) == b"no message"
    gate.answer(GOOD)
    result_of(redis, foreign.send(redis))


def test_the_fleet_s_figures_are_those_of_the_cluster(
    gate: Gate, client: Client, redis: Redis, worker: Worker
) -> None:
    def told(name: str) -> float:
        return sum(worker.samples(name).values())

    until(lambda: worker.samples("open_tasks"), "the worker tells of the fleet", within=20)
    gate.answer(GOOD, GOOD, REFUSED)
    tasks = [client.chat("m", QUESTION).id for _ in range(3)]
    assert sorted(ended(redis, task)[-1].type for task in tasks) == [
        "completed", "completed", "failed",
    ]  # fmt: skip

    def figures() -> list[float]:
        # Each master is asked by itself: the first three need not be of one moment.
        names = ("tasks_total", "dead_letters_waiting", "open_tasks", "queue_depth")
        return [told(name) for name in names]

    until(lambda: figures() == [3, 1, 0, 0], "three tasks are counted, and one is kept")


def test_the_doctor_looks_at_every_master(
    gate: Gate, client: Client, redis_url: str,
    valkey: embedded.EmbeddedServer, tmp_path: Path,
) -> None:  # fmt: skip
    both = {"REDIS_URL": redis_url, "ROUTER_WORKER_BROKER_URL": valkey.url}
    gate.answer(REFUSED)
    findings = (
        Shell(tmp_path, client, **both, ROUTER_WORKER_BASE_URL=gate.url)
        .run("doctor", "--json")
        .lines
    )
    found: dict[str, list[Any]] = {}
    for one in findings:
        found.setdefault(one["check"], []).append(one)
    assert "3 masters have 16384 of 16384 slots" in found["cluster"][0]["says"]
    for check, count in {"cluster": 1, "redis": 3, "clock": 3, "broker": 2, "rights": 1}.items():
        assert [one["ok"] for one in found[check]] == [True] * count, found[check]
    assert "this user of Redis may do all that a worker does" in found["rights"][0]["says"]
    assert found["dead letters"][0]["says"] == "none"


def test_the_doctor_says_which_cluster_is_away(client: Client, tmp_path: Path) -> None:
    port = free_port()
    away = {
        "REDIS_URL": f"redis-cluster://127.0.0.1:{port}",
        "ROUTER_WORKER_BROKER_URL": f"redis://127.0.0.1:{port}",
    }
    told = Shell(tmp_path, client, **away).run("doctor", "--json")
    assert told.status == 1
    (redis,) = [one for one in told.lines if one["check"] == "redis"]
    assert f"the cluster of 127.0.0.1:{port}: " in redis["says"]


def test_the_command_line_sees_and_mends_all_of_it(  # noqa: PLR0913, PLR0917 - two fixtures of each
    gate: Gate, client: Client, redis: Redis, redis_url: str,
    valkey: embedded.EmbeddedServer, tmp_path: Path,
) -> None:  # fmt: skip
    both = {"REDIS_URL": redis_url, "ROUTER_WORKER_BROKER_URL": valkey.url}
    shell = Shell(tmp_path, client, **both)
    gate.answer(REFUSED)
    task = client.chat("m", QUESTION).id
    error_of(redis, task)
    until(lambda: redis.zcard(KEYS.workers), "the worker has signed the roll")
    until(lambda: not redis.zcard(KEYS.due), "the task is struck off")
    (seen,) = shell.run("top", "--once", "--json").lines
    assert [len(seen["workers"]), seen["dead_letters"], seen["open_tasks"]] == [1, 1, 0]
    gate.answer(GOOD)
    assert shell.run("dead", "replay", task).status == 0
    assert shell.run("watch", task, "--json").lines[-1]["type"] == "completed"
