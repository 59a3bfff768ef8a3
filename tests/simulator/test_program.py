"""``python -m worker.simulator``: it says where it is, serves, and stops when told to."""

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.parts.program import ROOT, Program, without_settings
from tests.parts.wait import until
from tests.parts.web import post


def start(tmp_path: Path, *arguments: str) -> Program:
    command = [sys.executable, "-m", "worker.simulator", *arguments]
    env = {**without_settings(os.environ), "PYTHONPATH": str(ROOT)}
    return Program(command, tmp_path / "simulator.log", env=env)


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_url_serves_and_stops_cleanly(tmp_path: Path, name: signal.Signals) -> None:
    program = start(tmp_path, "--port", "0", "--gap-ms", "0")
    try:
        [url] = until(
            lambda: re.findall(r"http://\S+\n", program.output), "it prints its URL", within=60
        )
        url = url.strip()
        body = {"model": "m", "messages": [{"role": "user", "content": "The capital of France?"}]}
        status, text = post(f"{url}/v1/chat/completions", body, authorization="Bearer k")
        assert status == 200
        assert "Paris" in text
        os.kill(program.pid, name)
        assert program.wait(within=60) == 0
        assert program.output == f"the simulator listens on {url}\n"
    finally:
        program.kill()


def test_it_stops_while_a_stream_is_open(tmp_path: Path) -> None:
    program = start(tmp_path, "--port", "0", "--gap-ms", "0")
    try:
        [url] = until(
            lambda: re.findall(r"http://\S+\n", program.output), "it prints its URL", within=60
        )
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        headers = {"authorization": "Bearer k", "x-simulate": "stall=1:900"}
        address = f"{url.strip()}/v1/chat/completions"
        call: Any = {"json": body, "headers": headers, "trust_env": False, "timeout": 60}
        with httpx.stream("POST", address, **call) as answer:
            first = next(answer.iter_text())
            os.kill(program.pid, signal.SIGTERM)
            assert program.wait(within=60) == 0
        assert first.startswith(": PROCESSING")
        assert "Traceback" not in program.output
    finally:
        program.kill()


def test_a_taken_port_is_told_in_one_line(tmp_path: Path, simulator: str) -> None:
    port = simulator.rpartition(":")[2]
    program = start(tmp_path, "--port", port)
    assert program.wait(within=60) == 1
    assert program.output.startswith(f"cannot listen on 127.0.0.1:{port}: ")
    assert program.output.endswith("; try another --port\n")
    assert program.output.count("\n") == 1


def test_a_negative_gap_is_refused(tmp_path: Path) -> None:
    program = start(tmp_path, "--gap-ms", "-1")
    assert program.wait(within=60) == 2
    assert "--gap-ms must not be negative" in program.output
