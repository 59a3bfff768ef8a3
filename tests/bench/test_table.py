"""The results become a table: every peer a row, what was not measured a dash, faults in words."""

import json
from typing import Any

import pytest

from tests.bench import scaling
from tests.bench.figures import Spread
from tests.bench.goals import GOALS
from tests.bench.outcome import Outcome, memory
from tests.bench.peers.roster import ROSTER
from tests.bench.readme import put, taken
from tests.bench.table import number, ranged, render
from tests.parts.program import ROOT


def row(peer: str, workload: str, **figures: Any) -> dict[str, Any]:
    return {"peer": peer, "workload": workload, "repeat": 0, "tasks": 10, "calls": 10, **figures}


def results(*rows: dict[str, Any], **changed: Any) -> dict[str, Any]:
    machine = {"processor": "a CPU", "cores": 2, "kernel": "6.1", "python": "3.11.7"}
    upstream = {"chunks_s": 200_000.0, "calls_s": 20_000.0}
    about = {"machine": machine, "upstream": upstream, "repeats": 1, "minutes": 2.5}
    return {**about, "seed": 1, "scale": 1, "runs": rows, **changed}


def streams(peer: str, cpu_us: float, workload: str = "a", **figures: Any) -> dict[str, Any]:
    more = {"chunks_s_core": 1e6 / cpu_us, "busy": 0.5, "latency_ms": {"p50": 1.5, "p99": 12.0}}
    return row(peer, workload, cpu_us_chunk=cpu_us, **more, **figures)


def open_streams(peer: str, *levels: tuple[int, float]) -> dict[str, Any]:
    seen = [{"open": at, "resident_mib": mib, "threads": 9} for at, mib in levels]
    return row(peer, "d", idle_mib=50.0, levels=seen, end_mib=70.0)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "ms", "–"),
        (0, "", "0"),
        (0.034, "ms", "0.034 ms"),
        (4.96, "", "5"),
        (12.4, "×", "12 ×"),
        (99.4, "", "99"),
        (12_345.6, "/s", "12,346 /s"),
    ],
)
def test_a_number_is_short(value: float | None, unit: str, text: str) -> None:
    assert number(value, unit) == text


def test_several_runs_show_their_range() -> None:
    assert ranged(Spread(4, 3, 6)) == "4 (3–6)"
    assert ranged(Spread(4, 4, 4)) == "4"
    assert ranged(None) == "–"


def test_each_peer_is_a_row_and_is_held_to_ours() -> None:
    table = render(results(streams("arq", 300), streams("router-worker", 100)))
    assert "| router-worker | 100 | 1.0× | 10,000 |" in table
    assert "| arq | 300 | 3.0× | 3,333 |" in table
    assert table.index("| router-worker") < table.index("| arq")
    assert "Every chunk that was sent was received, once." in table


def test_what_was_not_measured_has_no_row_and_no_column() -> None:
    table = render(results(streams("arq", 300), row("saq", "a", error="ended")))
    assert "| SAQ" not in table
    assert "(b) CPU µs a chunk" not in table


def test_a_peer_that_fails_says_so_and_stays_out_of_the_figures() -> None:
    rows = (streams("arq", 300, error="3 of 10 tasks were over"), row("saq", "c", error="gone"))
    table = render(results(*rows))
    assert "- arq, (a): 3 of 10 tasks were over\n" in table
    assert "- saq, (c): gone\n" in table
    assert "| arq |" not in table


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"lost": 4}, "lost: 4"),
        ({"doubled": 1, "doubled_endings": 2}, "doubled: 1; doubled endings: 2"),
        ({"failed": 3}, "failed: 3"),
        ({"calls": 12}, "12 calls of 10 tasks"),
    ],
)
def test_whatever_is_wrong_is_told(figures: dict[str, int], words: str) -> None:
    table = render(results(streams("arq", 300) | figures))
    assert f"- arq, (a): {words}\n" in table
    assert "received, once" not in table


def test_medians_are_taken_of_the_runs_that_worked() -> None:
    rows = [streams("arq", cpu) for cpu in (300, 100, 200)] + [row("arq", "a", error="gone")]
    outcome = Outcome(rows)
    assert outcome.get("arq", "a", "cpu_us_chunk") == (200, 100, 300)
    assert outcome.median("arq", "a", "latency_ms.p99") == 12
    assert outcome.median("arq", "b", "cpu_us_chunk") is None
    assert "| arq | 200 (100–300) |" in render(results(*rows, repeats=3))


