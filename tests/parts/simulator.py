"""The router simulator, started as its user starts it."""

import os
import sys
from pathlib import Path

from tests.parts.program import ROOT, Program, without_settings
from tests.parts.web import free_port


class Simulator:
    """A running simulator."""

    def __init__(self, folder: Path, *, gap_ms: int = 2) -> None:
        """Start it and wait until it answers."""
        port = free_port()
        command = [sys.executable, "-m", "worker.simulator", "--port", str(port)]
        environment = without_settings(os.environ) | {"PYTHONPATH": str(ROOT)}
        self.url = f"http://127.0.0.1:{port}"
        self.program = Program(
            [*command, "--gap-ms", str(gap_ms)], folder / "simulator.log", env=environment
        )
        self.program.wait_for(f"{self.url}/")
