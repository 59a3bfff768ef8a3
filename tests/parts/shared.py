"""Fixtures of a suite whose tests share one worker: its `conftest.py` imports what it needs.

Each suite has its own of them, so that the worker of one neither takes the tasks of another nor
uses up its answers.
"""

from collections.abc import Iterator

import pytest

from tests.parts.gate import Gate
from worker import embedded


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.EmbeddedServer]:
    """A server for these tests alone: their worker would take the tasks of others."""
    with embedded.start(tmp_path_factory.mktemp("valkey"), persistence=False) as server:
        yield server


@pytest.fixture(scope="session")
def shared_gate() -> Iterator[Gate]:
    """The gate that the worker calls; a test takes `gate`."""
    gate = Gate()
    yield gate
    gate.close()


@pytest.fixture
def gate(shared_gate: Gate) -> Gate:
    """The way to the router, with nobody behind it and nothing noted yet."""
    shared_gate.reset()
    return shared_gate
