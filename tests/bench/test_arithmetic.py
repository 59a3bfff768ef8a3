"""The benchmark's arithmetic: marks, percentiles, what the kernel says, the size of a workload."""

import os

import pytest

from tests.bench import marks, proc
from tests.bench.figures import apart, percentile, spread
from tests.bench.workloads import WORKLOADS, Workload, scaled

NAME_WITH_EVERYTHING = "a) R 1 (b c"


@pytest.mark.parametrize(
    ("number", "seq", "sent_ns"), [(0, 0, 0), (17, 3, 12_345), (999_999, 999_999, 10**20 - 1)]
)
def test_a_mark_is_read_as_it_was_written(number: int, seq: int, sent_ns: int) -> None:
    mark = marks.write(number, seq, sent_ns)
    assert len(mark) == marks.LENGTH
    assert marks.read(b'{"content": "' + mark + b'","x":1}') == (number, seq, sent_ns)


def test_a_message_without_a_mark_has_none() -> None:
    assert marks.read(b'{"choices":[]}') is None


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([7], 0.5, 7),
        ([1, 2, 3, 4], 0.5, 2),
        ([1, 2, 3, 4], 0.51, 3),
        ([1, 2, 3, 4], 1.0, 4),
        ([1, 2, 3, 4], 0.0, 1),
        (list(range(1, 101)), 0.99, 99),
        (list(range(1, 1001)), 0.99, 990),
        (list(range(1, 1001)), 0.999, 999),
    ],
)
def test_a_percentile_is_a_value_that_was_measured(
    values: list[float], share: float, expected: float
) -> None:
    assert percentile(values, share) == expected


def test_a_spread_is_median_and_range() -> None:
    assert spread([3, 1, 2, 9]) == (2.5, 1, 9)


def test_no_values_have_no_figures() -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile([], 0.5)
    with pytest.raises(ValueError, match="no spread"):
        spread([])


def test_labels_that_would_meet_move_up() -> None:
    assert apart([1, 1.5, 4, 4], 1) == [1, 2, 4, 5]
    assert apart([], 1) == []


def stat(pid: int, parent: int, name: str = "python") -> str:
    """Write a line of /proc/PID/stat."""
    return f"{pid} ({name}) S {parent} 1 1 0 -1 4194560 10 0 0 0 1 2 3 4 20 0 7 0 100 1000 10\n"


@pytest.mark.parametrize("name", ["python", "tmux: server", NAME_WITH_EVERYTHING])
def test_a_process_is_read_whatever_its_name_is(name: str) -> None:
    assert proc.Stat.parse(stat(12, 5, name)) == proc.Stat(12, 5, ticks=10, threads=7)


def test_a_family_is_a_process_and_all_that_came_of_it() -> None:
    lines = [stat(1, 0), stat(5, 1), stat(9, 7), stat(7, 5), stat(6, 1), stat(8, 5)]
    found = proc.family(5, map(proc.Stat.parse, lines))
    assert {one.pid for one in found} == {5, 7, 8, 9}


def test_nothing_is_the_family_of_a_process_that_has_ended() -> None:
    assert proc.family(5, [proc.Stat.parse(stat(7, 6))]) == []


def test_sizes_are_read_in_kib() -> None:
    text = "7f00-7fff ---p 00000000 00:00 0 [rollup]\nRss:  1204 kB\nPss:   903 kB\nThreads: 4\n"
    assert proc.kib(text) == {"Rss": 1204, "Pss": 903}


def test_the_kernel_tells_of_this_very_process() -> None:
    now = proc.use(os.getpid())
    assert now.resident_mib > 1
    assert now.peak_mib >= now.resident_mib / 2
    assert now.threads >= 1
    assert now.cpu_s > 0


SLOW = Workload("x", "", 800, slots=400, chunks=100, gap_s=0.04, levels=(10, 100))
QUICK = Workload("y", "", 800, slots=400, chunks=100)


@pytest.mark.parametrize(
    ("work", "scale", "cap", "tasks", "slots"),
    [
        (SLOW, 1, None, 800, 400),
        (SLOW, 0.1, None, 80, 400),
        (SLOW, 0.0001, None, 1, 400),
        (SLOW, 1, 8, 16, 8),
        (SLOW, 0.01, 8, 8, 8),
        (SLOW, 1, 500, 800, 400),
        (QUICK, 1, 8, 800, 8),
        (Workload("e", "", 5000, slots=0), 0.1, 8, 500, 0),
    ],
)
def test_a_peer_with_few_slots_has_as_many_rounds_of_slow_work_and_all_of_the_quick(
    work: Workload, scale: float, cap: int | None, tasks: int, slots: int
) -> None:
    made = scaled(work, scale, cap)
    assert (made.tasks, made.slots) == (tasks, slots)


def test_levels_are_scaled_too() -> None:
    assert scaled(SLOW, 0.1, None).levels == (1, 10)


def test_each_workload_has_a_key_of_its_own() -> None:
    assert len({work.key for work in WORKLOADS}) == len(WORKLOADS)
