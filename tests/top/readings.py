"""What might have been read, for the tests of what is made of it."""

import json
from typing import Any, Final

from api_contracts.client.submission import ring
from api_contracts.names import Queue
from worker.cli.top.model import Overview, overview
from worker.presence import Presence
from worker.store.view import DEAD_FIELDS, TASK_FIELDS, Letter, Reading, Sign, Values

#: Now, in unix ms.
NOW: Final = 1_800_000_000_000
#: Stands for what the router said of a failure, which may quote a prompt.
CANARY: Final = "canary-of-a-message"
#: An id for each digit.
IDS: Final = [f"{digit}0000000-0000-4000-8000-000000000000" for digit in "0123456789abcdef"]


def a_reading(**parts: Any) -> Reading:
    """A reading of a system with nothing in it, but for these parts."""
    nothing: dict[str, Any] = {
        "now_ms": NOW,
        "soonest_ms": None,
        "queues": dict.fromkeys(Queue, (0, b"")),
        "open_tasks": len(parts.get("tasks", ())),
        "dead_letters": len(parts.get("letters", ())),
        "signs": [],
        "tasks": {},
        "streams": {},
        "letters": [],
    }
    return Reading(**{**nothing, **parts})


def made(**parts: Any) -> Overview:
    """What is made of such a reading."""
    return overview(a_reading(**parts))


def a_task(state: str = "running", **fields: str | int | bytes | None) -> Values:
    """The fields of a task's record."""
    known: dict[str, Any] = {
        "state": state, "model": "gpt-4o", "attempt": 1, "worker": "w",
        "lease_until": NOW + 15_000, "due_at": NOW, "created_at": NOW - 60_000,
    }  # fmt: skip
    return _values(TASK_FIELDS, {**known, **fields})


def a_letter(
    letter_id: str = IDS[0], at: float = NOW, **fields: str | int | bytes | None
) -> Letter:
    """A dead letter."""
    known: dict[str, Any] = {
        "state": "failed", "kind": "chat", "queue": "router.interactive", "attempt": 1,
        "error": an_error(), "ended_at": NOW, "created_at": NOW - 60_000, "model": "gpt-4o",
    }  # fmt: skip
    return Letter(letter_id, at, _values(DEAD_FIELDS, {**known, **fields}))


def an_error(code: str = "rate_limited", **fields: Any) -> str:
    """An error as a record has it."""
    error = {"code": code, "message": CANARY, "retryable": True, "status": 429}
    return json.dumps({**error, **fields})


def a_stream(
    began: int, chunks: int = 0, last: int | None = None, before: int | None = None
) -> list[Any]:
    """What is told of a log: moments are ms before now."""
    return [_moment(began), chunks, _moment(last), _moment(before)]


def a_sign(worker: str = "router-worker-7@host", ago_ms: float = 1000, **said: Any) -> Sign:
    """A sign of a worker that takes tasks."""
    known: dict[str, Any] = {"slots": 400, "taken": 0, "attempts_per_s": 0.0, "fault": None}
    return Sign(worker, NOW - ago_ms, Presence(**{**known, "tasks": (), **said}))


def doorbell(rung_at: int) -> bytes:
    """A doorbell that was rung then, in unix ms."""
    return str(ring(IDS[0], "chat", Queue.BATCH, rung_at)[-1]).encode()


def _moment(ago_ms: int | None) -> bytes:
    return b"" if ago_ms is None else str(NOW - ago_ms).encode()


def _values(names: tuple[str, ...], known: dict[str, Any]) -> Values:
    values = [known.get(name) for name in names]
    return [one if one is None or isinstance(one, bytes) else str(one).encode() for one in values]
