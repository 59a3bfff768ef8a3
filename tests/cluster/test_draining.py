"""What tests/e2e shows of a worker that is asked to leave, where a cluster has the records."""

from dataclasses import dataclass

import pytest

from tests.e2e.test_drain import (
    begin,
    start,
    test_streams_that_outlast_the_grace_are_handed_back_and_run_elsewhere,
)


@dataclass(frozen=True)
class Server:
    """Where workers are sent."""

    url: str


@pytest.fixture
def server(redis_url: str) -> Server:
    return Server(redis_url)
