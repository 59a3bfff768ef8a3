"""What the tests of the deployment start beside the worker."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.parts.prometheus import Prometheus
from tests.parts.worker import Worker


class Watch(Protocol):
    """What the fixture `watch` is."""

    def __call__(self, *workers: Worker) -> Prometheus:
        """Start a Prometheus that scrapes these workers, and wait until it has."""


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """Start a Prometheus on the shipped alerts."""
    started: list[Prometheus] = []

    def start(*workers: Worker) -> Prometheus:
        prometheus = Prometheus(tmp_path / f"prometheus-{len(started)}", workers)
        started.append(prometheus)
        # Behind this the counters rise, from 0 that it has seen: those of each worker, and those
        # that one of them tells for all, which it may not in its first moments.
        prometheus.wait_scraped(workers, "slots")
        prometheus.wait_scraped(workers, "dead_letters_total")
        return prometheus

    yield start
    for prometheus in started:
        prometheus.program.stop()
