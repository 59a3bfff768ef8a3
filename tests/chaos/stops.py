"""How long things took, and for what reason: from the moments at which something stopped. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Final

from tests.chaos.ledger import Account, Entry, Fault, Kept, Kind, fault

#: In place of a worker's name, where Redis was stopped.
REDIS: Final = "redis"
#: How long after a worker's death Redis may still execute what it had sent, in ms: two busy cores.
LATE_MS: Final = 1_000


@dataclass(frozen=True)
class Stop:
    """A worker that was stopped, by its name, or Redis, without one. Moments are unix ms."""

    worker: str
    at: int
    #: When it was gone, or went on.
    until: int


def takeovers(stops: Iterable[Stop], kept: Iterable[Kept]) -> list[int]:
    """Tell how long tasks waited for another attempt because their worker was stopped, in ms.

    From the moment at which it was stopped, or said its last word on the task where that was
    later, to the start of the next attempt.
    """
    known = _by_worker(stops)
    return sorted(
        after.at - max(during[0].at, last.at)
        for one in kept
        for before, last, after in _interruptions(one)
        if (during := _during(before, known.get(before.worker, ()), after))
    )


def taken(stops: Iterable[Stop], accounts: Iterable[Account]) -> Iterator[Fault]:
    """Yield the attempts that were taken from a worker without a reason.

    A reason is that the worker was stopped, or that Redis was away, during the attempt.
    """
    known = _by_worker(stops)
    for account in accounts:
        for before, _, after in _interruptions(account.kept) if account.kept else ():
            why = (*known.get(before.worker, ()), *known.get(REDIS, ()))
            if not _during(before, why, after):
                text = f"attempt {before.attempt} was taken from {before.worker}, which was well"
                moments = [stop.at - before.at for stop in why]
                waited = f"after {after.at - before.at} ms; it was stopped at {moments} ms"
                yield fault(Kind.TAKEN, account, f"{text}, {waited}")


def resumptions(stops: Iterable[Stop], kept: Iterable[Kept]) -> list[int]:
    """Tell how long after each return of Redis the next attempt of any task began, in ms."""
    returns = [stop.until for stop in stops if stop.worker == REDIS]
    begun = sorted(entry.at for one in kept for entry in one.log if entry.type == "started")
    found = ((at, bisect_left(begun, at)) for at in returns)
    return sorted(begun[place] - at for at, place in found if place < len(begun))


def percentile(values: list[int], share: float) -> int | None:
    """Return the smallest of sorted values that this share of them does not exceed."""
    return values[max(0, ceil(len(values) * share) - 1)] if values else None


def _interruptions(kept: Kept) -> Iterator[tuple[Entry, Entry, Entry]]:
    """Yield attempts that were taken over: its start, its last word, and the next one's start."""
    begun = [entry for entry in kept.log if entry.type == "started"]
    for before, after in pairwise(begun):
        if kept.outcomes.get(before.attempt) == "interrupted":
            last = [entry for entry in kept.log if entry.attempt == before.attempt][-1]
            yield before, last, after


def _during(before: Entry, stops: Iterable[Stop], after: Entry) -> list[Stop]:
    return [stop for stop in stops if stop.at <= after.at and before.at <= stop.until + LATE_MS]


def _by_worker(stops: Iterable[Stop]) -> dict[str, list[Stop]]:
    """Sort stops by worker; process ids come again, so a name may have more than one."""
    known: dict[str, list[Stop]] = {}
    for stop in stops:
        known.setdefault(stop.worker, []).append(stop)
    return known