def test_memory_is_what_streams_need_beyond_idle() -> None:
    rows = [open_streams("arq", (1000, 60 + more), (2000, 90)) for more in (0, 2, 8)]
    assert memory(Outcome(rows), "arq") == [(1000, 12), (2000, 40)]
    assert "| arq | 50 | 12 | 40 | 40 | 20 | 70 |" in render(results(*rows))


def test_a_smaller_run_says_so() -> None:
    assert "**scaled to 0.1**" in render(results(scale=0.1))
    assert "scaled" not in render(results())


def goal(words: str, *rows: dict[str, Any]) -> tuple[float | None, bool | None]:
    [one] = [one for one in GOALS if one.words == words]
    measured = one.measure(Outcome(rows))
    return measured, one.met(measured)


def test_ours_is_held_to_the_best_of_each_kind() -> None:
    rows = [streams("router-worker", 100), streams("limit", 60)]
    rows += [streams("celery-gevent", 300), streams("celery-threads", 450)]
    rows += [streams("arq", 250), streams("saq", 200), streams("dramatiq", 10)]
    assert goal("(a) chunks/s a core, of the best Celery's", *rows) == (3, False)
    assert goal("(a) chunks/s a core, of the best async queue's", *rows) == (2, False)
    assert goal("(a) CPU a chunk, of the bare limit's", *rows) == (100 / 60, True)
    assert goal("(b) CPU a chunk, of the bare limit's", *rows) == (None, None)


def test_latency_counts_where_the_core_is_not_busy() -> None:
    mine = streams("router-worker", 100) | {"calm_latency_ms": {"p50": 1.5, "p99": 12.0}}
    assert goal("(a) added latency, core not busy, p50", mine) == (1.5, True)
    assert goal("(a) added latency, core not busy, p99", mine) == (12.0, False)
    never = streams("router-worker", 100) | {"calm_latency_ms": None}
    assert goal("(a) added latency, core not busy, p50", never) == (None, None)


def test_a_task_is_held_to_the_sum_of_its_parts() -> None:
    words = "(c) CPU a task, of a Celery task that does nothing and an httpx call"
    mine = row("router-worker", "c", cpu_ms_task=3.0)
    nothing = row("celery-nothing", "c", cpu_ms_task=1.5)
    call = row("httpx-call", "c", cpu_ms_task=0.5)
    assert goal(words, mine, nothing) == (None, None)
    assert goal(words, mine, nothing, call) == (1.5, True)


def test_memory_of_fewer_streams_is_held_to_that_of_2000() -> None:
    words = "(d) 2,000 open streams, more than idle"
    assert goal(words, open_streams("router-worker", (100, 58.0))) == (160, False)


def test_more_than_a_goal_is_met_where_more_is_better() -> None:
    assert goal("(e) enqueued", row("router-worker", "e", enqueued_s=3000.0)) == (3000, True)
    assert goal("(e) enqueued", row("router-worker", "e", enqueued_s=2999.0)) == (2999, False)


def test_the_table_stands_between_its_markers() -> None:
    readme = "before\n<!-- bench -->\nold\n<!-- end -->\nafter\n<!-- end -->\n"
    written = put(readme, "| new |\n")
    assert written == "before\n<!-- bench -->\n\n| new |\n\n<!-- end -->\nafter\n<!-- end -->\n"
    assert taken(written) == "| new |\n"
    assert put(written, "| new |\n") == written


def test_a_readme_without_markers_stays_as_it_is() -> None:
    assert put("nothing", "| new |") == "nothing"
    assert taken("nothing") is None


def test_the_readmes_table_is_that_of_the_results_that_are_kept() -> None:
    kept = ROOT / "tests/bench/results.json"
    expected = render(json.loads(kept.read_text())) if kept.exists() else None
    assert taken((ROOT / "README.md").read_text()) == expected, (
        "run: python -m tests.bench --render"
    )


def test_the_readmes_scaling_is_that_of_the_results_that_are_kept() -> None:
    kept = json.loads((ROOT / "tests/bench/scaling.json").read_text())
    written = taken((ROOT / "README.md").read_text(), "scaling")
    assert written == scaling.render(kept), "run: make scaling"


def test_no_two_peers_have_one_name() -> None:
    assert len({peer.name for peer in ROSTER}) == len(ROSTER)
