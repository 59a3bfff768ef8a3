"""What is measured of a run: waits, and whether attempts were taken away for a reason."""

import pytest

from tests.chaos.ledger import Kept, Kind
from tests.chaos.stops import REDIS, Stop, percentile, resumptions, taken, takeovers
from tests.chaos.test_ledger import GOOD, TWICE, log


@pytest.mark.parametrize(
    ("stops", "waits"),
    [
        pytest.param([], [], id="nobody was stopped"),
        pytest.param([Stop("w-1", 3, 9)], [1], id="from the moment of its death"),
        pytest.param([Stop("w-1", 2, 2)], [1], id="from its last word, where that was later"),
        pytest.param([Stop("w-1", 3, 3), Stop("w-2", 4, 4)], [1, 1], id="two deaths"),
        pytest.param([Stop("w-1", 9, 9)], [], id="it died later, of something else"),
        pytest.param([Stop("w-1", -2_000, -1_000)], [], id="another of its name, before"),
    ],
)
def test_how_long_tasks_waited_for_their_next_attempt(stops: list[Stop], waits: list[int]) -> None:
    assert TWICE.kept is not None
    assert takeovers(stops, [TWICE.kept]) == waits


def test_a_retry_is_no_takeover() -> None:
    history = log("1-0 started", "1-1 retrying", "2-0 started", "2-1 completed")
    again = Kept("completed", 2, 1, 0, {1: "timeout", 2: "completed"}, history)
    assert takeovers([Stop("w-1", 1, 3)], [again]) == []


@pytest.mark.parametrize(
    ("stops", "found"),
    [
        pytest.param([Stop("w-1", 3, 3), Stop("w-2", 4, 9)], [], id="both had died"),
        pytest.param([Stop("w-1", 3, 3), Stop(REDIS, 4, 5)], [], id="then Redis was away"),
        pytest.param([Stop("w-1", 3, 3), Stop("w-3", 4, 4)], ["2"], id="only one had died"),
        pytest.param(
            [Stop("w-1", 9, 9), Stop(REDIS, -2_000, -1_000)], ["1", "2"], id="at other times"
        ),
        pytest.param(
            [Stop("w-1", 3, 3), Stop("w-2", -900, -900)], [], id="its claim came through late"
        ),
    ],
)
def test_an_attempt_is_taken_from_a_worker_for_a_reason(
    stops: list[Stop], found: list[str]
) -> None:
    wrong = list(taken(stops, [TWICE, GOOD]))
    assert [fault.kind for fault in wrong] == [Kind.TAKEN] * len(found)
    assert [fault.text.split()[2] for fault in wrong] == found


def test_how_soon_work_went_on() -> None:
    assert TWICE.kept is not None
    absences = [Stop(REDIS, 0, until) for until in (0, 3, 5, 6)]
    assert resumptions([*absences, Stop("w-1", 0, 1)], [TWICE.kept]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [
        ([], 0.5, None),
        ([7], 0.99, 7),
        ([1, 2, 3, 4], 0.5, 2),
        (list(range(1, 101)), 0.99, 99),
        (list(range(1, 101)), 1.0, 100),
    ],
)
def test_percentiles(values: list[int], share: float, found: int | None) -> None:
    assert percentile(values, share) == found
