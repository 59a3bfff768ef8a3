"""What a look at a task that is due comes to, as ``look.lua`` says it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from api_contracts.client.record import count
from api_contracts.names import Queue, State
from api_contracts.requests import CELERY_TASKS


class Word(StrEnum):
    """What is to be done for a task; the words of ``look.lua``."""

    OVER = "over"
    WAIT = "wait"
    RING = "ring"


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be done for a task, and when it is due to be looked at again, in unix ms."""

    task_id: str
    word: Word
    at: int = 0
    kind: str = ""
    queue: Queue = Queue.INTERACTIVE
    #: State of a task that is rung for: what was lost tells itself from it.
    state: State = State.QUEUED
    #: Whether a task that is over was cancelled, and behind which claim; what is to be counted.
    cancelled: bool = False
    attempt: int = 0
    uncounted: str = ""


def read_look(task_id: str, reply: Sequence[bytes]) -> Look:
    """Read the reply of ``look.lua``."""
    word, *rest = reply
    if word == b"over":
        ended, told, attempt, uncounted = rest
        return Look(
            task_id,
            Word.OVER,
            kind=told.decode(errors="replace"),
            cancelled=ended == State.CANCELLED.encode(),
            attempt=count(attempt),
            uncounted=uncounted.decode(errors="replace"),
        )
    if word == b"wait":
        return Look(task_id, Word.WAIT, int(rest[0]))
    kind, queue, state = (part.decode(errors="replace") for part in rest[1:])
    known = Queue.BATCH if queue == Queue.BATCH else Queue.INTERACTIVE
    # A kind that nobody knows is rung for all the same: the claim ends it with its reason.
    kind = kind if kind in CELERY_TASKS else "chat"
    return Look(task_id, Word.RING, int(rest[0]), kind, known, State(state))
