"""The ledger of a breaking run: what was promised for each task, and what was kept. Pure.

An account joins what three parties noted of one task, none of which trusts another: the producer
and its subscriber, Redis (record and log), and the router's journal. :func:`faults` holds them
against each other.

How many calls a task may have cost. Each attempt makes one call at most, and

* exactly one, where its outcome stands in the record, or where a chunk of it stands in the log;
* one or none, where its worker was stopped from saying: it died, was drained, lost its lease, or
  could not reach Redis. It may have come to an end between its claim and its call. So it is too
  where the connection broke before any answer: an idle one, kept for the next call, may have been
  closed by the router before the call reached it;
* none, where the task was ended without one (poison).

So ``certain <= calls <= certain + doubtful``. A call beyond that is a stray: no attempt stands for
it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from api_contracts.events import ENDINGS, EventId
from tests.chaos.shapes import USAGE, Shape

#: Outcomes of attempts that cannot tell whether their call has reached the router.
_STOPPED: Final = frozenset({None, "interrupted", "store", "connection"})


class Kind(StrEnum):
    """What may be wrong with a task's account."""

    LOST = "lost"
    DOUBLED = "doubled"
    DIFFERS = "differs"
    CALLS = "calls"
    USAGE = "usage"
    FAILED = "failed"
    TAKEN = "taken"
    STRAY = "stray"
    REWOUND = "rewound"
    BOOKS = "books"


@dataclass(frozen=True)
class Fault:
    """One broken promise."""

    kind: Kind
    task_id: str
    text: str


@dataclass(frozen=True)
class Seen:
    """What a task's subscriber saw: every event's id, the endings, and the text at the end."""

    ids: tuple[str, ...]
    endings: tuple[str, ...]
    text: str
    #: Tokens of the `completed` event: provenance, input, output.
    usage: tuple[str, int | None, int | None] | None = None
    #: How often it was shown an attempt again, since Redis had lost the end of its log.
    rewound: int = 0


@dataclass(frozen=True)
class Answer:
    """The stored result."""

    text: str
    usage: tuple[str, int | None, int | None]
    #: Number, outcome and tokens of each call that it names.
    attempts: tuple[tuple[int, str, tuple[str, int | None, int | None]], ...]


@dataclass(frozen=True)
class Entry:
    """An event in the log; ``worker`` where it is a `started`."""

    id: str
    type: str
    at: int
    worker: str = ""

    @property
    def attempt(self) -> int:
        """Which attempt wrote it."""
        return EventId.parse(self.id).attempt


@dataclass(frozen=True)
class Kept:
    """What Redis has of a task: its record and its log."""

    state: str
    attempt: int
    failures: int
    deaths: int
    #: Outcome by the attempt's number.
    outcomes: Mapping[int, str]
    log: tuple[Entry, ...]
    answer: Answer | None = None
    #: Code of the error that it failed with.
    code: str | None = None
    #: Seconds until record and log expire; -1 never, -2 there is none.
    expires: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Account:
    """All that was noted of one accepted task."""

    task_id: str
    shape: Shape
    seen: Seen | None = None
    kept: Kept | None = None
    calls: int = 0


@dataclass(frozen=True)
class Bounds:
    """How many calls the attempts of a task stand for."""

    certain: int
    doubtful: int


def bounds(kept: Kept) -> Bounds:
    """Count the calls that a record and its log speak of."""
    spoke = {entry.attempt for entry in kept.log if entry.type == "chunk"}
    certain = doubtful = 0
    for number in range(1, kept.attempt + 1):
        outcome = kept.outcomes.get(number)
        if number in spoke or outcome not in _STOPPED:
            certain += 1
        elif not (number == kept.attempt and kept.code == "poison"):
            doubtful += 1
    return Bounds(certain, doubtful)


def faults(account: Account, allowed: frozenset[str] = frozenset()) -> Iterator[Fault]:
    """Yield what is wrong with an account; ``allowed`` are the codes it may have failed with."""
    kept, seen = account.kept, account.seen
    if kept is None or seen is None:
        yield fault(Kind.LOST, account, "no record" if kept is None else "its subscriber waits")
        return
    endings = [entry.type for entry in kept.log if entry.type in ENDINGS]
    if not endings or not seen.endings:
        yield fault(Kind.LOST, account, f"{kept.state}, in the log {endings}, seen {seen.endings}")
        return
    for kind, text in (
        *_endings(kept, seen, endings),
        *_text(account.shape, kept, seen),
        *_calls(kept, account.calls),
        *_usage(kept, seen),
        *_books(kept, allowed),
    ):
        yield fault(kind, account, text)


def fault(kind: Kind, account: Account, text: str) -> Fault:
    """Name what is wrong with an account."""
    return Fault(kind, account.task_id, f"{account.shape.name}: {text}")


