"""How a task is put on Redis: pure, so that every shell and every language can do the same.

1. ``rw:due`` gets the task's id, with the time at which somebody must look after it.
2. ``create.lua`` writes record and ``queued`` event in one step.
3. The doorbell, a Celery message that carries the id alone, goes on the queue.

In this order, since each step is mended by the one before: a crash after 1 leaves an id without
a record, which the reaper removes; a crash after 2 leaves a task without a doorbell, which the
reaper rings. All three go in one round trip where broker and records are one Redis.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from api_contracts.client.box import Box
from api_contracts.client.keyring import Keyring
from api_contracts.client.protection import UNPROTECTED, Protection
from api_contracts.client.signatures import Said
from api_contracts.errors import InvalidTask
from api_contracts.names import Keys, Queue
from api_contracts.requests import CELERY_TASKS, NativeTask, Task

#: How long after the doorbell a task is looked after again, in ms. Longer than the wait in a
#: queue that is in order, shorter than the 30 s within which a lost doorbell must be rung.
RING_AGAIN_MS = 20_000
#: How long an idempotency key outlives the time that its result is kept, in seconds: the longest
#: that a task is expected to wait and run.
IDEMPOTENCY_GRACE_S = 7 * 86_400
#: As much of a model's name as the record has beside the body, in characters: whoever looks at many
#: tasks need not read their prompts for it.
MODEL_LIMIT = 128
#: Source of the script that writes a record.
CREATE: Final = files(__package__).joinpath("lua/create.lua").read_text()

#: Stand for what changes from one doorbell to the next.
_ID: Final = "the id"
_MOMENT: Final = "the moment"

Argument = str | bytes | int


class Bell(NamedTuple):
    """A doorbell: of which task, on which queue, and when it is rung, in unix ms."""

    task_id: str
    kind: str
    queue: str
    rung_at: int


@dataclass(frozen=True, slots=True)
class Submission:
    """The commands that put one task on Redis."""

    task_id: str
    due: tuple[Argument, ...]
    create_keys: tuple[str, str]
    create_arguments: tuple[Argument, ...]
    bell: Bell
    body: bytes

    @property
    def create_with_keys(self) -> tuple[Argument, ...]:
        """Arguments of EVALSHA behind the script's digest."""
        return (len(self.create_keys), *self.create_keys, *self.create_arguments)

    @property
    def ring(self) -> tuple[Argument, ...]:
        """The command that rings its doorbell, where the queues are on Redis."""
        return ring(*self.bell)


def submission(
    task: Task, keys: Keys, now_ms: int, protection: Protection = UNPROTECTED
) -> Submission:
    """Write the commands for a task: signed and encrypted, where there are keys for that.

    InvalidTask where its body is too large, or its deadline is in the past.
    """
    body = task.request_json()
    options = task.options
    if options.deadline is not None and options.deadline <= now_ms:
        raise InvalidTask("options.deadline", "is in the past")
    create: tuple[Argument, ...] = (
        task.id, keys.live(task.id), digest(task, body, protection.keyring),
        options.expires_at or "",
        "kind", task.kind, "queue", options.queue, "result_ttl", options.result_ttl,
        *_said(task, body, now_ms, protection), "model", (task.model or "")[:MODEL_LIMIT],
    )  # fmt: skip
    return Submission(
        task_id=task.id,
        due=("ZADD", keys.due, "NX", now_ms + RING_AGAIN_MS, task.id),
        create_keys=(keys.record(task.id), keys.events(task.id)),
        create_arguments=create,
        bell=Bell(task.id, task.kind, options.queue, now_ms),
        body=body,
    )


def _said(task: Task, body: bytes, now_ms: int, protection: Protection) -> tuple[Argument, ...]:
    """Write the fields that say what a task asks for."""
    said = envelope(task)
    keyring, signatures = protection.keyring, protection.signatures
    if not (keyring or signatures):
        return "task", said, "request", body
    text = said.encode()
    signed: tuple[Argument, ...] = ()
    if signatures:
        signed = ("signature", signatures.sign(Said(task.id, task.kind, text, body), now_ms))
    box = Box(keyring, task.id)
    return "task", box.seal("task", text), "request", box.seal("request", body), *signed


def key_commands(task: Task, keys: Keys) -> tuple[tuple[Argument, ...], ...]:
    """Write the commands that give a task its idempotency key, and say whose it is then.

    The last one's reply is the owner's id. None at all where the task has no key.
    """
    options = task.options
    if options.idempotency_key is None:
        return ()
    place = keys.idempotency(options.tenant, options.idempotency_key)
    stay = options.result_ttl + IDEMPOTENCY_GRACE_S
    return ("SET", place, task.id, "NX", "EX", stay), ("GET", place)


def envelope(task: Task) -> str:
    """Write all of a task but its body, as far as its producer said it.

    Not by its defaults: a retry policy that says what ours has by default means it, whatever the
    worker's own is.
    """
    said = task.model_dump_json(exclude={"kind", "id", "request"}, exclude_unset=True)
    head = f'{{"kind":"{task.kind}","id":{json.dumps(task.id)}'
    return f"{head},{said[1:]}" if said != "{}" else head + "}"


def digest(task: Task, body: bytes, keyring: Keyring) -> str:
    """Fingerprint what a task asks for; its id and options do not count."""
    return keyring.digest(_content(task, body))


def asks_the_same(task: Task, known: bytes | None, keyring: Keyring) -> bool:
    """Tell whether a digest that is on record is this task's, under an older key perhaps."""
    content = _content(task, task.request_json())
    return known is not None and keyring.knows(content, known.decode(errors="replace"))


def _content(task: Task, body: bytes) -> bytes:
    path = f"{task.method} {task.path}" if isinstance(task, NativeTask) else ""
    said = sorted((name.lower(), value) for name, value in task.headers.items())
    headers = json.dumps(said) if said else "[]"
    return f"{task.kind}\n{path}\n{task.vendor}\n{headers}\n".encode() + body


def ring(task_id: str, kind: str, queue: str, now_ms: int) -> tuple[Argument, ...]:
    """Return the command that rings a task's doorbell on a Redis broker.

    The message is the least that Celery runs (protocol 2). The queue is a list under its own
    name: kombu adds a suffix only for priorities other than 0, which are not used.
    """
    # An id of ours is a UUID. One that somebody has put under an idempotency key may be anything.
    word = json.dumps(task_id)
    body = base64.b64encode(f"[[{word}], {{}}, {{}}]".encode()).decode()
    message = _doorbell(kind, queue) % (body, word, now_ms, word)
    return ("LPUSH", str(Queue(queue)), message)


@cache
def _doorbell(kind: str, queue: str) -> str:
    """Write the JSON of a doorbell but for body, id, moment and tag.

    To write all of it for each takes 20 µs, against 4.
    """
    message = {
        "body": "%s",
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": CELERY_TASKS[kind], "id": _ID, "rung_at": _MOMENT},
        "properties": {
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": queue},
            "delivery_mode": 2,
            # What kombu knows an unacknowledged message by: one of each task is enough.
            "delivery_tag": _ID,
            "priority": 0,
        },
    }
    text = json.dumps(message)
    return text.replace(json.dumps(_ID), "%s").replace(json.dumps(_MOMENT), "%d")


def rung_at(message: bytes | str) -> int | None:
    """Tell when a doorbell was rung, in unix ms; None where it does not say."""
    try:
        at = json.loads(message)["headers"]["rung_at"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return at if isinstance(at, int) and not isinstance(at, bool) else None
