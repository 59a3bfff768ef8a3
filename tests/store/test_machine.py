"""Several workers, one task, and everything that may go wrong between them.

Hypothesis chooses who does what and when: claims, batches, ends, heartbeats; workers that die,
sleep past their lease, or send a batch again because the reply was lost; somebody who cancels the
task, or replays it. A model of a few lines says what each script must answer; after every step
log and record must be as it says.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from api_contracts.events import ENDINGS, Started, parse_event
from api_contracts.names import State
from tests.parts.scripts import Scripts, a_task, chunk, listening
from worker.claim import Claim, NotClaimed

#: A moment that does not come while a test runs, in unix ms.
NEVER = 99_999_999_999_999
WORKERS = st.sampled_from(["ann", "bob", "cleo"])
#: One of those who believe that they have an attempt.
SEATED = st.runner().flatmap(lambda machine: st.sampled_from(sorted(machine.seats)))
#: Most ends let the task go on: it is retried, or may be replayed.
ENDS = st.sampled_from([State.RETRYING, State.FAILED] * 3 + [State.COMPLETED, State.CANCELLED])
#: The last batch of a worker, to be sent again, and what its calls must answer then.
Batch = list[tuple[Callable[[], Any], Callable[[], int]]]


@dataclass
class Seat:
    """What one worker believes."""

    token: str
    attempt: int = 0
    seq: int = 0
    batch: Batch | None = None


class Workers(RuleBasedStateMachine):
    """One task and who works on it."""

    redis: ClassVar[redis.Redis]

    def __init__(self) -> None:
        super().__init__()
        self.scripts = Scripts(self.redis)
        self.task_id = (task := a_task()).id
        self.stack = ExitStack()
        self.heard = self.stack.enter_context(listening(self.redis, self.task_id))
        self.scripts.create(task)
        self.tokens: Iterator[str] = (f"token {n}" for n in range(10**6))
        self.seats: dict[str, Seat] = {}
        # The model: what record and log must be.
        self.state, self.attempt, self.token = State.QUEUED, 0, ""
        self.lease_over = self.due = False
        self.fate, self.patience = "", 0
        self.places = [("0-1", "queued")]
        self.replays, self.told = 0, list[bytes]()

    @initialize(
        fate=st.sampled_from(["begun"] * 8 + ["refused", "too late"]), patience=st.integers(0, 60)
    )
    def decide_its_fate(self, fate: str, patience: int) -> None:
        """Most tasks are begun, and nobody cancels them for so many steps.

        Those that are not end too soon to show much.
        """
        self.fate, self.patience = fate, patience
        if fate == "too late":
            self.scripts.set(self.task_id, expires_at=1)

    # What workers do.

    @rule(name=WORKERS, resend=st.booleans())
    def claim(self, name: str, *, resend: bool) -> None:
        seat = self.seats.get(name)
        if not (resend and seat is not None and seat.batch is None):
            seat = Seat(next(self.tokens))
        answer = self.scripts.claim(self.task_id, seat.token, worker=name)
        expected = self.claimed(seat.token)
        if isinstance(expected, NotClaimed):
            assert answer is expected
            self.seats.pop(name, None)
        else:
            assert isinstance(answer, Claim)
            assert answer.attempt == expected
            seat.attempt = expected
            self.seats[name] = seat

    @precondition(lambda self: self.seats)
    @rule(name=SEATED, count=st.integers(1, 3), end=st.none() | ENDS)
    def send(self, name: str, count: int, end: State | None) -> None:
        seat = self.seats[name]
        seat.batch = [self.appending(seat, count)]
        if end is not None:
            seat.batch.append(self.settling(seat, end))
        self.run(seat.batch)

    @precondition(lambda self: self.seats)
    @rule(name=SEATED, end=ENDS)
    def end(self, name: str, end: State) -> None:
        seat = self.seats[name]
        seat.batch = [self.settling(seat, end)]
        self.run(seat.batch)

    @precondition(lambda self: self.seats)
    @rule(name=SEATED)
    def send_again(self, name: str) -> None:
        """The reply was lost: the whole batch goes out once more, however late."""
        self.run(self.seats[name].batch or [])

    @precondition(lambda self: self.seats)
    @rule(name=SEATED)
    def renew(self, name: str) -> None:
        seat = self.seats[name]
        ours = self.holds(seat)
        assert (self.scripts.renew(self.task_id, seat.attempt) > 0) is ours
        self.lease_over = self.lease_over and not ours

    @precondition(lambda self: self.seats)
    @rule(name=SEATED)
    def die(self, name: str) -> None:
        del self.seats[name]

    @precondition(lambda self: self.state != State.QUEUED or self.fate == "refused")
    @precondition(lambda self: not self.replays)
    @rule()
    def refuse(self) -> None:
        """Somebody ends the task before its first attempt."""
        ours = self.state == State.QUEUED or (self.state, self.attempt) == (State.FAILED, 0)
        assert self.scripts.settle(self.task_id, "0-2", State.FAILED) == int(ours)
        if self.state == State.QUEUED:
            self.ended("0-2", State.FAILED)

    # What others do.

    @precondition(lambda self: self.patience <= 0)
    @rule()
    def cancel(self) -> None:
        word = self.state if self.state.ended else State.CANCELLED
        assert self.scripts.cancel(self.task_id) == word.encode()
        if not self.state.ended:
            self.ended(self.behind_the_last(), State.CANCELLED)

    @precondition(lambda self: self.state == State.FAILED)
    @rule(again=st.booleans())
    def replay(self, *, again: bool) -> None:
        """``again``: the reply was lost."""
        looked_at = str(self.replays) if self.replays else ""
        log = self.scripts.log(self.task_id)
        for _ in range(1 + again):
            assert self.scripts.replay(self.task_id, looked_at) == b"replayed"
        self.told += [event for _, event in log]
        self.places = [(self.behind_the_last(), "queued")]
        self.replays += 1
        self.state, self.fate = State.QUEUED, "begun"

    # What time does.

    @precondition(lambda self: self.state == State.RUNNING)
    @rule()
    def lease_runs_out(self) -> None:
        self.scripts.set(self.task_id, lease_until=1)
        self.lease_over = True

    @precondition(lambda self: self.state == State.RETRYING)
    @rule()
    def retry_falls_due(self) -> None:
        self.scripts.set(self.task_id, due_at=1)
        self.due = True

    # What must be so.

    @invariant()
    def log_and_record_are_as_the_model_says(self) -> None:
        self.patience -= 1
        log = self.scripts.log(self.task_id)
        assert [(place, parse_event(event).type) for place, event in log] == self.places
        assert all(parse_event(event).id == place for place, event in log)
        record = self.scripts.record(self.task_id)
        said = record[b"state"].decode(), int(record[b"attempt"])
        assert said == (self.state, self.attempt)

    def teardown(self) -> None:
        with self.stack:
            published = self.heard()
        log = self.scripts.log(self.task_id)
        told = [*self.told, *(event for _, event in log)]
        assert published == told, "each event is published once"
        events = [parse_event(event) for event in published]
        assert all(one.cursor < two.cursor for one, two in pairwise(events))
        behind = [two.type for one, two in pairwise(events) if one.type in ENDINGS]
        assert behind == ["queued"] * self.replays, "nothing behind an ending but a replay"
        begun = [(n, event) for n, event in enumerate(events) if isinstance(event, Started)]
        assert [event.attempt for _, event in begun] == list(range(1, len(begun) + 1))
        for n, event in begun:
            assert event.resets is any(one.type == "chunk" for one in events[:n])
        self.redis.delete(*self.redis.keys())

    # The model.

    def holds(self, seat: Seat) -> bool:
        return self.state == State.RUNNING and seat.attempt == self.attempt

    def claimed(self, token: str) -> int | NotClaimed:
        """What a claim must answer: why not, or the number of its attempt."""
        if self.state == State.RUNNING and token == self.token:
            self.lease_over = False
            return self.attempt
        if self.state == State.RUNNING and not self.lease_over:
            return NotClaimed.HELD
        if self.state == State.RETRYING and not self.due:
            return NotClaimed.EARLY
        if self.state.ended:
            return NotClaimed.ENDED
        if self.attempt == 0 and self.fate == "too late":
            self.ended("0-2", State.EXPIRED)
            return NotClaimed.EXPIRED
        self.state, self.attempt, self.token = State.RUNNING, self.attempt + 1, token
        self.lease_over = self.due = False
        self.places.append((f"{self.attempt}-0", "started"))
        return self.attempt

    def appending(self, seat: Seat, count: int) -> tuple[Callable[[], Any], Callable[[], int]]:
        attempt, first = seat.attempt, seat.seq + 1
        seat.seq += count
        events = [chunk(self.task_id, attempt, seq) for seq in range(first, seat.seq + 1)]
        places = [(f"{attempt}-{seq}", "chunk") for seq in range(first, seat.seq + 1)]

        def expected() -> int:
            if not self.holds(seat):
                return 0
            self.places += [place for place in places if place not in self.places]
            return 1

        return lambda: self.scripts.append(self.task_id, attempt, first, *events), expected

    def settling(self, seat: Seat, end: State) -> tuple[Callable[[], Any], Callable[[], int]]:
        seat.seq += 1
        place = f"{seat.attempt}-{seat.seq}"

        def expected() -> int:
            if self.holds(seat):
                self.ended(place, end)
                return 1
            return int(self.places[-1] == (place, end))

        return lambda: self.scripts.settle(self.task_id, place, end, due_at=NEVER), expected

    def behind_the_last(self) -> str:
        attempt, _, seq = self.places[-1][0].partition("-")
        return f"{attempt}-{int(seq) + 1}"

    def ended(self, place: str, state: State) -> None:
        self.state, self.due = state, False
        self.places.append((place, state))

    @staticmethod
    def run(batch: Batch) -> None:
        for call, expected in batch:
            assert call() == expected()


def test_whatever_workers_do_the_log_is_one_story_with_one_ending(any_redis: redis.Redis) -> None:
    class Here(Workers):
        redis = any_redis

    run_state_machine_as_test(Here, settings=settings(max_examples=100, stateful_step_count=50))
