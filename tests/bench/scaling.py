"""What router-worker costs as its work grows: ``python -m tests.bench.scaling``.

`make scaling`. Writes the README's table (between its markers) and `scaling.json` beside this
file.
"""

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tests.bench import proc
from tests.bench.children import Child, allow_sockets
from tests.bench.measure import measure_sound
from tests.bench.peers.roster import ROSTER, Peer
from tests.bench.readme import put
from tests.bench.session import Router, session
from tests.bench.table import markdown
from tests.bench.workloads import Workload
from tests.parts.program import ROOT
from worker import embedded

#: Seconds for which one Redis is loaded, for each number of events in a call.
LOAD_S: Final = 5.0
_HERE: Final = ROOT / "tests" / "bench"
_BUILD: Final = ROOT / "build" / "bench"

_ONE: Final = next(peer for peer in ROSTER if peer.kind == "own")
_LIMIT: Final = next(peer for peer in ROSTER if peer.kind == "limit")
#: Two processes of ours.
TWO: Final = replace(_ONE, name="two", command=("-m", "tests.bench.peers.two_workers"))

_STREAMS: Final = Workload("a", "", 800, chunks=100, gap_s=0.04)
_CALLS: Final = Workload("c", "", 5000)
_LONG: Final = tuple(Workload("long", "", tasks, chunks=120_000 // tasks) for tasks in (600, 60))
#: What is compared: words, and what is run, on one process or on two.
PAIRS: Final[Sequence[tuple[str, str, str, Sequence[tuple[Peer, Workload]]]]] = (
    (
        *("streams of 25 chunks/s at once", "40", "400"),
        ((_ONE, replace(_STREAMS, tasks=80, slots=40)), (_ONE, _STREAMS)),
    ),
    (
        *("streams of 25 chunks/s at once", "400", "800"),
        ((_ONE, _STREAMS), (_ONE, replace(_STREAMS, tasks=1600, slots=800))),
    ),
    (
        *("open streams of a chunk every 2 s", "400", "4,000"),
        tuple(
            (_ONE, Workload("slow", "", count, slots=count, chunks=10, gap_s=2.0))
            for count in (400, 4000)
        ),
    ),
    (
        *("chunks of a stream, without pause", "200", "2,000"),
        tuple((_ONE, work) for work in _LONG),
    ),
    (
        *("the same, of the bare limit", "200", "2,000"),
        tuple((_LIMIT, work) for work in _LONG),
    ),
    (
        *("short calls in the queue", "5,000", "50,000"),
        ((_ONE, _CALLS), (_ONE, replace(_CALLS, tasks=50_000, limit_s=300))),
    ),
    (
        *("processes, 400 streams of 25 chunks/s", "1", "2"),
        ((_ONE, _STREAMS), (TWO, _STREAMS)),
    ),
    ("processes, short calls", "1", "2", ((_ONE, _CALLS), (TWO, _CALLS))),
)
#: Events in one call of ``append.lua``, and subscribers of everything, under which one Redis is
#: measured.
LOADS: Final = ((1, 0), (1, 1), (10, 1))
_FIGURES: Final = ("cpu_us_chunk", "cpu_ms_task", "chunks_s", "redis_cpu_us_chunk", "peak_mib")

logger = logging.getLogger("bench")


def run() -> dict[str, Any]:
    """Measure everything; return it all."""
    router = Router()
    with router.child:
        rows = [
            {
                "what": what,
                "sizes": [small, large],
                "runs": [_figures(router, *one) for one in both],
            }
            for what, small, large, both in PAIRS
        ]
    return {"rows": rows, "redis": list(_redis())}


def _figures(router: Router, peer: Peer, work: Workload) -> dict[str, float]:
    """Run a workload on a fresh worker."""
    with session(peer, work.slots, router, _BUILD) as one:
        figures = measure_sound(one, work)
    found = {name: figures[name] for name in _FIGURES}
    logger.info("%s %s %s", peer.name, work, found)
    return found


def _redis() -> Iterator[dict[str, float]]:
    """Load one Redis with chunks, as fast as it takes them."""
    for events, subscribers in LOADS:
        with (
            embedded.start(_BUILD / "valkey", persistence=False) as server,
            Child("tests.bench.redis_ceiling", str(server.port)) as load,
            Child("tests.bench.subscriber", str(server.port), "rw:{*}:live", str(subscribers),
                  "stream") as subscriber,
        ):  # fmt: skip
            load.wait_ready()
            subscriber.wait_ready()
            cpu_s, begun = proc.cpu_s(server.pid), time.monotonic()
            chunks = load.ask(f"{LOAD_S} {events}", 10 * LOAD_S)
            wall_s, used = time.monotonic() - begun, proc.cpu_s(server.pid) - cpu_s
        found = {
            "events": events,
            "subscribers": subscribers,
            "chunks_s": chunks / wall_s,
            "busy": used / wall_s,
            "cpu_us_chunk": used / chunks * 1e6,
        }
        logger.info("redis %s", found)
        yield found


def render(results: dict[str, Any]) -> str:
    """Write the tables."""
    rows = []
    for row in results["rows"]:
        small, large = row["runs"]
        rows.append((
            row["what"], " → ".join(row["sizes"]), _change(small, large, "cpu_us_chunk"),
            _change(small, large, "cpu_ms_task"), _change(small, large, "chunks_s"),
            _change(small, large, "redis_cpu_us_chunk"), _change(small, large, "peak_mib"),
        ))  # fmt: skip
    head = (
        *("", "", "CPU µs a chunk", "CPU ms a task", "chunks/s", "Redis's CPU µs a chunk"),
        "peak MiB",
    )
    loads = [
        (
            str(one["events"]), str(one["subscribers"]), f"{one['chunks_s']:,.0f}",
            f"{one['busy']:.0%}", f"{one['cpu_us_chunk']:.1f}", f"{1e6 / one['cpu_us_chunk']:,.0f}",
        )
        for one in results["redis"]
    ]  # fmt: skip
    redis_head = (
        *("chunks in a call", "subscribers of each", "chunks/s taken", "its core busy"),
        *("CPU µs a chunk", "chunks/s of a whole core"),
    )
    return f"{markdown(head, rows)}\n**One Redis.**\n\n{markdown(redis_head, loads)}"


def _change(small: dict[str, float], large: dict[str, float], name: str) -> str:
    return f"{_number(small[name])} → {_number(large[name])}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Measure, and write what was found."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    allow_sockets()
    results = run()
    (_HERE / "scaling.json").write_text(json.dumps(results, indent=1) + "\n")
    table = render(results)
    readme: Path = ROOT / "README.md"
    readme.write_text(put(readme.read_text(), table, "scaling"))
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
