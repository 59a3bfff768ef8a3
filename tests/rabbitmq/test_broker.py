"""What is RabbitMQ's own: what is on its queues, who takes it, and what a restart of it does."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis as redis_library
from celery import Celery

from api_contracts.client import Client, connection
from tests.conftest import StartWorker
from tests.e2e.conftest import RETRIES
from tests.parts import answers, foreign
from tests.parts.cable import Cable
from tests.parts.following import KEYS, error_of, log_of, result_of
from tests.parts.foreign import letters_of
from tests.parts.gate import Do, Gate, Pause, stream, whole
from tests.parts.rabbitmq import PASSWORD, Host, Rabbitmq
from tests.parts.tasks import chat
from tests.parts.wait import until
from tests.parts.web import free_port
from tests.parts.worker import Worker
from worker import embedded
from worker.admission import MESSAGE_LIMIT
from worker.consumer import SILENT_S

QUESTION = [{"role": "user", "content": "hello"}]
GOOD = whole({"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]})
#: Comes back when RabbitMQ is away: before that is noticed, after :data:`SILENT_S`.
LIMITED = whole({"error": {"message": "slow down"}}, 429, retry_after="12")
HEAD, *REST = answers.openai("a", "b", "c")
JSON = {"content_type": "application/json", "content_encoding": "utf-8"}
BROKER = "ROUTER_WORKER_BROKER_URL"


def headers(task: str = "router.chat", **more: Any) -> dict[str, Any]:
    """Headers whose message's producer can be told nothing: its id is no task's."""
    return {"task": task, "id": "order-17", **more}


def nested(depth: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for _ in range(depth):
        table = {"a": table}
    return table


#: What is published, and why it is parked.
RUBBISH: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "nothing": (b"", {}, "its content-type is not application/json"),
    "no JSON": (b"{oops", JSON, "its header task is none of"),
    "a pickle": (
        b"\x80\x04N.",
        {"content_type": "application/x-python-serialize", "application_headers": headers()},
        "its content-type is not application/json",
    ),
    "another encoding": (
        b"[]",
        JSON | {"content_encoding": "idna", "application_headers": headers()},
        "its content-encoding is not utf-8",
    ),
    "no JSON in the body": (
        b"{",
        JSON | {"application_headers": headers()},
        "its body is not JSON",
    ),
    "a task's name that is none": (
        b"[]",
        JSON | {"application_headers": headers("evil.task")},
        "its header task is none of",
    ),
    "an id that is no text": (
        b"[]",
        JSON | {"application_headers": headers() | {"id": [1]}},
        "its header id is no text",
    ),
    "headers that JSON has not": (
        b"[]",
        JSON | {"application_headers": {"a": b"\xff", "b": datetime.now(UTC)}},
        "its header task is none of",
    ),
    "compression": (
        b"\x1f\x8b",
        JSON | {"application_headers": headers(compression="application/x-gzip")},
        "it has the header compression",
    ),
    "properties that are no text": (
        b"[]",
        {"content_type": b"\xff\xfe"},
        "its content-type is not application/json",
    ),
    "headers that are too deep": (
        b"[]",
        JSON | {"application_headers": nested(300)},
        "its message is nested more than 100 levels deep",
    ),
    "too large": (
        b"x" * (MESSAGE_LIMIT + 1),
        JSON | {"application_headers": headers()},
        f"has {MESSAGE_LIMIT + 1} bytes; at most {MESSAGE_LIMIT} are taken",
    ),
}


@pytest.fixture
def cable(valkey: embedded.EmbeddedServer) -> Iterator[Cable]:
    """The way to the Redis of records, which the test may cut."""
    cable = Cable(urlsplit(valkey.url).port or 0)
    yield cable
    cable.close()


def celery_says(worker: Worker) -> str:
    """Return what /readyz says of Celery; nothing where all is well."""
    return str(json.loads(worker.get("/readyz")[1])["failed"].get("celery", ""))


def chunked(redis: redis_library.Redis, task: str) -> Callable[[], bool]:
    return lambda: any(event.type == "chunk" for event in log_of(redis, task))


def test_a_task_of_plain_celery_runs_once_and_leaves_the_queue(
    gate: Gate, redis: redis_library.Redis, queue: Host, worker_process: StartWorker
) -> None:
    """Celery declares the queue in its own way, and publishes to an exchange of its name."""
    gate.answer(GOOD, GOOD)
    task = chat() | {"id": str(uuid.uuid4())}
    with closing(Celery(broker=queue.url, set_as_current=False)) as celery:
        for _ in range(2):
            celery.send_task(
                "router.chat", [task], task_id=task["id"], queue=foreign.QUEUE, ignore_result=True
            )
    worker = worker_process(gate.url)
    assert len(result_of(redis, task["id"]).attempts) == 1
    until(lambda: sum(worker.samples("doorbells_dropped_total").values()) == 1, "both are heard")
    worker.stop()
    assert queue.waiting() == 0, "something was not acknowledged, and has gone back"
    assert len(gate.requests) == 1


def test_a_worker_that_is_killed_before_a_record_is_written_loses_no_message(
    gate: Gate, redis: redis_library.Redis, queue: Host, cable: Cable, worker_process: StartWorker
) -> None:
    gate.answer(GOOD, GOOD)
    first = worker_process(gate.url, REDIS_URL=cable.url)
    # What it says before it is killed is not to be heard later.
    with cable.silent():
        task = queue.send()
        until(lambda: queue.waiting() == 0, "the message is taken")
        first.kill()
    until(lambda: queue.waiting() == 1, "it has gone back")
    assert not redis.exists(KEYS.record(task))
    second = worker_process(gate.url)
    assert len(result_of(redis, task).attempts) == 1
    second.stop()
    assert (queue.waiting(), len(gate.requests)) == (0, 1)


def test_a_doorbell_whose_worker_is_killed_before_it_claims_is_heard_by_another_at_once(  # noqa: PLR0913, PLR0917
    gate: Gate, redis: redis_library.Redis, queue: Host, cable: Cable, worker_process: StartWorker,
    redis_url: str,
) -> None:  # fmt: skip
    """Without waiting for the reaper, which comes after 20 s."""
    gate.answer(GOOD)
    first = worker_process(gate.url, REDIS_URL=cable.url)
    with cable.silent(), Client(redis_url) as client:
        task = client.chat("m", QUESTION).id
        until(lambda: queue.waiting() == 0, "the doorbell is taken")
        first.kill()
    worker_process(gate.url)
    assert len(result_of(redis, task, within=10).attempts) == 1


def test_rubbish_is_parked_with_its_reason_and_the_worker_goes_on(
    gate: Gate, redis: redis_library.Redis, queue: Host, worker_process: StartWorker
) -> None:
    gate.answer(GOOD, GOOD)
    worker = worker_process(gate.url)
    for body, properties, _ in RUBBISH.values():
        queue.publish(body, **properties)
    queue.bind("amq.fanout")
    queue.publish(b"{oops", exchange="amq.fanout", routing_key=b"\xff\xfe")
    task = queue.send()
    assert len(result_of(redis, task, within=20).attempts) == 1
    letters = until(lambda: letters_of(redis, len(RUBBISH) + 1), "all are parked", within=20)
    told = sorted(json.loads(letter[b"error"])["message"] for letter in letters)
    reasons = sorted([*(reason for _, _, reason in RUBBISH.values()), "its content-type is not"])
    assert all(one.startswith(reason) for one, reason in zip(told, reasons, strict=True)), told
    kept = [json.loads(letter[b"message"]) for letter in letters]
    assert all(one.keys() >= {"body", "headers", "content-type"} for one in kept)
    worker.stop()
    assert queue.waiting() == 0, "something was not acknowledged, and has gone back"


def test_a_bad_message_that_tells_its_producers_place_is_answered_there(
    gate: Gate, redis: redis_library.Redis, queue: Host, worker_process: StartWorker
) -> None:
    worker_process(gate.url)
    message_id = str(uuid.uuid4())
    told = {"task": "router.chat", "id": message_id, "eta": "soon"}
    queue.publish(b"[[], {}, {}]", **JSON, application_headers=told)
    error = error_of(redis, message_id)
    assert error["message"] == "message: it has the header eta; let the producer wait"
    assert redis.zcard(KEYS.dead) == 0


def test_a_worker_that_is_full_holds_nothing_that_another_could_take(
    gate: Gate, redis: redis_library.Redis, redis_url: str, queue: Host,
    worker_process: StartWorker,
) -> None:  # fmt: skip
    gate.answer(*[(Do.HANG,)] * 3, to="first")
    full = worker_process(gate.url, ROUTER_WORKER_CONCURRENCY="3", ROUTER_WORKER_DRAIN_S="0.1")
    with Client(redis_url) as client:
        for _ in range(3):
            client.chat("m", [{"role": "user", "content": "first"}])
        until(lambda: len(gate.requests) == 3, "its slots are taken")
        gate.answer(*[GOOD] * 20)
        tasks = [client.chat("m", QUESTION).id for _ in range(20)]
        until(lambda: queue.waiting() == 20, "all wait in the queue")
        depth = {"queue=router.interactive": 20, "queue=router.batch": 0}
        until(lambda: full.samples("queue_depth") == depth, "it tells of them")
        assert full.samples("oldest_waiting_seconds") == {}
        worker_process(gate.url)
        for task in tasks:
            assert len(result_of(redis, task).attempts) == 1
    assert len(gate.requests) == 23


def test_what_comes_while_rabbitmq_is_away_runs_when_it_is_back_and_streams_go_on_meanwhile(  # noqa: PLR0913, PLR0917
    gate: Gate, redis: redis_library.Redis, redis_url: str, queue: Host, rabbitmq: Rabbitmq,
    worker_process: StartWorker,
) -> None:  # fmt: skip
    """Killed, and started again from its disk."""
    goes_on = Pause(60)
    gate.answer(stream(HEAD, goes_on, *REST), to="steady")
    gate.answer(LIMITED, GOOD, to="limited")
    gate.answer(*[(Do.HANG,)] * 3, to="hang")
    worker = worker_process(gate.url, ROUTER_WORKER_CONCURRENCY="4", ROUTER_WORKER_DRAIN_S="0.1")
    with Client(redis_url) as client:

        def ask(word: str, **more: Any) -> str:
            return client.chat("m", [{"role": "user", "content": word}], **more).id

        steady_task, limited = ask("steady", stream=True), ask("limited")
        until(chunked(redis, steady_task), "the stream runs")
        until(lambda: client.status(limited).state == "retrying", "the first call has failed")
        hanging = [ask("hang") for _ in range(3)]
        until(lambda: len(gate.requests) == 5, "all slots are taken")
        gate.answer(*[GOOD] * 4, to="waits")
        waits = [ask("waits")]
        until(lambda: queue.waiting() == 1, "it is rung")
        # RabbitMQ says that it has this one on its disk, and so the one before.
        waits.append(queue.send(chat(user="waits")))
        rabbitmq.kill()
        began = time.monotonic()
        waits.append(ask("waits"))
        assert time.monotonic() - began < connection.TIMEOUT_S, "an enqueue waited for RabbitMQ"
        goes_on.over.set()
        assert [one.outcome for one in result_of(redis, steady_task).attempts] == ["completed"]
        until(lambda: "heard nothing" in celery_says(worker), "it says so", within=SILENT_S + 10)
        rabbitmq.start()
        for task in hanging:
            assert client.cancel(task)
        for task in (*waits, limited):
            result_of(redis, task, within=60)
        assert len(client.result(limited).attempts) == 2
    until(lambda: worker.get("/readyz")[0] == 200, "it is ready again")
    assert worker.program.running
    assert len(gate.requests) == 5 + 1 + len(waits)


def test_what_could_not_be_rung_is_rung_behind_what_waits_for_longer(  # noqa: PLR0913, PLR0917
    gate: Gate, redis: redis_library.Redis, redis_url: str, queue: Host,
    worker_process: StartWorker, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """By its date alone it would be taken for a doorbell that waits there, and looked at later."""
    gate.answer((Do.HANG,), to="hang")
    gate.answer(GOOD, GOOD, to="hello")
    worker = worker_process(gate.url, ROUTER_WORKER_CONCURRENCY="1")
    with Client(redis_url) as client:
        hanging = client.chat("m", [{"role": "user", "content": "hang"}])
        until(lambda: gate.requests, "the slot is taken")
        tasks = [client.chat("m", QUESTION).id]
        until(lambda: queue.waiting() == 1, "the first waits")
        nowhere = f"amqp://u:{PASSWORD}@127.0.0.1:{free_port()}/v"
        with Client(redis_url, broker_url=nowhere) as lonely:
            tasks.append(lonely.chat("m", QUESTION).id)
        assert "doorbells not rung, a worker will ring them: 1 (Connection" in caplog.text
        redis.zadd(KEYS.due, dict.fromkeys(tasks, 0))
        until(lambda: queue.waiting() == 2, "the second waits, too")
        assert f"task {tasks[0]} is rung for" not in worker.output
        assert hanging.cancel()
        for task in tasks:
            assert len(result_of(redis, task).attempts) == 1


def test_a_refused_password_is_told_in_words_tried_again_with_pauses_and_costs_no_task(  # noqa: PLR0913, PLR0917
    gate: Gate, redis: redis_library.Redis, redis_url: str, queue: Host,
    worker_process: StartWorker, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    gate.answer(GOOD)
    wrong = queue.url.replace(PASSWORD, "hush-4712")
    refused = worker_process(gate.url, ready=False, ROUTER_WORKER_BROKER_URL=wrong)
    with Client(redis_url, broker_url=wrong) as client:
        task = client.chat("m", QUESTION).id
    assert "ACCESS_REFUSED" in caplog.text
    tries = "it is tried again, and again"
    until(lambda: refused.output.count("ACCESS_REFUSED") > 2, tries, within=30)
    where = queue.url.partition("@")[2]
    assert f"Cannot connect to amqp://anybody:**@{where}: " in refused.output
    assert "critical" not in refused.output
    assert celery_says(refused) == "Celery does not consume yet"
    assert "hush" not in refused.output + caplog.text
    worker_process(gate.url)
    redis.zadd(KEYS.due, {task: 0})
    assert len(result_of(redis, task).attempts) == 1


def test_quorum_queues_that_are_there_are_used_as_they_are(
    gate: Gate, redis: redis_library.Redis, redis_url: str, queue: Host, worker_process: StartWorker
) -> None:
    queue.make_quorum_queues()
    gate.answer(GOOD, GOOD)
    with Client(redis_url) as client:
        tasks = [client.chat("m", QUESTION).id, queue.send()]
        worker = worker_process(gate.url)
        for task in tasks:
            assert len(result_of(redis, task).attempts) == 1
    worker.stop()
    assert queue.waiting() == 0, "something was not acknowledged, and has gone back"


def test_a_queue_that_somebody_deletes_is_made_anew(
    gate: Gate, redis: redis_library.Redis, queue: Host, worker_process: StartWorker
) -> None:
    gate.answer(GOOD)
    worker = worker_process(gate.url)
    queue.clear()
    # Once for each queue, where it is back before the second is deleted.
    until(lambda: worker.output.count("Connected to") > 1, "it has connected anew")
    assert len(result_of(redis, queue.send()).attempts) == 1


def test_over_tls_the_certificate_is_checked(  # noqa: PLR0913, PLR0917
    gate: Gate, redis: redis_library.Redis, redis_url: str, queue: Host, rabbitmq: Rabbitmq,
    worker_process: StartWorker, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    gate.answer(GOOD)
    with Client(redis_url, broker_url=rabbitmq.over_tls(queue, trusted=False)) as stranger:
        lost = stranger.chat("m", QUESTION)
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
    assert lost.cancel()
    worker_process(gate.url, ROUTER_WORKER_BROKER_URL=rabbitmq.over_tls(queue))
    with Client(redis_url, broker_url=rabbitmq.over_tls(queue)) as client:
        assert len(result_of(redis, client.chat("m", QUESTION).id).attempts) == 1


def test_a_producer_and_a_worker_need_no_more_rights_than_the_readme_says(  # noqa: PLR0913, PLR0917
    gate: Gate, redis: redis_library.Redis, redis_url: str, queue: Host, rabbitmq: Rabbitmq,
    worker_process: StartWorker, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    gate.answer(whole({"error": {"message": "busy"}}, 503), GOOD)
    as_worker: Any = {**RETRIES, BROKER: rabbitmq.as_role(queue, "worker")}
    worker_process(gate.url, **as_worker)
    with Client(redis_url, broker_url=rabbitmq.as_role(queue, "producer")) as client:
        task = client.chat("m", QUESTION).id
        assert len(result_of(redis, task).attempts) == 2
    assert caplog.text == ""
