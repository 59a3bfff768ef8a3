"""``python -m worker.simulator``: the simulator by itself."""

from __future__ import annotations

import argparse
import sys

from worker.simulator.server import run
from worker.simulator.steps import Pace


def main() -> None:
    """Read the command line and serve until told to stop."""
    parser = argparse.ArgumentParser(
        prog="python -m worker.simulator", description="A router to try things on."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8089, help="port; 0 takes any free one")
    parser.add_argument("--gap-ms", type=int, default=40, help="pause between chunks")
    asked = parser.parse_args()
    if asked.gap_ms < 0:
        parser.error("--gap-ms must not be negative")
    try:
        run(asked.host, asked.port, Pace(gap_s=asked.gap_ms / 1000))
    except OSError as error:
        where = f"{asked.host}:{asked.port}"
        sys.exit(f"cannot listen on {where}: {error.strerror}; try another --port")


if __name__ == "__main__":
    main()
