"""Every query that is shipped, asked of a real Prometheus that scrapes real workers under load."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
import redis as redis_library
import yaml

from api_contracts.client import Client
from api_contracts.client.submission import ring
from deploy.grafana import dashboard
from tests.parts.following import ended
from tests.parts.need import installed
from tests.parts.program import ROOT
from tests.parts.prometheus import Prometheus, rules
from tests.parts.simulator import Simulator
from tests.parts.wait import until
from tests.parts.worker import Worker
from worker import embedded
from worker.demo.guide import GUIDE

QUESTION = [{"role": "user", "content": "Write a short poem about the ocean."}]
QUEUE = "router.interactive"
#: What Grafana puts in these places.
VARIABLES = {"$__rate_interval": "1m", "$__range": "15m"}
SETTINGS = {
    "ROUTER_WORKER_MODELS": "gpt-4o",
    "ROUTER_WORKER_RETRY_BASE_S": "0.05",
    "ROUTER_WORKER_RETRY_MAX_ATTEMPTS": "2",
}
PRICES = {"gpt-4o": {"input": 2.5, "cached": 1.25, "output": 10}}


def panels() -> dict[str, str]:
    """The dashboard's queries, by panel and legend, as Grafana would ask them."""
    queries = {}
    for panel in json.loads(dashboard.FILE.read_text())["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            queries[f"{panel['title']}: {target['legendFormat']}"] = expression
    return queries


def triggers() -> dict[str, str]:
    """The queries by which KEDA makes more workers."""
    scaled = yaml.safe_load((ROOT / "deploy/kubernetes/autoscaling.yaml").read_text())
    queries = [trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]]
    return {f"trigger {number}": query for number, query in enumerate(queries)}


def selectors() -> list[str]:
    """What all of them, and the alerts, look at: every metric with the labels that it must have.

    A label's value that nothing has would make a query that is always well.
    """
    selector = re.compile(r"\b(?:router_worker_\w+|process_\w+|up|ALERTS)\b(?:\{[^}]*\})?")
    alerts = [rule["expr"] for rule in rules()]
    asked = " ; ".join([*panels().values(), *triggers().values(), *alerts])
    return sorted(set(selector.findall(asked)))


def faults() -> list[dict[str, Any]]:
    """What goes wrong, as arguments of a chat: once and then no more, or for good."""
    specs = ["cut=3; times=1", "status=429; times=1"]
    specs += [f"status={status}" for status in (400, 401, 402, 429, 503)]
    headers = [{"x-simulate": spec, "x-simulate-key": str(uuid4())} for spec in specs]
    return [
        {"options": {"expires_at": int(time.time() * 1000) - 1}},
        *({"headers": one} for one in headers),
    ]


def load(client: Client, redis: redis_library.Redis) -> None:
    """Let everything happen once that a task can come to, and some of it go wrong on its way."""
    handles = [client.enqueue(example.task) for example in GUIDE]
    handles += [client.chat("gpt-4o", QUESTION, stream=True, **fault) for fault in faults()]
    slow = client.chat("gpt-4o", QUESTION, headers={"x-simulate": "first-chunk=20"}, stream=True)
    until(lambda: slow.status().state == "running", "the call runs")
    assert slow.cancel()
    redis.lpush(QUEUE, "no message")
    for handle in handles:
        ended(redis, handle.id, within=30)
    # A doorbell that comes twice.
    redis.execute_command(*ring(handles[0].id, "chat", QUEUE, int(time.time() * 1000)))  # type: ignore[no-untyped-call]
    until(lambda: not redis.llen(QUEUE), "the queue is empty")


@dataclass(frozen=True)
class System:
    """Two workers, and where their Redis is."""

    redis_url: str
    workers: list[Worker]


