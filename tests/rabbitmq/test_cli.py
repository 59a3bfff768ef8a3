"""What an operator is told of queues on RabbitMQ."""

import json
from pathlib import Path
from typing import Any

from api_contracts.client import Client
from tests.cli.shell import Ran, Shell
from tests.parts.gate import Gate
from tests.parts.rabbitmq import PASSWORD, Host, Rabbitmq
from tests.parts.scripts import a_task
from tests.parts.web import free_port
from tests.parts.worker import API_KEY

BROKER = "ROUTER_WORKER_BROKER_URL"


def found(ran: Ran) -> dict[str, Any]:
    assert PASSWORD not in ran.out + ran.err
    return {line["check"]: line for line in ran.lines}


def test_doctor_and_top_tell_what_waits_or_that_rabbitmq_is_away(
    tmp_path: Path, redis_url: str, queue: Host, rabbitmq: Rabbitmq, gate: Gate
) -> None:
    settings = {"REDIS_URL": redis_url, BROKER: queue.url}
    router = {"ROUTER_WORKER_BASE_URL": gate.url, "YOUROUTER_API_KEY": API_KEY}
    with Client(redis_url) as client:
        shell = Shell(tmp_path, client, **settings, **router)
        client.enqueue_all([a_task() for _ in range(3)])
    told = found(shell.run_here("doctor", "--json"))
    assert told["broker"]["says"] == f"answers at 127.0.0.1:{rabbitmq.port}"
    assert told["queues"]["says"] == "waiting: 3 in router.interactive, 0 in router.batch"
    seen = json.loads(shell.run_here("top", "--once", "--json").out)
    assert [(one["name"], one["waiting"], one["oldest_s"]) for one in seen["queues"]] == [
        ("router.interactive", 3, None),
        ("router.batch", 0, None),
    ]
    away = {BROKER: f"amqp://u:{PASSWORD}@127.0.0.1:{free_port()}/v"}
    told = found(shell.run_here("doctor", "--json", **away))
    assert told["broker"]["ok"] is False
    assert "Connection refused" in told["broker"]["says"]
    assert "look at ROUTER_WORKER_BROKER_URL" in told["broker"]["do"]
    ran = shell.run_here("top", "--once", **away)
    assert ran.status == 4
    assert "RabbitMQ cannot be used" in ran.err
    assert PASSWORD not in ran.out + ran.err
