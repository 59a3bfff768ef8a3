"""Measure router-worker beside other queues, in one run: ``python -m tests.bench``.

Everything is on this machine. A run of all peers with all workloads at full scale writes the
README's table (between its markers), `tests/bench/results.json` and the pictures beside it; any
smaller run writes into `build/bench` alone. ``--render`` writes table and pictures of the results
that are there.
"""

import argparse
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench.children import allow_sockets
from tests.bench.peers.roster import ROSTER
from tests.bench.plots import draw
from tests.bench.readme import put
from tests.bench.run import Job, Results, run
from tests.bench.table import render
from tests.bench.workloads import WORKLOADS
from tests.parts.program import ROOT

_HERE: Final = ROOT / "tests" / "bench"
_BUILD: Final = ROOT / "build" / "bench"
_PEERS: Final = tuple(peer.name for peer in ROSTER)
_KEYS: Final = tuple(work.key for work in WORKLOADS)


def main(arguments: Sequence[str]) -> int:
    """Run as the command line says."""
    options = _options(arguments)
    if options.render:
        _write(json.loads((_HERE / "results.json").read_text()), _HERE)
        return 0
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    # So that whoever ends us ends the workers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    allow_sockets()
    peers = [peer for peer in ROSTER if peer.name in options.only]
    job = Job(peers, options.workload, _BUILD, options.scale, options.repeat, options.seed)
    results = Results(job)
    whole = job.scale == 1 and len(peers) == len(ROSTER) and set(job.keys) == set(_KEYS)
    try:
        run(job, results)
    except BaseException:
        whole = False
        raise
    finally:
        _write(results.as_dict(), _HERE if whole else _BUILD)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", type=_some(_PEERS), default=_PEERS, metavar="PEER,…")
    parser.add_argument("--workload", type=_some(_KEYS), default=_KEYS, metavar="KEY,…")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1 is a tenth of the tasks")
    parser.add_argument("--repeat", type=int, default=1, help="runs of which medians are taken")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--render", action="store_true", help="only write table and pictures")
    return parser.parse_args(arguments)


def _some(known: Sequence[str]) -> Any:
    """Read a list of known names, with commas between."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names) - set(known):
            message = f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}"
            raise argparse.ArgumentTypeError(message)
        return names

    return read


def _write(results: dict[str, Any], folder: Path) -> None:
    """Write results, table and pictures; the README's table where they are the repository's."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    table = render(results)
    pictures = draw(results, folder)
    if folder == _HERE:
        readme = ROOT / "README.md"
        readme.write_text(put(readme.read_text(), table))
    sys.stdout.write(f"{table}\n{' '.join(str(one) for one in pictures)}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
