"""The ledger: good accounts pass, and every broken promise is found and named."""

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.ledger import (
    Account,
    Answer,
    Bounds,
    Entry,
    Fault,
    Kept,
    Kind,
    Seen,
    bounds,
    faults,
    total,
)
from tests.chaos.shapes import USAGE, Shape

SHAPE = Shape("three", "one two")
REPORTED = ("reported", *USAGE)
UNKNOWN = ("unavailable", None, None)


def log(*events: str) -> tuple[Entry, ...]:
    """A log of events such as `1-0 started`, one ms apart; attempt n is worker `w-n`'s."""
    pairs = [event.split() for event in events]
    return tuple(
        Entry(place, kind, at, f"w-{place[0]}" if kind == "started" else "")
        for at, (place, kind) in enumerate(pairs, 1)
    )


def answer(*attempts: Any, text: str = "one two", usage: Any = REPORTED) -> Answer:
    return Answer(text, usage, attempts or ((1, "completed", REPORTED),))


LOG = log("0-1 queued", "1-0 started", "1-1 chunk", "1-2 chunk", "1-3 completed")
GOOD = Account(
    "t",
    SHAPE,
    Seen(tuple(entry.id for entry in LOG), ("completed",), "one two", REPORTED),
    Kept("completed", 1, 0, 0, {1: "completed"}, LOG, answer()),
    calls=1,
)
#: Its first worker died behind a chunk, its second before it had sent anything.
TWICE_LOG = log(
    "0-1 queued", "1-0 started", "1-1 chunk", "2-0 started",
    "3-0 started", "3-1 chunk", "3-2 chunk", "3-3 completed",
)  # fmt: skip
DIED = (
    (1, "interrupted", UNKNOWN), (2, "interrupted", UNKNOWN), (3, "completed", REPORTED),
)  # fmt: skip
TWICE = Account(
    "t",
    SHAPE,
    # Who comes late need not see chunks that are void.
    Seen(("0-1", "1-0", "2-0", "3-0", "3-1", "3-2", "3-3"), ("completed",), "one two", REPORTED),
    Kept(
        "completed",
        3,
        0,
        2,
        {number: outcome for number, outcome, _ in DIED},
        TWICE_LOG,
        answer(*DIED),
    ),
    calls=2,
)
POISON_LOG = log(
    "0-1 queued", "1-0 started", "2-0 started", "3-0 started", "4-0 started", "4-1 failed"
)
POISON = Account(
    "t",
    SHAPE,
    Seen(tuple(entry.id for entry in POISON_LOG), ("failed",), ""),
    Kept(
        "failed", 4, 1, 3, dict.fromkeys((1, 2, 3), "interrupted"), POISON_LOG, None, "poison"
    ),
    calls=3,
)  # fmt: skip


def kept(account: Account, **changes: Any) -> Account:
    assert account.kept is not None
    return replace(account, kept=replace(account.kept, **changes))


def seen(account: Account, **changes: Any) -> Account:
    assert account.seen is not None
    return replace(account, seen=replace(account.seen, **changes))


def kinds(account: Account, *allowed: str) -> set[Kind]:
    return {fault.kind for fault in faults(account, frozenset(allowed))}


@pytest.mark.parametrize(
    "account",
    [
        pytest.param(GOOD, id="one attempt"),
        pytest.param(TWICE, id="two dead workers, one of them before its call"),
        pytest.param(replace(TWICE, calls=3), id="two dead workers, both behind their call"),
        pytest.param(POISON, id="poison"),
        pytest.param(replace(POISON, calls=0), id="poison, each worker dead before its call"),
        pytest.param(kept(GOOD, failures=1), id="failures are a matter of their own"),
    ],
)
def test_a_good_account_has_no_fault(account: Account) -> None:
    assert list(faults(account, frozenset({"poison"}))) == []


