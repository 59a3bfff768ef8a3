"""One scenario from its first server to its row."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.chaos import books, ledger, stops
from tests.chaos.ledger import Account, Fault, Kind, Totals
from tests.chaos.scenarios import Scenario
from tests.chaos.stage import Stage
from tests.parts.aimock import COMMAND as AIMOCK
from tests.parts.following import KEYS
from tests.parts.need import need
from tests.parts.wait import until

#: Longest wait for the last tasks to end, in seconds: a lost doorbell is rung again after 20 s, a
#: dead worker's task too, and a task may lose three workers.
SETTLE_S: Final = 120.0
#: Longest wait for the list of who must be looked at to be empty, in seconds: a task that ended
#: as its worker was killed is looked at once more when its time has come.
DUE_S: Final = 60.0
#: Longest wait for a worker to tell of the fleet, in seconds: the term of one that was killed, and
#: the time between two elections.
TERM_S: Final = 30.0


@dataclass
class Row:
    """What came of one scenario. All times in ms unless they say otherwise."""

    name: str
    what: str
    #: How often something was broken.
    times: int
    totals: Totals
    #: What is wrong with tasks, in words, but for what is excused.
    faults: list[str]
    #: What is wrong with the run as a whole.
    complaints: list[str]
    #: Faults that cannot be helped, by kind.
    excused: dict[Kind, int]
    #: How long tasks waited for another attempt after their worker was stopped.
    takeovers: list[int]
    #: How long after Redis had come back the first attempt began.
    resumptions: list[int]
    #: Longest that an enqueue took until it was refused, in seconds.
    refused_s: float | None
    #: How long all of it took, in seconds.
    seconds: float = field(default=0.0)
    #: How many endings the workers' counters have too many, or lack.
    miscounted: int = field(default=0)

    @property
    def wrong(self) -> list[str]:
        """All that is wrong, in words; empty where every promise was kept."""
        return self.complaints + self.faults


def run(scenario: Scenario, seed: int, folder: Path) -> Row:
    """Break things, wait for the end of all tasks, and hold the books against each other."""
    need(AIMOCK.exists(), "aimock is not installed; run: npm ci --prefix tests")
    began = time.monotonic()
    name = f"{seed} {scenario.name}"
    chance = Random(name)
    with Stage(folder, scenario.front(folder), scenario.settings, scenario.load, name) as stage:
        stage.start_workers(scenario.workers)
        stage.start_load()
        for fault in scenario.faults:
            try:
                fault(stage, scenario.times, chance)
            except AssertionError as error:
                stage.complaints.append(f"{fault.__name__}: {error}")
        stage.end_load(within=SETTLE_S)
        _settle(stage)
        miscounted = _miscounted(stage)
        for slot in stage.slots:
            slot.leave()
        row = _audit(scenario, stage)
    row.miscounted = miscounted
    row.seconds = time.monotonic() - began
    return row


def _settle(stage: Stage) -> None:
    """Wait until nobody needs to be looked after any more."""
    redis = stage.front.redis
    try:
        until(lambda: not redis.exists(KEYS.due), "an empty list of who is due", within=DUE_S)
    except AssertionError:
        ids: Any = redis.zrange(KEYS.due, 0, -1)
        stage.complaints.append(f"still to be looked after: {[one.decode() for one in ids]}")


def _miscounted(stage: Stage) -> int:
    """Hold what the workers say how many tasks have ended, and how, against every record there is.

    Not one of them may be counted twice or missing, whoever was killed. Return how many are.
    """
    ended = books.count_endings(stage.front.redis)

    def told() -> Counter[str]:
        """Return what the workers say: the one of them that tells."""
        outcomes: Counter[str] = Counter()
        for slot in stage.slots:
            for labels, count in slot.worker.samples("tasks_total").items():
                outcome = dict(label.split("=") for label in labels.split(","))["outcome"]
                outcomes[outcome] += int(count)
        return outcomes

    counted: Counter[str] = Counter()
    try:
        # Whoever told before may have been killed: somebody else does then.
        counted = until(told, "a worker tells of the fleet", within=TERM_S)
    except AssertionError as error:
        stage.complaints.append(str(error))
    if counted != ended:
        stage.complaints.append(f"counted {dict(counted)}, on record {dict(ended)}")
    return ((counted - ended) + (ended - counted)).total()


def _audit(scenario: Scenario, stage: Stage) -> Row:
    redis = stage.front.redis
    notes = books.read_notes(stage.notes)
    accounts = list(books.accounts(redis, notes, stage.aimock))
    stopped = [*stage.absences, *(stop for slot in stage.slots for stop in slot.stops)]
    wrong = [fault for one in accounts for fault in ledger.faults(one, scenario.allowed)]
    wrong += stops.taken(stopped, accounts)
    wrong += [
        Fault(Kind.DOUBLED, note["id"], f"its key was given to {note['other']} too")
        for note in notes["split"]
    ]
    kept = [one.kept for one in accounts if one.kept is not None]
    totals = ledger.total(accounts, wrong)
    return Row(
        name=scenario.name,
        what=scenario.what,
        times=scenario.times * len(scenario.faults),
        totals=totals,
        faults=[
            f"{fault.kind}: task {fault.task_id}, {fault.text}"
            for fault in wrong
            if fault.kind not in scenario.excused
        ],
        complaints=[
            *_complaints(scenario, stage, accounts),
            *(f"key without expiry: {key}" for key in books.keys_for_ever(redis)),
        ],
        excused={kind: totals.faults[kind] for kind in scenario.excused if totals.faults[kind]},
        takeovers=stops.takeovers(stopped, kept),
        resumptions=stops.resumptions(stopped, kept),
        refused_s=max((note["seconds"] for note in notes["refused"]), default=None),
    )


def _complaints(scenario: Scenario, stage: Stage, accounts: list[Account]) -> Iterator[str]:
    """Yield what is wrong with the run as a whole."""
    yield from stage.complaints
    for slot in stage.slots:
        yield from slot.complaints
    if not accounts:
        yield "no task was accepted: nothing was shown"
    if scenario.spends_nothing:
        for one in accounts:
            if one.kept is not None and (one.kept.failures or one.kept.deaths):
                spent = f"{one.kept.failures} failures, {one.kept.deaths} deaths"
                yield f"task {one.task_id} was charged: {spent}"
