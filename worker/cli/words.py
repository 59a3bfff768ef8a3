"""Events, results and states in words for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from api_contracts.errors import TaskError
from api_contracts.events import Event, Queued, Retrying, Started
from api_contracts.results import Result, Status, Usage
from worker.cli.terminal import one_line

#: From how many ms on a duration is written in which unit, of how many ms.
_LONG: Final = (
    (172_800_000, 86_400_000, "d"),
    (7_200_000, 3_600_000, "h"),
    (600_000, 60_000, "min"),
)


def note(event: Event) -> str | None:
    """Say what an event means for the one who waits; None for chunks and endings."""
    match event:
        case Queued():
            return f"queued: task {event.task_id}"
        case Started(resets=True):
            return f"restarted: the text above is void ({_run(event)})"
        case Started():
            return f"started: {_run(event)}"
        case Retrying():
            return f"retrying in {seconds(event.delay_ms)}: {reason(event.error)}"
        case _:
            return None


def _run(event: Started) -> str:
    return f"attempt {event.attempt} on {one_line(event.worker)}"


def reason(error: TaskError) -> str:
    """Say why an attempt or a task failed, with what a support would ask for."""
    told = (
        (error.status, f"HTTP {error.status}"),
        (error.provider_code, f"provider's code {error.provider_code}"),
        (error.request_id, f"request id {error.request_id}"),
        (error.attempts, _count(error.attempts, "call")),
    )
    details = "; ".join(text for value, text in told if value)
    return one_line(f"{error.code}: {error.message}" + (f" ({details})" if details else ""))


def summary(result: Result) -> str:
    """Say in one line how a task went."""
    times = result.timings
    first = times.first_chunk_ms
    finish = f" ({one_line(result.finish_reason)})" if result.finish_reason else ""
    parts = (
        tokens(result.usage),
        f"queued {seconds(times.queued_ms)}",
        None if first is None else f"first chunk {seconds(first)}",
        f"total {seconds(times.total_ms)}",
        _count(len(result.attempts), "attempt"),
    )
    return f"done{finish}: " + ", ".join(part for part in parts if part)


def tokens(usage: Usage) -> str:
    """Say how many tokens were used, and who says so."""
    counts = (
        (usage.input_tokens, "in"),
        (usage.output_tokens, "out"),
    )
    known = " + ".join(f"{count} {way}" for count, way in counts if count is not None)
    return f"{known} tokens ({usage.provenance})" if known else f"tokens {usage.provenance}"


def report(status: Status, now_ms: int) -> Iterator[tuple[str, str]]:
    """Yield the rows of a status: a name and what it says."""
    yield "task", status.id
    if status.kind is not None:
        yield "kind", status.kind
    failures = f", {_count(status.failures, 'failed call')}" if status.failures else ""
    replays = f", {_count(status.replays, 'replay')}" if status.replays else ""
    yield "state", f"{status.state} (attempt {status.attempt}{failures}{replays})"
    if status.worker is not None:
        yield "worker", one_line(status.worker)
    moments = (
        ("created", status.created_at),
        ("claimed", status.claimed_at),
        ("next", status.due_at),
        ("ended", status.ended_at),
    )
    yield from ((name, moment(at, now_ms)) for name, at in moments if at is not None)
    if status.error is not None:
        yield "error", reason(status.error)


def moment(at_ms: int, now_ms: int) -> str:
    """Write a time in UTC, and how far off it is."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(" ", "seconds").removesuffix("+00:00")
    away = seconds(abs(now_ms - at_ms))
    return f"{at} UTC ({f'{away} ago' if at_ms <= now_ms else f'in {away}'})"


def seconds(ms: int) -> str:
    """Write a duration as people read it: ``0.04 s``, ``2.1 s``, ``93 s``, ``12 min``, ``5 d``."""
    for least, unit, name in _LONG:
        if ms >= least:
            return f"{ms / unit:.0f} {name}"
    whole = ms / 1000
    return f"{whole:.0f} s" if ms >= 10_000 else f"{whole:.2g} s"  # noqa: PLR2004 - ten seconds


def come_back(task_id: str, cursor: str | None) -> str:
    """Write the command that follows a task from where somebody stopped."""
    after = f" --after {cursor}" if cursor else ""
    return f"router-worker watch {task_id}{after}"


def _count(number: int, of: str) -> str:
    return f"{number} {of}" if number == 1 else f"{number} {of}s"
