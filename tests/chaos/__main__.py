"""Break everything, and print the table: `python -m tests.chaos [SCENARIO …]`, `make chaos`."""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.chaos import gap
from tests.chaos.run import Row, run
from tests.chaos.scenarios import SCENARIOS, Scenario
from tests.chaos.table import head, line, to_json
from tests.parts.program import ROOT

#: The measurement that is no scenario, by its name on the command line.
_GAP: Final = "gap"
_NAMED: Final = {scenario.name: scenario for scenario in SCENARIOS}


def main() -> int:
    """Run the scenarios that the command line names, or all; 1 where a promise was broken."""
    chosen = _chosen()
    # Whoever ends this program ends all that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    names = chosen.scenarios or [*_NAMED, _GAP]
    command = f"make chaos ARGS='{' '.join(_arguments(chosen))}'"
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name in names:
        _tell(f"{name}, seed {chosen.seed} …")
        if name == _GAP:
            _say(f"\n{gap.measure()}\n")
            continue
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            rows.append(run(_changed(_NAMED[name], chosen), chosen.seed, Path(folder)))
        # As each is done: what follows may take an hour.
        _say(*([] if rows[1:] else [head()]), line(rows[-1]))
        _tell(*rows[-1].wrong)
        chosen.json.write_text(to_json(rows, command) + "\n")
    _say(f"\nMade by `{command}`.")
    return 1 if any(row.wrong for row in rows) else 0


def _chosen() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    names = (*_NAMED, _GAP)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(names))
    parser.add_argument("--times", type=int, help="how often each fault is done")
    parser.add_argument("--workers", type=int, help="how many workers run at once")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "chaos.json")
    chosen = parser.parse_args()
    if unknown := set(chosen.scenarios) - set(names):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    return chosen


def _arguments(chosen: argparse.Namespace) -> list[str]:
    """Write down what makes the same run again."""
    numbers = {name: getattr(chosen, name) for name in ("times", "workers", "seed")}
    said = [f"--{name} {value}" for name, value in numbers.items() if value is not None]
    return [*chosen.scenarios, *said]


def _changed(scenario: Scenario, chosen: argparse.Namespace) -> Scenario:
    times = chosen.times or scenario.times
    return replace(scenario, times=times, workers=chosen.workers or scenario.workers)


def _say(*texts: str) -> None:
    """Write a part of the table."""
    for text in texts:
        sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _tell(*texts: str) -> None:
    """Write what is no part of it."""
    for text in texts:
        sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
