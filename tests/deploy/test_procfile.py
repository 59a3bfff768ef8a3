"""The Procfile under honcho: the worker comes up, works, and leaves when it is told to."""

import sys
from pathlib import Path

from api_contracts.client import Client
from tests.deploy import shims
from tests.parts.program import ROOT, Program
from tests.parts.simulator import Simulator
from tests.parts.web import free_port
from tests.parts.worker import API_KEY

#: honcho, with more patience: it kills what has not ended 5 s after it was told to, which a busy
#: machine may take.
HONCHO = """
from honcho import command, manager
manager.KILL_WAIT = 60
command.main()
"""
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def test_honcho_runs_the_procfile(tmp_path: Path, redis_url: str) -> None:
    simulator, port = Simulator(tmp_path), free_port()
    settings = shims.environment(
        tmp_path,
        REDIS_URL=redis_url,
        ROUTER_WORKER_BASE_URL=simulator.url,
        YOUROUTER_API_KEY=API_KEY,
    )
    command = [sys.executable, "-c", HONCHO, "--procfile", str(ROOT / "Procfile"), "start"]
    honcho = Program([*command, "--port", str(port)], tmp_path / "honcho.log", env=settings)
    try:
        honcho.wait_for(f"http://127.0.0.1:{port}/readyz")
        with Client(redis_url) as client:
            assert client.chat("gpt-4o", QUESTION).result(20).finish_reason == "stop"
    finally:
        honcho.stop(within=90)
        simulator.program.stop()
    assert "worker.1 stopped (rc=0)" in honcho.output
    assert API_KEY not in honcho.output
