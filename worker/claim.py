"""An attempt that is ours to run, as ``claim.lua`` gives it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pydantic import ValidationError

from api_contracts.names import Queue
from api_contracts.results import Attempt

#: Names of the fields that tell of the calls made; with as many digits as scripts count with.
_ATTEMPT: Final = re.compile(rb"attempt:([1-9][0-9]{0,15})")


class NotClaimed(StrEnum):
    """Why a doorbell is dropped; the words of ``claim.lua``."""

    MISSING = "missing"
    ENDED = "ended"
    HELD = "held"
    EARLY = "early"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Claim:
    """The record as it stood when the attempt became ours. Moments are unix time in ms."""

    task_id: str
    attempt: int
    failures: int
    created_at: int
    claimed_at: int
    due_at: int
    now: int
    worker: str
    #: Made for this claim alone: whoever writes must know it.
    token: str
    queue: Queue
    kind: str
    envelope: bytes = field(repr=False)
    request: bytes = field(repr=False)
    history: tuple[Attempt, ...] = ()
    #: Workers that died while they ran the task, and whether one did in the attempt before.
    deaths: int = 0
    interrupted: bool = False


def read_claim(task_id: str, reply: Sequence[bytes]) -> Claim | NotClaimed:
    """Read the reply of ``claim.lua``."""
    word, *rest = reply
    if word != b"claimed":
        return NotClaimed(word.decode())
    now, *pairs = rest
    fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
    attempt = int(fields[b"attempt"])
    return Claim(
        task_id=task_id,
        attempt=attempt,
        failures=int(fields[b"failures"]),
        created_at=int(fields[b"created_at"]),
        claimed_at=int(fields[b"claimed_at"]),
        due_at=int(fields[b"due_at"]),
        now=int(now),
        worker=fields[b"worker"].decode(),
        token=fields[b"token"].decode(),
        queue=_queue(fields.get(b"queue", b"")),
        kind=fields.get(b"kind", b"").decode(errors="replace"),
        envelope=fields.get(b"task", b""),
        request=fields.get(b"request", b""),
        history=tuple(_history(fields)),
        deaths=_count(fields.get(b"deaths", b"")),
        interrupted=fields.get(b"interrupted") == fields[b"attempt"],
    )


def _queue(name: bytes) -> Queue:
    """Any producer may have written the record: a queue that nobody serves is not rung on."""
    known = {queue.encode(): queue for queue in Queue}
    return known.get(name, Queue.INTERACTIVE)


def _count(text: bytes) -> int:
    return int(text) if re.fullmatch(rb"[0-9]{1,16}", text) else 0


def _history(fields: Mapping[bytes, bytes]) -> Iterator[Attempt]:
    """Yield the calls that were made, in their order; what is no attempt is none of ours."""
    found = {int(name[1]): name[0] for name in map(_ATTEMPT.fullmatch, fields) if name}
    for number in sorted(found):
        with suppress(ValidationError):
            yield Attempt.model_validate_json(fields[found[number]])