def load_once(system: System) -> None:
    """Load them, by a client of this moment's."""
    with (
        Client(system.redis_url) as client,
        redis_library.Redis.from_url(system.redis_url) as redis,
    ):
        load(client, redis)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two workers on a Redis of their own, at a router that breaks when it is told to."""
    folder = tmp_path_factory.mktemp("queries")
    prices = folder / "prices.json"
    prices.write_text(json.dumps(PRICES))
    simulator = Simulator(folder, gap_ms=10)
    with embedded.start(folder / "valkey", persistence=False) as server:
        workers = [
            Worker(
                folder / f"worker-{number}.log",
                redis_url=server.url,
                base_url=simulator.url,
                ROUTER_WORKER_PRICES=str(prices),
                **SETTINGS,
            )
            for number in range(2)
        ]
        for worker in workers:
            worker.wait_ready()
        yield System(server.url, workers)
        for worker in workers:
            worker.stop()
    simulator.program.stop()


@pytest.fixture(scope="module")
def prometheus(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has seen each thing happen again: what is a series by then has risen."""
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus") / "it", system.workers)
    for _ in range(10):
        load_once(system)
        prometheus.wait_scraped(system.workers, "tasks_total")
        if all(worker.samples("retries_total") for worker in system.workers):
            break
    load_once(system)
    yield prometheus
    prometheus.program.stop()


def assert_a_number(prometheus: Prometheus, system: System, query: str) -> None:
    """It becomes one while everything happens.

    Most look at the last minute, and the tests before this one may have taken longer.
    """

    def look() -> list[float]:
        numbers = prometheus.numbers(query)
        if not numbers:
            load_once(system)
        return numbers

    until(look, f"{query} is a number", within=60)


@pytest.mark.parametrize("name", panels())
def test_a_panel_shows_something(prometheus: Prometheus, system: System, name: str) -> None:
    assert_a_number(prometheus, system, panels()[name])


@pytest.mark.parametrize("name", triggers())
def test_a_trigger_has_something_to_go_by(
    prometheus: Prometheus, system: System, name: str
) -> None:
    assert_a_number(prometheus, system, triggers()[name])


@pytest.mark.parametrize("selector", selectors())
def test_what_is_looked_at_is_there(prometheus: Prometheus, system: System, selector: str) -> None:
    assert_a_number(prometheus, system, selector)


@pytest.mark.parametrize("alert", [rule["alert"] for rule in rules()])
def test_prometheus_can_evaluate_an_alert(prometheus: Prometheus, alert: str) -> None:
    (expression,) = (rule["expr"] for rule in rules() if rule["alert"] == alert)
    prometheus.query(expression)


def test_what_was_refused_for_its_key_calls_somebody_at_once(
    prometheus: Prometheus, system: System
) -> None:
    # Again: the tests before this one may have taken longer than the five minutes it looks at.
    load_once(system)
    prometheus.wait_firing(
        {"RouterWorkerKeyRefused", "RouterWorkerDeadLetters", "RouterWorkerHostileMessages"},
        within=60,
    )
    # In this hurry it fires for two scrapes that came too late, until the next.
    until(lambda: "RouterWorkerGone" not in prometheus.firing(), "the workers are there", within=30)


def test_promtool_finds_nothing_to_complain_of_in_a_live_scrape(
    prometheus: Prometheus, system: System
) -> None:
    for worker in system.workers:
        checked = subprocess.run(
            [installed("promtool", "prometheus"), "check", "metrics"],
            input=worker.get("/metrics")[1],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert (checked.returncode, checked.stderr) == (0, "")


def test_prometheus_has_the_sum_that_the_workers_have(
    prometheus: Prometheus, system: System
) -> None:
    """Of all that is counted for each worker; what is told for all, one of them tells."""
    for metric in (
        "calls_total",
        "chunks_total",
        "tokens_total",
        "retries_total",
        "cost_usd_total",
    ):
        prometheus.wait_scraped(system.workers, metric)
    # None where a busy worker could not tell within a scrape's time.
    told = until(lambda: prometheus.query("router_worker_open_tasks"), "one tells for all")
    assert len(told) == 1
