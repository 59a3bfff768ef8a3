"""`router-worker doctor --prometheus` beside a real Prometheus that scrapes a real worker."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_library

from api_contracts.client import Client
from tests.cli.shell import Shell
from tests.conftest import StartWorker
from tests.deploy.conftest import Watch
from tests.parts.gate import Gate, whole
from tests.parts.prometheus import rules
from tests.parts.scripts import KEYS
from tests.parts.wait import until
from tests.parts.web import free_port
from tests.parts.worker import API_KEY
from worker.cli.doctor.watching import ALERTS

QUESTION = [{"role": "user", "content": "hello"}]
#: Longest time until an alert fires, in seconds: what it looks at changes within 10.
FIRES_S = 40.0


def test_the_doctor_knows_every_alert_that_is_shipped() -> None:
    assert tuple(rule["alert"] for rule in rules()) == ALERTS


@pytest.fixture
def shell(tmp_path: Path, redis_url: str, gate: Gate) -> Iterator[Shell]:
    with Client(redis_url) as client:
        yield Shell(
            tmp_path,
            client,
            REDIS_URL=redis_url,
            YOUROUTER_API_KEY=API_KEY,
            ROUTER_WORKER_BASE_URL=gate.url,
            PORT=str(free_port()),
        )


def told(shell: Shell, url: str) -> dict[str, Any]:
    """What is said of Prometheus, by check: whether it is well, and the words."""
    ran = shell.run_here("doctor", "--json", "--prometheus", url)
    assert "hunter2" not in ran.out + ran.err
    checks = ("prometheus", "alert rules", "alerts", "versions")
    return {
        line["check"]: (line["ok"], line["says"]) for line in ran.lines if line["check"] in checks
    }


def test_a_prometheus_that_watches_is_well_until_an_alert_fires_or_a_worker_is_not_scraped(
    shell: Shell,
    gate: Gate,
    redis: redis_library.Redis,
    worker_process: StartWorker,
    watch: Watch,
) -> None:
    worker = worker_process(gate.url)
    prometheus = watch(worker)
    until(lambda: redis.zcard(KEYS.workers), "the worker signs the roll")
    url = prometheus.url.replace("http://", "http://me:hunter2@")
    place = url.partition("@")[2]
    well = {
        "prometheus": (True, f"{place} scrapes 1 worker: 127.0.0.1:{worker.port}"),
        "alert rules": (True, f"all {len(ALERTS)} are loaded"),
        "alerts": (True, "none of ours fires"),
    }
    # A scrape that comes too late is an alert in this hurry, until the next.
    until(lambda: told(shell, url) == well, "all is well", within=FIRES_S)
    gate.answer(whole({"error": {"message": "no such key"}}, status=401))
    shell.client.chat("m", QUESTION)
    prometheus.wait_firing({"RouterWorkerKeyRefused"}, within=FIRES_S)
    ran = shell.run_here("doctor", "--json", "--prometheus", url)
    (fires,) = (line for line in ran.lines if "RouterWorkerKeyRefused" in line["says"])
    assert (fires["ok"], fires["do"]) == (False, "deploy/README.md#routerworkerkeyrefused")
    assert ran.status == 1
    other = worker_process(gate.url)
    until(lambda: redis.zcard(KEYS.workers) == 2, "the other signs the roll, too")

    def advice() -> list[str]:
        ran = shell.run_here("doctor", "--json", "--prometheus", url)
        return [line["says"] for line in ran.lines if line["check"] == "prometheus"][1:]

    until(lambda: advice() == ["it reaches 1 of 2 workers that live"], "it misses the other")
    assert other.stop() == 0


def test_a_prometheus_that_is_away_or_is_none_is_wrong(shell: Shell, gate: Gate) -> None:
    nobody = free_port()
    ok, says = told(shell, f"http://me:hunter2@127.0.0.1:{nobody}")["prometheus"]
    assert (ok, says.startswith(f"127.0.0.1:{nobody}: ")) == (False, True)
    place = gate.url.removeprefix("http://")
    assert told(shell, gate.url) == {"prometheus": (False, f"{place}: it answers HTTP 404")}
