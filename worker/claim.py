"""An attempt that is ours to run, as ``claim.lua`` gives it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from api_contracts.client.record import attempt_fields, count, read_attempts, read_queue
from api_contracts.names import Queue
from api_contracts.results import Attempt


class NotClaimed(StrEnum):
    """Why a doorbell is dropped; the words of ``claim.lua``."""

    MISSING = "missing"
    ENDED = "ended"
    HELD = "held"
    EARLY = "early"
    EXPIRED = "expired"
    #: Redis refuses to write its record or its log; this call has ended it.
    SPOILT = "spoilt"


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
    #: Of envelope and request, if anybody has signed them.
    signature: bytes | None = None
    history: tuple[Attempt, ...] = ()
    #: Workers that died while they ran the task, and whether one did in the attempt before.
    deaths: int = 0
    interrupted: bool = False
    #: How often it was queued again after failing.
    replays: int = 0


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
        queue=read_queue(fields.get(b"queue")),
        kind=fields.get(b"kind", b"").decode(errors="replace"),
        envelope=fields.get(b"task", b""),
        request=fields.get(b"request", b""),
        signature=fields.get(b"signature"),
        history=tuple(read_attempts(fields[name] for name in attempt_fields(fields))),
        deaths=count(fields.get(b"deaths")),
        interrupted=fields.get(b"interrupted") == fields[b"attempt"],
        replays=count(fields.get(b"replays")),
    )
