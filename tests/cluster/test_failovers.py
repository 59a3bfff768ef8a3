"""Masters die, hang and hand over, and slots move: in the middle of streams.

Whatever happens, each answer is seen whole and once by those who follow it, and costs one call, or
as many as there were attempts.
"""

import pytest

from tests.parts.cluster import Cluster
from tests.parts.following import KEYS
from tests.parts.gate import Gate
from tests.parts.streams import ENDLESS, TASKS, Streams
from tests.parts.wait import until

pytestmark = pytest.mark.usefixtures("worker")


def go_on(streams: Streams, ids: list[str]) -> None:
    """Wait until each of these has several events more."""
    before = {one: streams.length(one) for one in ids}
    until(lambda: all(streams.length(one) > before[one] + 4 for one in ids), "they go on")


def test_a_master_that_dies_loses_and_doubles_nothing(
    streams: Streams, cluster: Cluster, gate: Gate
) -> None:
    """The one that has `rw:due`. Those of the others go on meanwhile; all end while it is away."""
    streams.begin(ENDLESS)
    old = cluster.kill_master_of(KEYS.due)
    others = [one for one in streams.ids if cluster.master_of(KEYS.record(one)).port != old.port]
    go_on(streams, others)
    streams.hurry()
    cluster.wait_for_another_than(old)
    assert sum(streams.whole().values()) == len(gate.requests)
    cluster.bring_back(old)


def test_a_master_that_hangs_loses_and_doubles_nothing(
    streams: Streams, cluster: Cluster, gate: Gate
) -> None:
    streams.begin(40)
    old = cluster.hang_master_of(KEYS.record(streams.ids[0]))
    cluster.wait_for_another_than(old)
    assert sum(streams.whole().values()) == len(gate.requests)
    cluster.bring_back(old)


def test_a_master_that_hands_over_is_not_noticed(
    streams: Streams, cluster: Cluster, gate: Gate
) -> None:
    streams.begin(20)
    cluster.hand_over(KEYS.record(streams.ids[0]))
    assert set(streams.whole().values()) == {1}
    assert len(gate.requests) == len(streams.ids)


def test_a_slot_that_moves_takes_its_stream_along_and_holds_up_no_other(
    streams: Streams, cluster: Cluster, gate: Gate
) -> None:
    """Key by key, though half of its keys are here and half are there, and at one blow.

    The slot that every task needs may move, too.
    """
    streams.begin(ENDLESS)
    moving, *others = streams.ids[:TASKS]
    cluster.move(KEYS.record(moving), half_way=lambda: go_on(streams, others))
    cluster.move_whole(KEYS.record(streams.ids[TASKS]))
    cluster.move(KEYS.due)
    assert set(streams.whole().values()) == {1}
    assert len(gate.requests) == len(streams.ids)