@pytest.mark.parametrize(
    ("account", "found"),
    [
        pytest.param(replace(GOOD, kept=None), Kind.LOST, id="no record"),
        pytest.param(replace(GOOD, seen=None), Kind.LOST, id="nobody saw it end"),
        pytest.param(kept(GOOD, log=LOG[:-1], state="running"), Kind.LOST, id="no ending"),
        pytest.param(seen(GOOD, endings=()), Kind.LOST, id="no ending seen"),
        pytest.param(kept(GOOD, answer=None), Kind.LOST, id="no result"),
        pytest.param(
            kept(GOOD, log=(*LOG, *log("1-4 failed"))), Kind.DOUBLED, id="two endings in the log"
        ),
        pytest.param(
            seen(GOOD, endings=("completed", "completed")), Kind.DOUBLED, id="two endings seen"
        ),
        pytest.param(
            kept(GOOD, log=(*LOG, *log("2-0 started"))), Kind.DOUBLED, id="on after the ending"
        ),
        pytest.param(
            seen(GOOD, ids=("0-1", "1-0", "1-1", "1-1", "1-2", "1-3")), Kind.DOUBLED,
            id="an event seen twice",
        ),
        pytest.param(
            seen(GOOD, ids=("0-1", "1-0", "1-2", "1-1", "1-3")), Kind.DOUBLED, id="out of order"
        ),
        pytest.param(kept(POISON, answer=answer()), Kind.DOUBLED, id="failed with a result"),
        pytest.param(seen(GOOD, text="one"), Kind.DIFFERS, id="a piece is missing"),
        pytest.param(kept(GOOD, answer=answer(text="one")), Kind.DIFFERS, id="stored short"),
        pytest.param(
            seen(kept(GOOD, answer=answer(text="two")), text="two"), Kind.DIFFERS,
            id="another task's text",
        ),
        pytest.param(
            seen(GOOD, ids=("0-1", "1-0", "1-1", "1-3")), Kind.DIFFERS, id="a chunk never seen"
        ),
        pytest.param(
            seen(GOOD, ids=(*(entry.id for entry in LOG[:-1]), "1-3", "1-4")), Kind.DIFFERS,
            id="seen, but not in the log",
        ),
        pytest.param(replace(GOOD, calls=0), Kind.CALLS, id="no call"),
        pytest.param(seen(GOOD, rewound=1), Kind.REWOUND, id="shown again"),
        pytest.param(replace(GOOD, calls=2), Kind.STRAY, id="a call that no attempt stands for"),
        pytest.param(replace(TWICE, calls=1), Kind.CALLS, id="a chunk without a call"),
        pytest.param(replace(TWICE, calls=4), Kind.STRAY, id="more calls than attempts"),
        pytest.param(replace(POISON, calls=4), Kind.STRAY, id="a call of the poisoned attempt"),
        pytest.param(seen(GOOD, usage=None), Kind.USAGE, id="an ending without usage"),
        pytest.param(
            seen(GOOD, usage=("reported", 1, 1)), Kind.USAGE, id="event and result disagree"
        ),
        pytest.param(
            kept(GOOD, answer=answer((1, "completed", ("reported", 24, 14)))), Kind.USAGE,
            id="the tokens of two",
        ),
        pytest.param(
            kept(GOOD, answer=answer(*[(1, "completed", REPORTED)] * 2)), Kind.USAGE,
            id="two completed calls",
        ),
        pytest.param(
            seen(kept(GOOD, answer=answer(usage=UNKNOWN)), usage=UNKNOWN), Kind.USAGE,
            id="a sum that forgets its only call",
        ),
        pytest.param(kept(POISON, code="store"), Kind.FAILED, id="a failure nobody expects"),
        pytest.param(kept(GOOD, outcomes={}), Kind.BOOKS, id="a result the record knows not of"),
        pytest.param(kept(GOOD, state="failed"), Kind.BOOKS, id="record and log disagree"),
        pytest.param(
            kept(TWICE, attempt=4, outcomes=dict.fromkeys(range(1, 5), "interrupted")), Kind.BOOKS,
            id="an attempt that never started",
        ),
        pytest.param(kept(GOOD, expires=(-1, 9)), Kind.BOOKS, id="a record for ever"),
        pytest.param(kept(GOOD, expires=(9, -2)), Kind.BOOKS, id="a log that is gone"),
    ],
)  # fmt: skip
def test_a_broken_promise_is_found(account: Account, found: Kind) -> None:
    assert found in kinds(account, "poison")


def test_a_failure_must_be_one_that_the_fault_is_made_for() -> None:
    assert kinds(POISON) == {Kind.FAILED}


def test_attempts_that_could_not_tell_leave_their_calls_open() -> None:
    attempts = {1: "interrupted", 2: "store", 3: "connection", 4: "rate_limited"}
    history = log(
        "0-1 queued", "1-0 started", "1-1 chunk", "2-0 started", "3-0 started",
        "4-0 started", "4-1 retrying", "5-0 started",
    )  # fmt: skip
    assert bounds(Kept("running", 5, 0, 0, attempts, history)) == Bounds(certain=2, doubtful=3)


def test_a_task_counts_once_in_each_column() -> None:
    wrong = [Fault(Kind.LOST, "t", ""), Fault(Kind.LOST, "t", ""), Fault(Kind.CALLS, "t", "")]
    sums = total([TWICE, POISON], wrong)
    assert (sums.tasks, sums.attempts, sums.calls, sums.doubtful) == (2, 7, 5, 4)
    assert sums.endings == {"completed": 1, "poison": 1}
    assert sums.faults == {Kind.LOST: 1, Kind.CALLS: 1}