def _endings(kept: Kept, seen: Seen, endings: list[str]) -> Iterator[tuple[Kind, str]]:
    """One ending in the log, the same seen, and it is the last that anybody says."""
    if len(endings) > 1 or len(seen.endings) > 1:
        yield Kind.DOUBLED, f"endings in the log {endings}, seen {seen.endings}"
    if (endings[0], endings[0]) != (seen.endings[0], kept.state):
        yield Kind.BOOKS, f"record {kept.state}, log {endings[0]}, seen {seen.endings[0]}"
    if kept.log[-1].type not in ENDINGS:
        yield Kind.DOUBLED, f"{kept.log[-1].id} stands behind the ending"
    places = [EventId.parse(one) for one in seen.ids]
    if sorted(set(places)) != places:
        yield Kind.DOUBLED, "its subscriber saw an event twice, or out of order"


def _text(shape: Shape, kept: Kept, seen: Seen) -> Iterator[tuple[Kind, str]]:
    """Whatever was seen is in the log, the last attempt whole; the texts are one and the same."""
    log = [entry.id for entry in kept.log]
    last = [entry.id for entry in kept.log if entry.attempt == kept.attempt]
    if seen.rewound:
        yield Kind.REWOUND, "its subscriber was shown an attempt again"
    if set(seen.ids) - set(log):
        yield Kind.DIFFERS, f"seen, but not in the log: {sorted(set(seen.ids) - set(log))}"
    if set(last) - set(seen.ids):
        yield Kind.DIFFERS, f"of the last attempt never seen: {sorted(set(last) - set(seen.ids))}"
    if kept.answer is not None:
        if seen.text != kept.answer.text:
            yield Kind.DIFFERS, f"seen {seen.text!r}, stored {kept.answer.text!r}"
        if kept.answer.text != shape.text:
            yield Kind.DIFFERS, f"stored {kept.answer.text!r}, said {shape.text!r}"


def _calls(kept: Kept, calls: int) -> Iterator[tuple[Kind, str]]:
    due = bounds(kept)
    text = f"{calls} calls; {kept.attempt} attempts, {dict(kept.outcomes)}, {due}"
    if calls < due.certain:
        yield Kind.CALLS, text
    elif calls > due.certain + due.doubtful:
        yield Kind.STRAY, text


def _usage(kept: Kept, seen: Seen) -> Iterator[tuple[Kind, str]]:
    """A completed task has one completed call, and says its tokens once: in event and result."""
    if kept.answer is None:
        return
    whole = [usage for _, outcome, usage in kept.answer.attempts if outcome == "completed"]
    if len(whole) != 1 or seen.usage != kept.answer.usage:
        yield Kind.USAGE, f"{len(whole)} completed calls, {seen.usage}, {kept.answer.usage}"
        return
    paid = [usage for *_, usage in kept.answer.attempts if usage[0] != "unavailable"]
    if whole[0] != ("reported", *USAGE):
        yield Kind.USAGE, f"the router reported {USAGE}, the result says {whole[0]}"
    elif len(paid) == 1 and kept.answer.usage != whole[0]:
        yield Kind.USAGE, f"one call cost {whole[0]}, all together {kept.answer.usage}"


def _books(kept: Kept, allowed: frozenset[str]) -> Iterator[tuple[Kind, str]]:
    """The record agrees with itself and its log, ends as it may, and will be gone one day."""
    if kept.state == "completed":
        if kept.answer is None:
            yield Kind.LOST, "completed without a result"
        elif {number: outcome for number, outcome, _ in kept.answer.attempts} != kept.outcomes:
            yield Kind.BOOKS, f"result {kept.answer.attempts}, record {dict(kept.outcomes)}"
    elif kept.answer is not None:
        yield Kind.DOUBLED, f"{kept.state} with a result"
    elif kept.code not in allowed:
        yield Kind.FAILED, f"{kept.state}: {kept.code}"
    started = [entry.attempt for entry in kept.log if entry.type == "started"]
    if started != list(range(1, kept.attempt + 1)):
        yield Kind.BOOKS, f"{kept.attempt} attempts, but started {started}"
    if min(kept.expires) < 0:
        yield Kind.BOOKS, f"never expires: {kept.expires}"


@dataclass
class Totals:
    """A run's sums."""

    tasks: int = 0
    attempts: int = 0
    calls: int = 0
    #: Attempts that were stopped, so that nobody could know whether they had called.
    doubtful: int = 0
    failures: int = 0
    #: Tasks by how they ended: `completed`, or the code of their error.
    endings: Counter[str] = field(default_factory=Counter)
    #: Tasks by what is wrong with them.
    faults: Counter[Kind] = field(default_factory=Counter)


def total(accounts: Iterable[Account], wrong: Iterable[Fault]) -> Totals:
    """Sum up accounts and their faults; a task counts once in each column."""
    sums = Totals()
    for account in accounts:
        sums.tasks += 1
        sums.calls += account.calls
        if account.kept is not None:
            sums.attempts += account.kept.attempt
            sums.failures += account.kept.failures
            sums.doubtful += bounds(account.kept).doubtful
            sums.endings[account.kept.code or account.kept.state] += 1
    sums.faults.update(kind for kind, _ in {(fault.kind, fault.task_id) for fault in wrong})
    return sums
