"""The harness itself, with a worker that loses nothing: what it counts is what was sent."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from tests.bench import scaling
from tests.bench.children import Child
from tests.bench.measure import measure
from tests.bench.peers.roster import ROSTER, Peer
from tests.bench.run import Job, Results, run
from tests.bench.session import Failed, Router, session
from tests.bench.workloads import WORKLOADS
from worker import embedded

BY_NAME = {peer.name: peer for peer in ROSTER}


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    router = Router()
    with router.child:
        yield router


@pytest.mark.parametrize("name", ["router-worker", "limit"])
def test_every_chunk_and_every_answer_is_counted_once(name: str, tmp_path: Path) -> None:
    keys = [key for key in ("b", "c", "d", "e") if key in BY_NAME[name].workloads]
    results = Results(Job([BY_NAME[name]], keys, tmp_path, scale=0.01))
    run(results.job, results)
    rows = {row["workload"]: row for row in results.runs}
    assert list(rows) == [work.key for work in WORKLOADS if work.key in keys]
    assert [row["error"] for row in results.runs if "error" in row] == []
    assert (rows["b"]["chunks"], rows["c"]["chunks"]) == (6 * 200, 50)
    for key in ("b", "c", "d"):
        faults = ("lost", "doubled", "lost_endings", "doubled_endings", "failed", "strays")
        assert [rows[key][fault] for fault in faults] == [0] * len(faults)
        assert rows[key]["calls"] == rows[key]["tasks"]
        assert rows[key]["latency_ms"]["p50"] > 0
        assert rows[key]["cpu_s"] >= 0
    assert [level["open"] for level in rows["d"]["levels"]] == [5, 10, 20]
    assert results.upstream["chunks_s"] > 0


def test_a_worker_that_ends_is_a_row_that_says_so(tmp_path: Path) -> None:
    broken = replace(BY_NAME["limit"], command=("-c", "raise SystemExit('no licence')"))
    results = Results(Job([broken], ["b", "c"], tmp_path, scale=0.01))
    run(results.job, results)
    assert [row["workload"] for row in results.runs] == ["b", "c"]
    assert all("no licence" in row["error"] for row in results.runs)


def test_a_peer_that_is_not_installed_is_a_row_that_says_so(tmp_path: Path) -> None:
    absent = replace(BY_NAME["arq"], needs=("no_such_package",))
    results = Results(Job([absent], ["b"], tmp_path))
    run(results.job, results)
    assert [row["error"] for row in results.runs] == ["not installed: no_such_package"]


def test_a_worker_that_makes_no_call_is_given_up(
    router: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.bench.session.START_S", 1.0)
    idle = Peer("idle", "", ("-c", "import time; time.sleep(60)"), BY_NAME["limit"].queue)
    with pytest.raises(Failed, match="no call within 1 s"), session(idle, 1, router, tmp_path):
        pass


def test_two_processes_share_their_slots(router: Router, tmp_path: Path) -> None:
    work = replace(next(work for work in WORKLOADS if work.key == "c"), tasks=50, slots=4)
    with session(scaling.TWO, work.slots, router, tmp_path) as one:
        figures = measure(one, work, 1)
    assert (figures["lost"], figures["doubled"], figures["failed"]) == (0, 0, 0)
    assert figures["end_threads"] > 4


def test_one_redis_takes_what_it_is_loaded_with(tmp_path: Path) -> None:
    with (
        embedded.start(tmp_path / "valkey", persistence=False) as server,
        Child("tests.bench.redis_ceiling", str(server.port)) as load,
        redis.Redis.from_url(server.url) as client,
    ):
        load.wait_ready()
        chunks = load.ask("0.2 10")
        keys = client.scan_iter("rw:*:events", count=1000)
        assert sum(client.xlen(key) - 1 for key in keys) == chunks > 0
