"""The results as Markdown, for the README. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tests.bench.figures import Spread
from tests.bench.goals import GOALS, Goal
from tests.bench.outcome import OWN, Outcome, memory
from tests.bench.peers.roster import ROSTER

_TITLES: Final = {peer.name: peer.title for peer in ROSTER}
_NONE: Final = "–"

#: A column: its head, and what it says of a peer.
Column = tuple[str, Callable[[Outcome, str], str]]


def number(value: float | None, unit: str = "") -> str:
    """Write three figures, or a dash."""
    if value is None:
        return _NONE
    if abs(value) >= 100:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.2g}" if abs(value) < 10 else f"{value:.0f}"
    return f"{text} {unit}".rstrip()


def ranged(found: Spread | None) -> str:
    """Write a median, with the range where there was more than one run."""
    if found is None:
        return _NONE
    if found.least == found.most:
        return number(found.median)
    return f"{number(found.median)} ({number(found.least)}–{number(found.most)})"


def _figure(workload: str, name: str) -> Callable[[Outcome, str], str]:
    return lambda outcome, peer: ranged(outcome.get(peer, workload, name))


def _pair(workload: str, name: str, high: str = "p99") -> Callable[[Outcome, str], str]:
    def cell(outcome: Outcome, peer: str) -> str:
        low = outcome.median(peer, workload, f"{name}.p50")
        most = outcome.median(peer, workload, f"{name}.{high}")
        return _NONE if low is None else f"{number(low)} / {number(most)}"

    return cell


def _percent(workload: str, name: str) -> Callable[[Outcome, str], str]:
    def cell(outcome: Outcome, peer: str) -> str:
        found = outcome.median(peer, workload, name)
        return _NONE if found is None else f"{found:.0%}"

    return cell


def _times(workload: str, name: str) -> Callable[[Outcome, str], str]:
    """Write how much more it is than router-worker's."""

    def cell(outcome: Outcome, peer: str) -> str:
        theirs, own = outcome.median(peer, workload, name), outcome.median(OWN, workload, name)
        return _NONE if theirs is None or not own else f"{theirs / own:.1f}×"

    return cell


def _resident(place: int) -> Callable[[Outcome, str], str]:
    def cell(outcome: Outcome, peer: str) -> str:
        levels = memory(outcome, peer)
        return number(levels[place][1]) if levels else _NONE

    return cell


def _per_thousand(outcome: Outcome, peer: str) -> str:
    levels = memory(outcome, peer)
    return number(levels[-1][1] / levels[-1][0] * 1000) if levels else _NONE


_STREAMS: Final[Sequence[Column]] = (
    ("(a) CPU µs a chunk", _figure("a", "cpu_us_chunk")),
    ("of ours", _times("a", "cpu_us_chunk")),
    ("(a) chunks/s a core", _figure("a", "chunks_s_core")),
    ("(b) CPU µs a chunk", _figure("b", "cpu_us_chunk")),
    ("of ours", _times("b", "cpu_us_chunk")),
    ("(b) chunks/s a core", _figure("b", "chunks_s_core")),
    ("Redis commands a chunk (a)", _figure("a", "redis_commands_chunk")),
    ("bytes", _figure("a", "redis_bytes_chunk")),
)
_LATENCY: Final[Sequence[Column]] = (
    ("(paced) p50 / p99 ms", _pair("paced", "latency_ms")),
    ("core busy", _percent("paced", "busy")),
    ("(a) p50 / p99 ms", _pair("a", "latency_ms")),
    ("core below 70 %", _pair("a", "calm_latency_ms")),
    ("of chunks", _percent("a", "calm_share")),
    ("core busy", _percent("a", "busy")),
    ("(g) p50 / p99 ms", _pair("g", "latency_ms")),
    ("(idle) enqueue → call, p50 / p99 ms", _pair("idle", "call_ms")),
)
_TASKS: Final[Sequence[Column]] = (
    ("(c) CPU ms a task", _figure("c", "cpu_ms_task")),
    ("of ours", _times("c", "cpu_ms_task")),
    ("(slots) efficiency", _percent("slots", "efficiency")),
    ("(e) enqueued/s", _figure("e", "enqueued_s")),
    ("in one batch", _figure("e", "batch_enqueued_s")),
    ("(f) enqueue → call, ms", _figure("f", "call_ms.p50")),
    ("(f) CPU ms", _figure("f", "cpu_ms_task")),
)
_MEMORY: Final[Sequence[Column]] = (
    ("idle MiB", _figure("d", "idle_mib")),
    ("more, a quarter open", _resident(0)),
    ("half", _resident(1)),
    ("all", _resident(-1)),
    ("MiB per 1,000 streams", _per_thousand),
    ("after", _figure("d", "end_mib")),
)

