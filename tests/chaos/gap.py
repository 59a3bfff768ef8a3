"""How wide kombu's own gap is: `make chaos ARGS=gap`.

kombu's Redis transport pops a message (BRPOP), and only then notes that it has it (``unacked``).
A worker that is killed in between takes the message with it. For a doorbell that does no harm: its
task is on record, and is rung for again. A plain Celery message carries the task itself, so it is
lost; nothing else is, since the worker writes its record before it acknowledges the message.

The method: MONITOR tells when Redis executed each command, in µs, by its own clock. While a worker
waits, Redis answers its BRPOP as it executes the producer's LPUSH; so the gap is the time from
LPUSH to the EXEC that notes the message, and it holds both ways over the socket. Then the gap is
held open by force: the worker is stopped (SIGSTOP) as it waits, gets a message, and is killed.
"""

from __future__ import annotations

import base64
import json
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis as redis_library

from tests.chaos.faults import given_in_its_sleep
from tests.chaos.servers import Server
from tests.chaos.shapes import group
from tests.chaos.stage import Load, Stage
from tests.chaos.stops import percentile
from tests.parts.following import KEYS
from worker.store import UNACKED

#: Messages that are timed, and messages that are held in the gap.
_TIMED: Final = 300
_HELD: Final = 10
_QUEUE: Final = "router.interactive"


@dataclass(frozen=True)
class Way:
    """When Redis did what with one plain Celery message, in µs."""

    given: int
    noted: int
    recorded: int
    acknowledged: int


def plain_message(task: dict[str, Any]) -> str:
    """Write the least that a Celery program in any language sends; its tag is the task's id."""
    body = base64.b64encode(json.dumps([[task], {}, {}]).encode()).decode()
    place = {"exchange": "", "routing_key": _QUEUE}
    properties = {"body_encoding": "base64", "delivery_tag": task["id"], "delivery_info": place}
    message = {
        "body": body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "router.chat", "id": task["id"]},
        "properties": properties,
    }
    return json.dumps(message)


def ways(redis: redis_library.Redis, count: int) -> Iterator[Way]:
    """Send plain messages, one after the other, and time the ways of those given away at once.

    One that has to wait in the queue is in no gap yet.
    """
    shapes = [shape for shape in group("mixed") if not shape.stream]
    with redis.monitor() as monitor:  # type: ignore[no-untyped-call]
        while count:
            task = shapes[count % len(shapes)].task(str(uuid.uuid4()))
            pipe = redis.pipeline(transaction=False)
            pipe.lpush(_QUEUE, plain_message(task))
            pipe.llen(_QUEUE)
            _, waiting = pipe.execute()
            way = _way(monitor, task["id"])
            if not waiting:
                count -= 1
                yield way


def _way(monitor: Any, task_id: str) -> Way:
    """Listen until all has been done with the message."""
    signs = {
        f"LPUSH {_QUEUE}": "given",
        f"HSET {UNACKED} {task_id}": "noted",
        f"HSET {KEYS.record(task_id)} state queued": "recorded",
        f"HDEL {UNACKED} {task_id}": "acknowledged",
    }
    times: dict[str, int] = {}
    while len(times) < len(signs):
        heard = monitor.next_command()
        if task_id in heard["command"]:
            for sign, what in signs.items():
                if heard["command"].startswith(sign):
                    times[what] = round(heard["time"] * 1_000_000)
    return Way(**times)


def held(stage: Stage, count: int) -> int:
    """Kill workers that were given a plain message and have not noted it; count the losses."""
    return sum(_lost_in_its_sleep(stage) for _ in range(count))


def _lost_in_its_sleep(stage: Stage) -> bool:
    redis = stage.front.redis
    (slot,) = stage.slots
    task = group("mixed")[0].task(str(uuid.uuid4()))
    while not given_in_its_sleep(stage, slot, lambda: redis.lpush(_QUEUE, plain_message(task))):
        task["id"] = str(uuid.uuid4())
    slot.crash()
    slot.restart()
    places = redis.llen(_QUEUE), redis.hexists(UNACKED, task["id"]), redis.exists(_record(task))
    return not any(places)


def _record(task: dict[str, Any]) -> str:
    return KEYS.record(task["id"])


def _row(what: str, found: Sequence[Way]) -> str:
    gaps = sorted(way.noted - way.given for way in found)
    shares = (percentile(gaps, share) or 0 for share in (0.5, 0.99, 1.0))
    late = sum(way.recorded > way.acknowledged for way in found)
    return f"| {what} | {len(gaps)} | {' | '.join(f'{one:,} µs' for one in shares)} | {late} |"


def measure() -> str:
    """Measure on an idle worker and on two busy ones; return a table and a sentence."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, _stage(folder) as stage:
        stage.start_workers(1)
        rows = [_row("one idle worker", list(ways(stage.front.redis, _TIMED)))]
        lost = held(stage, _HELD)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, _stage(folder) as stage:
        stage.start_workers(2)
        stage.start_load()
        rows.append(_row("two busy workers", list(ways(stage.front.redis, _TIMED))))
    head = "| | messages | gap, p50 | p99 | longest | acknowledged before on record |"
    said = f"Held in the gap until a `kill -9`: {lost} of {_HELD} plain Celery messages lost."
    return "\n".join((head, "| --- | --- | --- | --- | --- | --- |", *rows, "", said))


def _stage(folder: str) -> Stage:
    return Stage(Path(folder), Server(Path(folder) / "valkey"), {}, Load(), "gap")
