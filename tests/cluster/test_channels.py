"""Who listens to a sharded channel goes along where its slot goes."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest
from redis import Redis

from tests.client.conftest import Begin, Shell
from tests.parts.cluster import Cluster
from tests.parts.scripts import KEYS, wait_for_subscriber

#: Longest way to the new master, in seconds: well below the silence after which the log is read.
SOON_S: Final = 1.5


@pytest.mark.parametrize("move", [Cluster.move, Cluster.move_whole])
def test_who_listens_goes_along_with_the_slot(
    begin: Begin, shell: Shell, redis: Redis, cluster: Cluster, move: Callable[[Cluster, str], None]
) -> None:
    hand = begin()
    with ThreadPoolExecutor() as pool:
        follows = pool.submit(lambda: list(shell.stream(hand.task_id)))
        wait_for_subscriber(redis, hand.task_id)
        move(cluster, KEYS.record(hand.task_id))
        began = time.monotonic()
        wait_for_subscriber(redis, hand.task_id)
        assert time.monotonic() - began < SOON_S
        hand.say("a", "b")
        hand.complete()
        events = follows.result(30)
    assert [event.id for event in events] == ["0-1", "1-0", "1-1", "1-2", "1-3"]
