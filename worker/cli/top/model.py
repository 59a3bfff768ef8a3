"""What ``top`` shows, made of what was read. Pure.

Anybody may have written that: what cannot be read counts as not said, and texts are as they came.
Whoever shows them to a person takes out of them what a terminal would obey.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from api_contracts.client.box import Box
from api_contracts.client.keyring import NO_KEYS
from api_contracts.client.record import LETTER_FIELDS, count, read_letter
from api_contracts.client.submission import rung_at
from api_contracts.errors import TaskError
from api_contracts.names import State
from worker.presence import SILENT_S
from worker.store.view import DEAD_FIELDS, PACE_CHUNKS, TASK_FIELDS, Letter, Reading, Sign, Values

#: Longest duration that is told, in seconds: 30 years. Moments are anybody's.
_LONGEST_S: Final = 1e9


@dataclass(frozen=True, slots=True)
class QueueLine:
    """A queue. ``oldest_s`` is None where nothing waits, or where the oldest is no doorbell."""

    name: str
    waiting: int
    oldest_s: float | None


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """A worker. Figures are those of its last sign; None where they cannot be read.

    ``alive``: it has given a sign within the last :data:`~worker.presence.SILENT_S`. ``fault`` is
    why it takes no tasks, None where it does.
    """

    name: str
    alive: bool
    sign_s: float
    slots: int | None
    taken: int | None
    attempts_per_s: float | None
    fault: str | None


@dataclass(frozen=True, slots=True)
class StreamLine:
    """An attempt that runs. Ages are in seconds, of this attempt; None where its log lacks them.

    ``chunks_per_s`` is the pace of its last chunks up to now, so that it falls in a silence.
    ``orphaned``: its lease has ended, so its worker is dead or stands still.
    """

    task_id: str
    model: str | None
    worker: str
    attempt: int
    age_s: float | None
    chunks: int
    chunks_per_s: float | None
    last_chunk_s: float | None
    orphaned: bool


@dataclass(frozen=True, slots=True)
class RetryLine:
    """A task whose last call failed. ``due_s`` is how long its next one waits; less than 0: late.

    What the router said of the failure is not among it, since that may quote a prompt.
    """

    task_id: str
    model: str | None
    attempt: int
    due_s: float
    code: str | None
    status: int | None


@dataclass(frozen=True, slots=True)
class FailureLine:
    """A dead letter, without what the router said of it; ``router-worker dead show`` has that."""

    task_id: str
    kind: str
    model: str | None
    ago_s: float
    code: str | None
    status: int | None


@dataclass(frozen=True, slots=True)
class Overview:
    """All of it. ``looked_at`` of the ``open_tasks`` were looked at; ``at`` is unix time in ms."""

    at: int
    open_tasks: int
    looked_at: int
    #: Tasks that run now, as far as workers say so and records were looked at.
    running: int
    dead_letters: int
    queues: Sequence[QueueLine]
    workers: Sequence[WorkerLine]
    streams: Sequence[StreamLine]
    retries: Sequence[RetryLine]
    failures: Sequence[FailureLine]


def overview(reading: Reading) -> Overview:
    """Make it of what was read.

    Workers that need somebody come first, then by name; streams by age, retries by when they are
    due, failures the newest first.
    """
    now = reading.now_ms
    workers = [_worker(sign, now) for sign in reading.signs]
    streams = [_stream(one, reading.tasks[one], told, now) for one, told in reading.streams.items()]
    records = [dict(zip(TASK_FIELDS, values, strict=True)) for values in reading.tasks.values()]
    states = [record["state"] for record in records]
    taken = sum(worker.taken or 0 for worker in workers if worker.alive)
    return Overview(
        at=now,
        open_tasks=reading.open_tasks,
        looked_at=min(len(records), reading.open_tasks),
        running=max(taken, states.count(State.RUNNING.encode())),
        dead_letters=reading.dead_letters,
        queues=[_queue(name, *waiting, now) for name, waiting in reading.queues.items()],
        workers=sorted(workers, key=lambda one: (one.alive, one.fault is None, one.name)),
        streams=sorted(streams, key=lambda one: -(one.age_s or 0.0)),
        retries=sorted(_retries(reading), key=lambda one: one.due_s),
        failures=list(_failures(reading)),
    )


def _queue(name: str, waiting: int, oldest: bytes, now: int) -> QueueLine:
    at = rung_at(oldest) if oldest else None
    known = at is not None and 0 < at <= now
    return QueueLine(str(name), waiting, _since(at, now) if known else None)


def _worker(sign: Sign, now: int) -> WorkerLine:
    sign_s = max(0.0, _bounded(now - sign.at))
    said = sign.said
    return WorkerLine(
        name=sign.worker,
        alive=sign_s <= SILENT_S,
        sign_s=sign_s,
        slots=None if said is None else said.slots,
        taken=None if said is None else said.taken,
        attempts_per_s=None if said is None else round(said.attempts_per_s, 3),
        fault=None if said is None else said.fault,
    )


def _stream(task_id: str, values: Values, told: Sequence[Any], now: int) -> StreamLine:
    record = dict(zip(TASK_FIELDS, values, strict=True))
    began, chunks, last, before = told or (b"", 0, b"", b"")
    return StreamLine(
        task_id=task_id,
        model=_text(record["model"]),
        worker=_text(record["worker"]) or "",
        attempt=count(record["attempt"]),
        age_s=_since(count(began), now),
        chunks=chunks,
        chunks_per_s=_pace(chunks, count(last), count(before), now),
        last_chunk_s=_since(count(last), now),
        orphaned=count(record["lease_until"]) <= now,
    )


def _pace(chunks: int, last: int, before: int, now: int) -> float | None:
    """Return the pace of the chunks behind the one that came at ``before``, up to now.

    None where there is none behind it, or they came in no time. Chunks have the clock of their
    worker, which may be ahead of Redis's.
    """
    behind = min(chunks - 1, PACE_CHUNKS)
    took_s = (max(now, last) - before) / 1000
    return round(behind / took_s, 2) if behind > 0 and before and took_s > 0 else None


def _retries(reading: Reading) -> Iterator[RetryLine]:
    for task_id, values in reading.tasks.items():
        record = dict(zip(TASK_FIELDS, values, strict=True))
        if record["state"] == State.RETRYING.encode():
            error = _error(record["error"])
            yield RetryLine(
                task_id=task_id,
                model=_text(record["model"]),
                attempt=count(record["attempt"]),
                due_s=_bounded(count(record["due_at"]) - reading.now_ms),
                code=None if error is None else error.code,
                status=None if error is None else error.status,
            )


def _failures(reading: Reading) -> Iterator[FailureLine]:
    for letter in reading.letters:
        record = dict(zip(DEAD_FIELDS, letter.fields, strict=True))
        # The index is believed only where the record agrees.
        if record["state"] == State.FAILED.encode():
            yield _failure(letter, record, reading.now_ms)


def _failure(letter: Letter, record: dict[str, bytes | None], now: int) -> FailureLine:
    values = [record[name] for name in LETTER_FIELDS]
    # No key is asked for: code and status stand open, and the words are not shown.
    box = Box(NO_KEYS, letter.id)
    known = read_letter(letter.id, letter.at, values, box, size=0, attempts=())
    error = known.error
    return FailureLine(
        task_id=known.id,
        kind=known.kind,
        model=_text(record["model"]),
        ago_s=_since(known.ended_at, now) or 0.0,
        code=None if error is None else error.code,
        status=None if error is None else error.status,
    )


def _error(text: bytes | None) -> TaskError | None:
    with suppress(ValidationError):
        return TaskError.model_validate_json(text or b"")
    return None


def _since(at_ms: float | None, now_ms: int) -> float | None:
    """Return how long ago a moment was, in seconds; None for one that is not known (0)."""
    if not at_ms:
        return None
    return max(0.0, _bounded(now_ms - at_ms))


def _text(value: bytes | None) -> str | None:
    return value.decode(errors="replace") if value else None


def _bounded(ms: float) -> float:
    """Return a duration in seconds, no longer than any that can be true."""
    return max(-_LONGEST_S, min(ms / 1000, _LONGEST_S))