_TABLES: Final = (
    (
        (
            "**Streams.** Chunks/s a core are chunks divided by the CPU seconds, user and system, "
            "of all of the worker's processes: what a core carries, whatever else the machine does."
        ),
        _STREAMS,
        ("a", "b"),
    ),
    (
        (
            "**Latency.** From the upstream's writing of a chunk to a subscriber's reading of it. "
            "Where the core is busy, it is the time in the queue."
        ),
        _LATENCY,
        ("a", "paced", "g", "idle"),
    ),
    ("**Tasks.**", _TASKS, ("c", "slots", "e", "f")),
    ("**Memory** of open streams, beyond idle; shared pages count once.", _MEMORY, ("d",)),
)


def render(results: Mapping[str, Any]) -> str:
    """Write all tables; rows and columns that say nothing are left out."""
    outcome = Outcome(results["runs"])
    parts = [_head(results)]
    for words, columns, workloads in _TABLES:
        if table := _table(outcome, columns, workloads):
            parts += [words, table]
    parts += ["**Goals.**", _goals(outcome)]
    if troubles := list(outcome.troubles()):
        parts += ["**What went wrong.**", "".join(f"- {one}\n" for one in troubles)]
    else:
        parts.append("Every chunk that was sent was received, once.\n")
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _table(outcome: Outcome, columns: Sequence[Column], workloads: Sequence[str]) -> str | None:
    peers = outcome.peers(*workloads)
    filled = [(head, [cell(outcome, peer) for peer in peers]) for head, cell in columns]
    filled = [(head, cells) for head, cells in filled if set(cells) - {_NONE}]
    rows = [
        (_TITLES[peer], *(cells[place] for _, cells in filled)) for place, peer in enumerate(peers)
    ]
    rows = [row for row in rows if set(row[1:]) - {_NONE}]
    return markdown(("", *(head for head, _ in filled)), rows) if rows else None


def _head(results: Mapping[str, Any]) -> str:
    machine, upstream = results["machine"], results["upstream"]
    runs = results["repeats"]
    said = (
        f"{machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}, Python "
        f"{machine['python']}; {'one run' if runs == 1 else f'medians of {runs} runs (range)'} "
        f"of {results['minutes']:g} minutes in all, seed {results['seed']}"
    )
    if results["scale"] != 1:
        said += f", **scaled to {results['scale']:g}**"
    return (
        f"{said}. The upstream alone gives {number(upstream['chunks_s'])} chunks/s and "
        f"{number(upstream['calls_s'])} calls/s."
    )


def _goals(outcome: Outcome) -> str:
    met = {None: _NONE, True: "yes", False: "**no**"}

    def row(goal: Goal) -> tuple[str, ...]:
        measured = goal.measure(outcome)
        limit = f"{'≤' if goal.most else '≥'} {number(goal.limit, goal.unit)}"
        return goal.words, limit, number(measured, goal.unit), met[goal.met(measured)]

    return markdown(("", "goal", "measured", "met"), [row(goal) for goal in GOALS])


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table, each row in one line."""
    lines = (head, ("---",) * len(head), *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
