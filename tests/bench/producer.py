"""Puts a peer's tasks on its queue, in a process of its own.

    python -m tests.bench.producer MODULE:FUNCTION

The function opens the peer's queue. Then each line of standard input is a plan (:class:`Plan`, as
JSON), and its answer is a line: the moments at which each task was handed over, in ns of the
monotonic clock, and the moment after the last. `ready` is said before the first.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from importlib import import_module

from tests.bench.children import say
from tests.bench.work import REDIS_URL, OpenQueue, Queue, picture, request, setting


@dataclass(frozen=True)
class Plan:
    """What to enqueue."""

    #: The numbers from the first on, without the last.
    first: int
    last: int
    stream: bool
    #: Seconds between two tasks; 0 is one after the other.
    pace_s: float = 0.0
    #: Of the picture that each task brings.
    image_bytes: int = 0
    #: Whether all go at once, where the queue can do that.
    batch: bool = False


async def produce(queue: Queue, plan: Plan) -> list[int]:
    """Carry out a plan; return the moments."""
    image = picture(plan.image_bytes, plan.first) if plan.image_bytes else b""
    numbers = range(plan.first, plan.last)
    if plan.batch:
        requests = [request(number, stream=plan.stream, image=image) for number in numbers]
        begun = time.monotonic_ns()
        await queue.put_all(requests)  # type: ignore[attr-defined]
        return [begun] * len(numbers) + [time.monotonic_ns()]
    moments = []
    due = time.monotonic()
    for number in numbers:
        if plan.pace_s:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += plan.pace_s
        one = request(number, stream=plan.stream, image=image)
        moments.append(time.monotonic_ns())
        await queue.put(one)
    return [*moments, time.monotonic_ns()]


async def main(place: str) -> None:
    """Carry out plans until standard input ends."""
    module, _, function = place.partition(":")
    open_queue: OpenQueue = getattr(import_module(module), function)
    loop = asyncio.get_running_loop()
    async with open_queue(setting(REDIS_URL)) as queue:
        say("ready")
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            say(json.dumps(await produce(queue, Plan(**json.loads(line)))))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
