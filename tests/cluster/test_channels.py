"""Who listens to a sharded channel goes along where its slot goes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from api_contracts.client import connection
from tests.client.conftest import Begin, Shell
from tests.parts.cluster import Cluster
from tests.parts.scripts import KEYS, wait_for_subscriber


@pytest.mark.parametrize("move", [Cluster.move, Cluster.move_whole])
def test_who_listens_goes_along_with_the_slot(  # noqa: PLR0913, PLR0917 - two fixtures of each
    begin: Begin, shell: Shell, redis: Redis, cluster: Cluster, monkeypatch: pytest.MonkeyPatch,
    move: Callable[[Cluster, str], None],
) -> None:  # fmt: skip
    """At the server's word: no silence after which the log is read is waited for."""
    monkeypatch.setattr(connection, "SILENCE_S", 600.0)
    hand = begin()
    with ThreadPoolExecutor() as pool:
        follows = pool.submit(lambda: list(shell.stream(hand.task_id)))
        wait_for_subscriber(redis, hand.task_id)
        move(cluster, KEYS.record(hand.task_id))
        wait_for_subscriber(redis, hand.task_id)
        hand.say("a", "b")
        hand.complete()
        events = follows.result(30)
    assert [event.id for event in events] == ["0-1", "1-0", "1-1", "1-2", "1-3"]
