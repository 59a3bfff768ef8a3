"""What one worker tells for all is one series, whichever worker tells it."""

import pytest

from api_contracts.client import Client
from api_contracts.errors import TaskFailed
from tests.conftest import StartValkey, StartWorker
from tests.deploy.conftest import Watch
from tests.parts.gate import Gate, whole
from tests.parts.wait import until
from tests.parts.worker import Worker

QUESTION = [{"role": "user", "content": "hello"}]
NO_SUCH_KEY = whole({"error": {"message": "no such key"}}, status=401)
#: What is counted in Redis.
COUNTED = ("tasks_total", "dead_letters_total")
#: How far it has risen since Prometheus has seen it first.
RISES = [
    f"sum(max_over_time(router_worker_{one}[5m]) - min_over_time(router_worker_{one}[5m]))"
    for one in COUNTED
]
#: Longest until the next worker is elected, in seconds: a term of 12, and 5 between two elections.
ELECTED_S = 40.0


def fail(client: Client, number: int) -> None:
    """Let tasks fail for good."""
    for handle in [client.chat("m", QUESTION) for _ in range(number)]:
        with pytest.raises(TaskFailed):
            handle.result(30)


def test_an_increase_is_seen_that_came_while_no_worker_told(
    gate: Gate, start_valkey: StartValkey, worker_process: StartWorker, watch: Watch
) -> None:
    server = start_valkey()
    gate.answer(*[NO_SUCH_KEY] * 4)
    workers = [worker_process(gate.url, REDIS_URL=server.url) for _ in range(2)]
    prometheus = watch(*workers)

    def telling() -> list[Worker]:
        running = [worker for worker in workers if worker.program.running]
        return [worker for worker in running if worker.samples("open_tasks")]

    with Client(server.url) as client:
        (first,) = until(telling, "one tells")
        prometheus.wait_scraped([first], "dead_letters_total")
        fail(client, 1)
        for metric in COUNTED:
            prometheus.wait_scraped([first], metric)
        first.kill()
        fail(client, 3)
        (second,) = until(telling, "the other tells", within=ELECTED_S)
    assert second is not first
    # Dead letters are told from 0 on, tasks from the first that ended so.
    until(
        lambda: [prometheus.numbers(one) for one in RISES] == [[3], [4]],
        "they have risen",
        within=30,
    )
