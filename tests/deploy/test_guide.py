"""The commands of deploy/README.md as they stand, as far as they need but this machine."""

import os
import re
import signal
from pathlib import Path

from tests.deploy import shims
from tests.parts.need import installed
from tests.parts.program import ROOT, Program
from tests.parts.simulator import Simulator
from tests.parts.web import free_port
from tests.parts.worker import API_KEY

GUIDE = (ROOT / "deploy" / "README.md").read_text()
#: Ports that the commands name; a test puts its own in their places.
PORTS = ("6379", "9464", "9465", "9090")


def commands() -> str:
    """Return the commands behind the marker."""
    found = re.search(r"<!-- run: by hand -->\n```sh\n(.*?)```", GUIDE, re.DOTALL)
    assert found
    return found.group(1)


def test_the_commands_lead_from_nothing_to_workers_that_are_scraped(tmp_path: Path) -> None:
    for name, package in (("redis-server", "redis-server"), ("prometheus", "prometheus")):
        installed(name, package)
    simulator = Simulator(tmp_path)
    text = commands().replace("…", API_KEY)
    for port in PORTS:
        assert port in text
        text = re.sub(rf"(?<!worker-\d:)\b{port}\b", str(free_port()), text)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    settings = shims.environment(tmp_path, ROUTER_WORKER_BASE_URL=simulator.url, PORT="0")
    log = tmp_path / "shell.log"
    shell = Program(["bash", "-euo", "pipefail", "-c", text], log, env=settings)
    try:
        assert shell.wait(within=90) == 0, shell.output
    finally:
        _end(shell)
        simulator.program.stop()
    said = shell.output
    assert "SUCCESS: " in said
    assert "=> 2 @[" in said
    assert "WRONG" not in said
    worker = (tmp_path / "run" / "worker-1.log").read_text()
    worker += (tmp_path / "run" / "worker-2.log").read_text()
    assert " completed " in worker


def _end(shell: Program) -> None:
    """End what the shell has left, should it have failed."""
    try:
        os.killpg(shell.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def test_every_file_that_the_guide_names_is_there() -> None:
    named = set(re.findall(r"(?<!/)deploy/[\w/@.-]+\w", GUIDE))
    table = re.findall(r"^\| (`[^|]+) \|", GUIDE.partition("## ")[0], re.MULTILINE)
    named |= {f"deploy/{one}" for cell in table for one in re.findall(r"`([^`]+)`", cell)}
    assert len(named) > 10
    assert [one for one in named if not (ROOT / one).exists()] == []
