"""What a chunk costs where a cluster has the events: ``python -m tests.bench.cluster``.

One process appends the events of 400 streams of 25 chunks a second as a worker does, to one server
and then to three masters without replicas, all on this machine: a table of the CPU time that it
takes, and of what the servers take. Subscribers are left out.
"""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from api_contracts.names import Keys
from tests.bench import proc
from tests.parts.cluster import Cluster
from tests.parts.scripts import a_task
from worker import embedded, wire
from worker.claim import Claim
from worker.store import Store
from worker.writer import Writer

#: Streams at once, chunks of each, and of all in a millisecond.
STREAMS: Final = 400
CHUNKS: Final = 200
A_MS: Final = 10
#: Rounds; the middle one counts.
ROUNDS: Final = 3
#: A chunk as OpenAI sends it.
_DATA: Final = (
    b'{"id":"chatcmpl-8f14e45fceea167a5a36dedd4bea2543","object":"chat.completion.chunk",'
    b'"created":1750000000,"model":"gpt-4o","system_fingerprint":"fp_8f14e45f","choices":'
    b'[{"index":0,"delta":{"content":" ocean"},"logprobs":null,"finish_reason":null}]}'
)


async def measure(url: str, broker_url: str, pids: Sequence[int]) -> dict[str, float]:
    """Append; return what a chunk costs: CPU in µs, here and of the servers, and round trips."""
    store = Store(url, broker_url, Keys(), "bench", 600_000)
    pump = asyncio.create_task(store.pump.run())
    writers = [await _begun(store) for _ in range(STREAMS)]
    trips, here, there = store.pump.round_trips, time.process_time(), _cpu_s(pids)
    await _append(writers)
    await store.link.ping()
    chunks = STREAMS * CHUNKS
    found = {
        "here": (time.process_time() - here) / chunks * 1e6,
        "there": (_cpu_s(pids) - there) / chunks * 1e6,
        "trips": (store.pump.round_trips - trips) / chunks,
    }
    assert all(writer.seq == CHUNKS and not writer.stopped.done() for writer in writers)
    store.pump.close()
    await pump
    await store.link.close()
    return found


async def _begun(store: Store) -> Writer:
    task = a_task()
    await store.create(task, int(time.time() * 1000))
    claim = await store.claim(task.id, "")
    assert isinstance(claim, Claim)
    return Writer(store, claim)


async def _append(writers: Sequence[Writer]) -> None:
    """Append a chunk of each stream in turn, so many in a millisecond."""
    due = time.perf_counter()
    for number in range(STREAMS * CHUNKS):
        writer = writers[number % STREAMS]
        at = int(time.time() * 1000)
        writer.append(wire.chunks(writer.task_id, writer.attempt, writer.seq + 1, at, [_DATA]))
        if number % A_MS == 0:
            due += 0.001
            await asyncio.sleep(max(0, due - time.perf_counter()))


def _cpu_s(pids: Sequence[int]) -> float:
    return sum(proc.cpu_s(pid) for pid in pids)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        broker = embedded.start(Path(folder) / "one", persistence=False)
        cluster = Cluster(Path(folder), replicas=False)
        masters = [server.pid for server in cluster.masters]
        ways: list[tuple[str, Any]] = [
            ("one server", (broker.url, broker.url, [broker.pid])),
            ("three masters", (cluster.url, broker.url, masters)),
        ]
        print("|  | CPU µs a chunk, worker | of all servers | round trips a chunk |")  # noqa: T201
        print("| --- | --- | --- | --- |")  # noqa: T201
        for name, way in ways:
            rounds = [uvloop.run(measure(*way)) for _ in range(ROUNDS)]
            rounds.sort(key=lambda one: one["here"])
            median = rounds[ROUNDS // 2]
            cells = (f"{median[one]:.3g}" for one in ("here", "there", "trips"))
            print(f"| {name} | {' | '.join(cells)} |")  # noqa: T201
        cluster.stop()
        broker.stop()


if __name__ == "__main__":
    main()
