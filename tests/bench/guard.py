"""Whether router-worker is still as fast as it was: ``python -m tests.bench.guard``.

No time is held to another of another day: machines differ, and so do hours on the same one. Held to
its recorded value (`guard.json`) is how many times the CPU of the bare limit a chunk and a task
take. Both are measured in turn, three times, of which the least counts: all that disturbs only
adds. How much that ratio still varies was measured as well.

``--record 4`` measures it so often, and writes down the median, and as its noise twice the range,
or a quarter of the median where that is more.
"""

import argparse
import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.bench.figures import spread
from tests.bench.measure import measure_sound
from tests.bench.peers.roster import ROSTER
from tests.bench.session import Router, session
from tests.bench.workloads import WORKLOADS, Workload

#: How often both are measured.
ROUNDS: Final = 3
#: How many times its range a ratio may be above its median.
RANGES: Final = 2
#: The least that is taken for noise, as a share of the ratio: single runs of an hour's benchmark
#: differed by 8 % in (a), 20 % in (b), and 30 % in (c).
LEAST: Final = 0.25
RECORDED: Final = Path(__file__).with_name("guard.json")

_ALL: Final[Mapping[str, Workload]] = {work.key: work for work in WORKLOADS}
#: The workloads, and the figure of each that is compared.
_WORK: Final = {
    "a": (replace(_ALL["a"], tasks=400), "cpu_us_chunk"),
    "b": (_ALL["b"], "cpu_us_chunk"),
    "c": (_ALL["c"], "cpu_ms_task"),
}
#: How many times as much the limit does of what it does in half a second: Linux counts CPU time in
#: ticks of 10 ms, and one disturbance is then a smaller share.
_MORE: Final = {"b": 4, "c": 4}
_KINDS: Final = ("own", "limit")

logger = logging.getLogger("bench")


def ratios(folder: Path) -> dict[str, float]:
    """Measure how many times the limit's CPU ours is, for each workload."""
    found: dict[tuple[str, str], list[float]] = {}
    router = Router()
    with router.child:
        for _ in range(ROUNDS):
            for peer in (peer for peer in ROSTER if peer.kind in _KINDS):
                with session(peer, 400, router, folder) as one:
                    for key, (work, figure) in _WORK.items():
                        times = _MORE.get(key, 1) if peer.kind == "limit" else 1
                        figures = measure_sound(one, replace(work, tasks=times * work.tasks))
                        found.setdefault((peer.kind, key), []).append(figures[figure])
    return {key: min(found["own", key]) / min(found["limit", key]) for key in _WORK}


def slower(measured: Mapping[str, float], recorded: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Say of which workloads the ratio is above its recorded value by more than its noise."""
    return [
        f"({key}): {ratio:.2f} times the limit's CPU; recorded were {known['ratio']:.2f}, and "
        f"{known['noise']:.2f} more may be noise"
        for key, ratio in measured.items()
        if ratio > (known := recorded[key])["ratio"] + known["noise"]
    ]


def _record(times: int, folder: Path) -> None:
    runs = []
    for _ in range(times):
        runs.append(ratios(folder))
        logger.info("%s", runs[-1])
    noted = {}
    for key in _WORK:
        values = [run[key] for run in runs]
        middle, least, most = spread(values)
        noted[key] = {
            "ratio": round(middle, 2),
            "noise": round(max(RANGES * (most - least), LEAST * middle), 2),
            "runs": [round(value, 2) for value in values],
        }
    RECORDED.write_text(json.dumps(noted, indent=1) + "\n")


def main() -> int:
    """Compare, or record."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.guard", description=__doc__)
    parser.add_argument("--record", type=int, metavar="TIMES", help="write down what is measured")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    folder = Path("build/bench")
    if options.record:
        _record(options.record, folder)
        return 0
    measured = ratios(folder)
    behind = slower(measured, json.loads(RECORDED.read_text()))
    sys.stdout.write("".join(f"{line}\n" for line in behind or [str(measured)]))
    return len(behind)


if __name__ == "__main__":
    sys.exit(main())
