"""Reading what the three parties noted, into accounts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import redis as redis_library

from api_contracts.client.text import text_of_response
from api_contracts.names import EVENT_FIELD, Keys
from api_contracts.results import Result, Usage
from tests.chaos.ledger import Account, Answer, Entry, Kept, Seen
from tests.chaos.shapes import SHAPES, TASK_HEADER
from tests.parts.aimock import Aimock
from worker.store import UNACKED

Json = dict[str, Any]
Tokens = tuple[str, int | None, int | None]

#: What a note may be of; `tests.chaos.load` says what each means.
WHAT: Final = ("accepted", "refused", "split", "seen", "gone")
#: Tasks read in one round trip.
_AT_ONCE: Final = 500
#: Entries of the journal read at once: some MB of JSON.
_PAGE: Final = 2_000
#: Keys that never expire, and why each may stay.
SHARED: Final = {
    "rw:due": "who must be looked at; empty, and so gone, once every task is over",
    Keys().tally: "how many tasks have ended: it goes on",
    "_kombu.binding.router.interactive": "kombu: which queues an exchange has",
    "_kombu.binding.router.batch": "kombu: likewise",
    UNACKED: "kombu: messages that a killed worker had not acknowledged; given back after a minute",
    f"{UNACKED}_index": "kombu: when they were popped",
}


def read_notes(files: Iterable[Path]) -> dict[str, list[Json]]:
    """Read what producers and subscribers wrote, by what it is."""
    notes: dict[str, list[Json]] = {what: [] for what in WHAT}
    for file in files:
        for line in file.read_text().splitlines():
            note = json.loads(line)
            notes[note["what"]].append(note)
    return notes


def tokens(usage: Usage) -> Tokens:
    """Write a usage down as far as the ledger looks at it."""
    return usage.provenance, usage.input_tokens, usage.output_tokens


def accounts(
    redis: redis_library.Redis, notes: dict[str, list[Json]], aimock: Aimock
) -> Iterator[Account]:
    """Join the notes of each accepted task."""
    shapes = {note["id"]: note["shape"] for note in notes["accepted"]}
    seen = {note["id"]: note for note in notes["seen"]}
    calls = count_calls(aimock)
    for ids in _batches(list(shapes)):
        for task_id, kept in zip(ids, _kept(redis, ids), strict=True):
            note = seen.get(task_id)
            yield Account(
                task_id=task_id,
                shape=SHAPES[shapes[task_id]],
                seen=None if note is None else _seen(note),
                kept=kept,
                calls=calls[task_id],
            )


def count_calls(aimock: Aimock) -> Counter[str]:
    """Count the calls in the router's journal, by task."""
    calls: Counter[str] = Counter()
    offset = 0
    while page := aimock.journal(offset=offset, limit=_PAGE):
        calls.update(entry["headers"][TASK_HEADER] for entry in page)
        offset += len(page)
    return calls


def count_endings(redis: redis_library.Redis) -> Counter[str]:
    """Count every task on record by its ending.

    Those that no producer noted are among them: their enqueue was refused, and yet on record.
    """
    endings: Counter[str] = Counter()
    keys = [key.decode() for key in redis.scan_iter(match="rw:{*}", count=1000)]
    for some in _batches(keys):
        pipe = redis.pipeline(transaction=False)
        for key in some:
            pipe.hget(key, "state")
        endings.update(state.decode() for state in pipe.execute())
    return endings


def keys_for_ever(redis: redis_library.Redis) -> list[str]:
    """Return the keys that will never expire and that have no reason to stay."""
    keys = [key.decode() for key in redis.scan_iter(count=1000)]
    lives: list[int] = []
    for some in _batches(keys):
        pipe = redis.pipeline(transaction=False)
        for key in some:
            pipe.ttl(key)
        lives += pipe.execute()
    return sorted(
        key for key, life in zip(keys, lives, strict=True) if life == -1 and key not in SHARED
    )


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(names), _AT_ONCE):
        yield names[first : first + _AT_ONCE]


def _seen(note: Json) -> Seen:
    usage = note["usage"]
    return Seen(
        ids=tuple(note["ids"]),
        endings=tuple(note["endings"]),
        text=note["text"],
        usage=None if usage is None else tokens(Usage.model_validate(usage)),
        rewound=note["rewound"],
    )


def _kept(redis: redis_library.Redis, ids: Iterable[str]) -> Iterator[Kept | None]:
    keys = Keys()
    pipe = redis.pipeline(transaction=False)
    for task_id in ids:
        pipe.hgetall(keys.record(task_id))
        pipe.xrange(keys.events(task_id))
        pipe.ttl(keys.record(task_id))
        pipe.ttl(keys.events(task_id))
    replies = iter(pipe.execute())
    for record, log, *expires in zip(*[replies] * 4, strict=True):
        yield _read(record, log, (expires[0], expires[1])) if record else None


def _read(record: dict[bytes, bytes], log: Any, expires: tuple[int, int]) -> Kept:
    fields = {name.decode(): value for name, value in record.items()}
    noted = {
        int(name.removeprefix("attempt:")): json.loads(value)["outcome"]
        for name, value in fields.items()
        if name.startswith("attempt:")
    }
    result, error = fields.get("result"), fields.get("error")
    state = fields["state"].decode()
    return Kept(
        state=state,
        attempt=int(fields["attempt"]),
        failures=int(fields["failures"]),
        deaths=int(fields.get("deaths", 0)),
        outcomes=noted,
        log=tuple(_entry(place, entry) for place, entry in log),
        answer=None if result is None else _answer(Result.model_validate_json(result)),
        # What went wrong before stays on record, whatever the ending.
        code=json.loads(error)["code"] if error and state == "failed" else None,
        expires=expires,
    )


def _entry(place: bytes, entry: dict[bytes, bytes]) -> Entry:
    event = json.loads(entry[EVENT_FIELD.encode()])
    return Entry(place.decode(), event["type"], event["at"], event.get("worker", ""))


def _answer(result: Result) -> Answer:
    return Answer(
        text=text_of_response(result.response),
        usage=tokens(result.usage),
        attempts=tuple((one.attempt, one.outcome, tokens(one.usage)) for one in result.attempts),
    )
