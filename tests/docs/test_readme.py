"""The README says what is: its tables are made of the code, its programs run."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from api_contracts.client import Client
from api_contracts.schema import examples
from tests.conftest import StartValkey, StartWorker
from tests.parts.letters import bury
from tests.parts.need import need
from tests.parts.program import ROOT, without_settings
from tests.parts.scripts import KEYS, Scripts, a_task
from tests.parts.simulator import Simulator
from tests.parts.worker import API_KEY
from worker.demo.picture import chessboard
from worker.tables import TABLES

README = (ROOT / "README.md").read_text()
#: The command, without an installation.
ROUTER_WORKER = [sys.executable, "-c", "from worker.cli import main; main()"]
#: Where the README's programs look for Redis; a test puts its own in this place.
DEFAULT_URL = "redis://127.0.0.1:6379/0"


def section(start: str) -> str:
    """Return what stands between a marker and the next `<!-- end -->`."""
    found = re.search(rf"<!-- {re.escape(start)} -->\n(.*?)<!-- end -->", README, re.DOTALL)
    assert found, f"the README has no section {start}"
    return found.group(1)


def program(name: str, redis_url: str) -> str:
    """Return the program behind a marker, with this Redis."""
    found = re.search(rf"<!-- run: {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, f"the README has no program {name}"
    assert DEFAULT_URL in found.group(1)
    return found.group(1).replace(DEFAULT_URL, redis_url)


def run(command: list[str], folder: Path, **settings: str) -> str:
    """Run a program as a reader would; return what it says."""
    environment = without_settings(os.environ) | {"PYTHONPATH": str(ROOT)} | settings
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_what_the_code_says(name: str) -> None:
    assert section(f"table: {name}") == TABLES[name](), "run: python -m worker.tables"


def test_the_module_diagram_is_import_linters_contract() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one.get("containers") == ["worker"])
    drawn = [re.findall(r"\w+", line) for line in section("modules").splitlines()]
    assert [line for line in drawn if line] == [re.findall(r"\w+", layer) for layer in layers]


def test_every_module_stands_in_the_diagram() -> None:
    drawn = set(re.findall(r"\w+", section("modules")))
    files = (ROOT / "worker").iterdir()
    modules = {one.stem for one in files if one.suffix == ".py" or (one / "__init__.py").is_file()}
    assert modules - {"__init__"} == drawn


@pytest.fixture
def url(tmp_path: Path, redis_url: str, worker_process: StartWorker) -> Iterator[str]:
    """The Redis of a worker that calls the simulator."""
    simulator = Simulator(tmp_path)
    worker_process(simulator.url)
    yield redis_url
    simulator.program.stop()


@pytest.mark.parametrize("name", ["python", "celery"])
def test_a_python_program_runs_as_it_stands(name: str, url: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(program(name, url))
    said = run([sys.executable, str(path)], tmp_path)
    assert "stop" in said if name == "python" else said.splitlines()[-1].endswith("completed")


@pytest.mark.parametrize("name", ["node", "record-first"])
def test_a_node_program_runs_as_it_stands(name: str, url: str, tmp_path: Path) -> None:
    node = shutil.which("node")
    need(node is not None, "node is not installed")
    need((ROOT / "tests/node_modules/celery-node").exists(), "run: npm ci --prefix tests")
    assert node is not None
    path = tmp_path / "program.mjs"
    path.write_text(program(name, url))
    (tmp_path / "node_modules").symlink_to(ROOT / "tests/node_modules")
    (tmp_path / "create.lua").symlink_to(ROOT / "api_contracts/client/lua/create.lua")
    said = run([node, str(path)], tmp_path).splitlines()
    assert said[0] == "0-1 queued"
    assert said[-1].endswith("completed")


@pytest.mark.parametrize("name", ["terminal", "dead", "top"])
def test_the_commands_for_a_terminal_run_as_they_stand(
    name: str, tmp_path: Path, start_valkey: StartValkey, worker_process: StartWorker
) -> None:
    simulator, server = Simulator(tmp_path), start_valkey()
    worker_process(simulator.url, REDIS_URL=server.url)
    (tmp_path / "cat.jpg").write_bytes(chessboard())
    (tmp_path / "request.json").write_text(json.dumps(examples.TASKS["native Claude"]["request"]))
    settings = {
        "REDIS_URL": server.url,
        "YOUROUTER_API_KEY": API_KEY,
        "ROUTER_WORKER_BASE_URL": simulator.url,
        "PORT": "0",
    }
    lines = section(f"run: {name}").strip().removeprefix("```sh\n").removesuffix("```").splitlines()
    assert lines
    with Redis.from_url(server.url) as redis, Client(server.url) as client:
        known = client.enqueue(examples.TASK).id
        # One that nobody rings for: it can be cancelled.
        Scripts(redis).create(waiting := a_task())
        for line in lines:
            letter = bury(redis, code="payment_required")
            about = {"cancel": waiting.id, "dead": letter}.get(line.split()[1], known)
            program_name, *arguments = shlex.split(line.replace(" ID", f" {about}"))
            assert program_name == "router-worker"
            assert run([*ROUTER_WORKER, *arguments], tmp_path, **settings), line
    simulator.program.stop()


def test_the_program_that_cancels_runs_as_it_stands(
    tmp_path: Path, redis_url: str, worker_process: StartWorker
) -> None:
    """Its task is running by the time, or still waits."""
    simulator = Simulator(tmp_path, gap_ms=500)
    worker_process(simulator.url)
    path = tmp_path / "program.py"
    path.write_text(program("cancel", redis_url))
    assert run([sys.executable, str(path)], tmp_path) == "True\ncancelled\n"
    simulator.program.stop()


def test_the_program_that_replays_runs_as_it_stands(
    tmp_path: Path, redis_url: str, redis: Redis
) -> None:
    task_ids = [bury(redis, code="payment_required"), bury(redis)]
    path = tmp_path / "program.py"
    path.write_text(program("letters", redis_url))
    said = run([sys.executable, str(path)], tmp_path).splitlines()
    assert [line.split()[0] for line in said] == task_ids[::-1]
    assert redis.zrange(KEYS.dead, 0, -1) == [task_ids[1].encode()]
