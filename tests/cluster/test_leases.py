"""Workers that die, and masters that are away for longer than a lease: in the middle of streams."""

import time
from typing import Any, Final

from tests.conftest import StartWorker
from tests.parts.cluster import Cluster
from tests.parts.following import KEYS
from tests.parts.gate import Gate
from tests.parts.streams import ENDLESS, Streams
from tests.parts.wait import until

LEASE_S: Final = 3
#: Leases that are soon over, and yet outlast a worker's standing still for two seconds.
QUICK: Final[dict[str, Any]] = {
    "ROUTER_WORKER_LEASE_S": str(LEASE_S),
    "ROUTER_WORKER_HEARTBEAT_S": "0.5",
}


def test_a_worker_that_dies_leaves_its_streams_to_another(
    gate: Gate, streams: Streams, worker_process: StartWorker
) -> None:
    worker = worker_process(gate.url, **QUICK)
    streams.begin(ENDLESS)
    worker.kill()
    worker_process(gate.url)
    assert set(streams.whole().values()) == {2}
    assert len(gate.requests) == 2 * len(streams.ids)


def test_a_master_that_is_away_for_longer_than_a_lease_costs_those_of_others_none(
    gate: Gate, cluster: Cluster, streams: Streams, worker_process: StartWorker
) -> None:
    """Its own attempts are stopped, and made again when it is back."""
    worker_process(gate.url, **QUICK)
    streams.begin(ENDLESS)
    due = cluster.master_of(KEYS.due).port
    theirs = {one: cluster.master_of(KEYS.record(one)).port for one in streams.ids}
    away = next(port for port in theirs.values() if port != due)
    cluster.everywhere("CONFIG", "SET", "cluster-replica-no-failover", "yes")
    old = cluster.hang_master_of(KEYS.record(next(one for one in theirs if theirs[one] == away)))
    began = time.monotonic()
    until(lambda: time.monotonic() > began + LEASE_S + 1, "a lease is over")
    cluster.bring_back(old)
    cluster.everywhere("CONFIG", "SET", "cluster-replica-no-failover", "no")
    attempts = streams.whole()
    assert {attempts[one] for one in theirs if theirs[one] != away} == {1}
    assert sum(attempts.values()) == len(gate.requests)
