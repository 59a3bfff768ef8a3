"""What workers, queues and tasks say of the system, as ``top`` reads them. Pure.

What one look cannot tell from a system that is busy, or that just rolls over to another version, is
an advice: one worker that is silent may have been replaced. It is wrong where nobody works.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Final

from api_contracts.client.record import MESSAGE
from api_contracts.errors import ErrorCode
from api_contracts.names import Queue
from worker.cli.doctor.finding import (
    NAMED,
    Finding,
    advice,
    bad,
    counted,
    good,
    listed,
    unseen,
)
from worker.cli.doctor.server import ASK_OPERATOR, SKEW_S
from worker.cli.terminal import one_line
from worker.cli.top.model import FailureLine, Overview, QueueLine, WorkerLine
from worker.cli.words import seconds
from worker.store.view import DEAD_FIELDS, LETTERS, TASK_FIELDS, Reading

#: How long somebody may wait for a slot, in seconds, before more workers are advised: as the alert
#: RouterWorkerTasksWait has it.
WAITS_S: Final = 10.0
#: How long a task may be due before nobody seems to look after it, in seconds: each worker does
#: every 3 s, and may have much to catch up with.
OVERDUE_S: Final = 30.0
#: Characters of a name that are shown: anybody may have given it.
_NAME: Final = 80
#: Characters of a worker's fault that are shown.
_FAULT: Final = 200
#: Longest duration that is told, in seconds: 30 years. Moments are anybody's.
_LONGEST_S: Final = 1e9
_TASK_MODEL: Final = TASK_FIELDS.index("model")
_LETTER_MODEL: Final = DEAD_FIELDS.index("model")
#: What mends the cause of dead letters, where it is not in what the tasks ask.
_CAUSES: Final = {
    ErrorCode.AUTHENTICATION: "set a valid key",
    ErrorCode.PAYMENT_REQUIRED: "top up the router's account",
    ErrorCode.NO_KEY: "give workers the key that their errors name",
}


def unreadable(why: str) -> Finding:
    """Say that nothing can be told of the fleet."""
    says = "which workers live, what waits, what is overdue, and what is dead"
    return unseen("workers", says, f"Redis does not tell ({one_line(why)}): {ASK_OPERATOR}")


def check_fleet(reading: Reading, seen: Overview) -> Iterator[Finding]:
    """Check workers, waiting, who looks after tasks, dead letters; ``seen`` is the reading's."""
    yield _workers(seen)
    yield from _each_worker(seen.workers)
    yield from _clocks(reading)
    yield from _waiting(seen)
    yield from _overdue(reading, seen)
    yield _letters(seen)


def check_prices(priced: Collection[str], reading: Reading) -> Iterator[Finding]:
    """Name the models in use that have no price, where any has one."""
    if not priced:
        return
    fields = [values[_TASK_MODEL] for values in reading.tasks.values()]
    fields += [letter.fields[_LETTER_MODEL] for letter in reading.letters]
    models = {model.decode(errors="replace") for model in fields if model}
    unpriced = sorted(map(_short, models - set(priced)))
    if unpriced:
        says = f"no price for {listed(unpriced)}: what they cost is not counted"
        yield advice("prices", says, "add them to the file that ROUTER_WORKER_PRICES names")
    else:
        yield good("prices", f"known for {counted(len(priced), 'model')}")


def _takes(worker: WorkerLine) -> bool:
    return worker.alive and worker.fault is None and worker.slots is not None


def _workers(seen: Overview) -> Finding:
    check = "workers"
    able = [worker for worker in seen.workers if _takes(worker)]
    if able:
        slots, taken = sum(one.slots or 0 for one in able), sum(one.taken or 0 for one in able)
        who = counted(len(able), "worker")
        return good(check, f"tasks are taken by {who}; {taken} of {slots} slots are in use")
    says = "none takes tasks" if seen.workers else "none has given a sign in the last 10 minutes"
    remedy = "look at the workers' logs, or start one: router-worker run"
    if seen.open_tasks:
        return bad(check, f"{says}, with {counted(seen.open_tasks, 'open task')}", remedy)
    return advice(check, f"{says}; nothing waits for one", remedy)


