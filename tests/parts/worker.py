"""The real worker, started as its user starts it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from tests.parts.program import ROOT, Program, without_settings
from tests.parts.web import free_port, get

#: The router key of every worker here. It may appear in no output and no record.
API_KEY: Final = "sk-test-5f2d8c41"
#: What the console script `router-worker` does; it needs no installation.
_COMMAND: Final = "from worker.cli import main; main()"


class Worker:
    """A worker process."""

    def __init__(self, log: Path, *, redis_url: str, base_url: str, **settings: str) -> None:
        """Start `router-worker run`; ``settings`` are more environment variables."""
        self.port = int(settings.get("PORT") or free_port())
        #: Where metrics and health are.
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {
            **without_settings(os.environ),
            "PYTHONPATH": str(ROOT),
            "PORT": str(self.port),
            "REDIS_URL": redis_url,
            "ROUTER_WORKER_BASE_URL": base_url,
            "YOUROUTER_API_KEY": API_KEY,
            **settings,
        }
        self.program = Program([sys.executable, "-c", _COMMAND, "run"], log, env=environment)

    def wait_ready(self, *, within: float = 60.0) -> None:
        """Wait until the worker says that it takes tasks."""
        self.program.wait_for(f"{self.url}/readyz", within=within)

    def get(self, path: str) -> tuple[int, str]:
        """GET a path of its health and metrics server: status and body."""
        return get(self.url + path)

    def samples(self, name: str) -> dict[str, float]:
        """Scrape; return a metric's samples by their labels, as ``name=value,…``.

        ``name`` leaves out what the names of all our metrics begin with.
        """
        return {
            ",".join(f"{label}={value}" for label, value in sorted(sample.labels.items())): (
                sample.value
            )
            for family in text_string_to_metric_families(self.get("/metrics")[1])
            for sample in family.samples
            if sample.name == f"router_worker_{name}"
        }

    @property
    def output(self) -> str:
        return self.program.output

    def stop(self, *, within: float = 60.0) -> int:
        """SIGTERM, and wait: the exit status."""
        return self.program.stop(within=within)

    def kill(self) -> None:
        """SIGKILL: what a crash is."""
        self.program.kill()

    def pause(self) -> None:
        """SIGSTOP: what a hang is."""
        self.program.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self.program.resume()


@contextmanager
def running(log: Path, *, redis_url: str, base_url: str, **settings: str) -> Iterator[Worker]:
    """Start a worker and stop it at the end of the block; it must not have said its key."""
    worker = Worker(log, redis_url=redis_url, base_url=base_url, **settings)
    worker.wait_ready()
    yield worker
    worker.stop()
    assert API_KEY not in worker.output, "the worker said its key"