def _each_worker(workers: Collection[WorkerLine]) -> Iterator[Finding]:
    """Tell of those that somebody should look at."""
    troubled = [worker for worker in workers if not _takes(worker)]
    for worker in troubled[:NAMED]:
        name = _short(worker.name)
        if not worker.alive:
            says = f"{name} gave its last sign {_ago(worker.sign_s)} ago"
            remedy = "it died, stands still, or its clock is behind: look at its log and machine"
        elif worker.slots is None:
            says = f"{name} gives a sign that cannot be read"
            remedy = "is it of another version? If not, somebody else writes to Redis"
        else:
            says = f"{name} takes no tasks: {one_line(worker.fault or '')[:_FAULT]}"
            remedy = "if it stays so, restart it: its tasks are handed back"
        yield advice("workers", says, remedy)
    if len(troubled) > NAMED:
        says = f"{len(troubled) - NAMED} more give no sign, or take no tasks"
        yield advice("workers", says, "router-worker top shows them all")


def _clocks(reading: Reading) -> Iterator[Finding]:
    """Name the workers whose clock is ahead: their signs come from the future."""
    ahead = [one for one in reading.signs if one.at - reading.now_ms > SKEW_S * 1000]
    if ahead:
        names = listed([_short(one.worker) for one in ahead])
        says = f"the clocks of {names} are ahead of Redis's by more than {SKEW_S:g} s"
        yield bad("clock", says, "let their machines keep time by NTP")


def _waiting(seen: Overview) -> Iterator[Finding]:
    """Tell where tasks wait for long, and whether slots are free meanwhile."""
    able = [worker for worker in seen.workers if _takes(worker)]
    free = sum(max(0, (one.slots or 0) - (one.taken or 0)) for one in able)
    for queue in seen.queues:
        if able and _is_late(queue, free):
            waits = _ago(queue.oldest_s or 0.0)
            says = f"{queue.name}: {queue.waiting} wait, the oldest for {waits}; {free} slots free"
            remedy = (
                "no worker with free slots serves it: name it in ROUTER_WORKER_QUEUES of one"
                if free
                else "start more workers, or give them more slots (ROUTER_WORKER_CONCURRENCY)"
            )
            yield advice("waiting", says, remedy)


def _is_late(queue: QueueLine, free: int) -> bool:
    """Tell whether a queue waits too long: a batch may, unless slots are free."""
    late = queue.oldest_s is not None and queue.oldest_s > WAITS_S
    return late and (bool(free) or queue.name == Queue.INTERACTIVE)


def _overdue(reading: Reading, seen: Overview) -> Iterator[Finding]:
    """Say whether tasks are looked after; without a worker that could, its absence says it."""
    if not any(_takes(worker) for worker in seen.workers) or reading.soonest_ms is None:
        return
    late_s = (reading.now_ms - reading.soonest_ms) / 1000
    says = counted(seen.open_tasks, "open task")
    if late_s > OVERDUE_S:
        says = f"{says}; the first should have been looked at {_ago(late_s)} ago, and was not"
        remedy = "no worker can reap: their logs say why (`nobody was looked after`)"
        yield bad("overdue", says, remedy)
    else:
        yield good("overdue", f"{says}, none of which is overdue")


def _letters(seen: Overview) -> Finding:
    check = "dead letters"
    if not seen.dead_letters:
        return good(check, "none")
    codes = Counter(_reason(one) for one in seen.failures)
    told = ", ".join(f"{count} {code}" for code, count in codes.most_common(NAMED))
    reasons = f": {told}" if told else ""
    newest = f"; the newest died {_ago(seen.failures[0].ago_s)} ago" if seen.failures else ""
    of = f" (of the last {LETTERS})" if seen.dead_letters > LETTERS else ""
    causes = [remedy for code, remedy in _CAUSES.items() if code in codes]
    steps = [*causes, "router-worker dead list; mend the cause, then dead replay or dead drop"]
    return advice(check, f"{seen.dead_letters}{reasons}{of}{newest}", "; ".join(steps))


def _reason(letter: FailureLine) -> str:
    """Say in a word why it is dead."""
    return "no task" if letter.kind == MESSAGE else letter.code or "unknown"


def _ago(duration_s: float) -> str:
    return seconds(int(min(duration_s, _LONGEST_S) * 1000))


def _short(name: str) -> str:
    return one_line(name)[:_NAME]
