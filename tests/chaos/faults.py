"""What breaks: each fault is a function that does it a number of times to a running stage.

They wait for conditions. The only times in them are random ones: when to break, and for how long.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from random import Random
from threading import Event
from typing import Any, Final

import redis as redis_library

from tests.chaos import wire
from tests.chaos.servers import Proxied, Server, Watched
from tests.chaos.shapes import group
from tests.chaos.stage import LEASE_S, Slot, Stage
from tests.parts.wait import until

#: A worker lives so long at most before it is killed, in seconds: long against the tasks' 0.4 s,
#: so that three deaths in a row of one task are rare, and against the reaper's round of 3 s.
LIFE_S: Final = 5.0
#: Within this time work must go on after Redis has come back, in seconds: the issue's goal.
RESUME_S: Final = 30.0


def kills(stage: Stage, times: int, chance: Random) -> None:
    """``kill -9`` of workers at random moments of their work; each is started again at once."""
    left = iter(range(times))
    over = Event()

    def torment(slot: Slot, moments: Random) -> None:
        for _ in left:
            if over.wait(moments.uniform(0, LIFE_S)):
                return
            slot.crash()
            slot.restart()

    with ThreadPoolExecutor(len(stage.slots)) as pool:
        torments = [pool.submit(torment, slot, Random(chance.random())) for slot in stage.slots]
        try:
            for one in as_completed(torments):
                one.result()
        finally:
            # One that failed, or whoever ends this program, ends them all.
            over.set()


def deaths(stage: Stage, times: int, chance: Random) -> None:
    """``kill -9`` of one worker at a time, and no other until its tasks run elsewhere."""
    for _ in range(times):
        stage.work(chance.randint(50, 100))
        slot = chance.choice(stage.slots)
        name = slot.name
        slot.crash()
        slot.restart()
        _taken_over(stage, name)


def _taken_over(stage: Stage, worker: str) -> None:
    until(lambda: not stage.runs(worker), f"the tasks of {worker} run elsewhere", within=90)


def gaps(stage: Stage, times: int, chance: Random) -> None:
    """``kill -9`` between Redis giving a worker a message, and the worker noting it.

    The worker is stopped while it waits for a message (BRPOP). Redis gives it the next one, and
    counts it as given; the worker never reads it.
    """
    for _ in range(times):
        slot = chance.choice(stage.slots)
        stage.work(chance.randint(20, 50))
        while not given_in_its_sleep(stage, slot):
            stage.work(1)
        slot.crash()
        slot.restart()


def given_in_its_sleep(stage: Stage, slot: Slot, ring: Callable[[], object] | None = None) -> bool:
    """Stop a worker; tell whether it is given a message that it has not read, else wake it again.

    ``ring`` puts a message on the queue once it waits for one; without it, the load does.
    """
    redis, pid = stage.front.redis, slot.worker.program.pid
    with slot.stopped():
        slot.worker.pause()
        if wire.waits(redis, pid):
            if ring is not None:
                ring()
            until(lambda: not wire.waits(redis, pid), "an answer to BRPOP")
        given = wire.given(redis, pid)
        if not given:
            slot.worker.resume()
    return given


def stalls(stage: Stage, times: int, chance: Random) -> None:
    """SIGSTOP, and SIGCONT after a time that is longer than the lease every other time."""
    for number in range(times):
        stage.work(chance.randint(20, 50))
        slot = chance.choice(stage.slots)
        short = chance.uniform(0.1, LEASE_S * 0.6)
        slot.stall(short if number % 2 else short + 2 * LEASE_S)


def rolls(stage: Stage, times: int, chance: Random) -> None:
    """SIGTERM to one worker after the other; each is started again when it has left."""
    for number in range(times):
        slot = stage.slots[number % len(stage.slots)]
        slot.leave()
        slot.restart()


def restarts(stage: Stage, times: int, chance: Random) -> None:
    """Redis ends, by SIGTERM and by ``kill -9`` in turn, and comes back with its file."""
    front = stage.front
    server = front.server if isinstance(front, Proxied) else front
    assert isinstance(server, Server)
    for number in range(times):
        stage.work(chance.randint(20, 50))
        with stage.without_redis():
            if number % 2:
                server.stop()
            else:
                server.kill()
            time.sleep(chance.uniform(0, 2))
            server.start()
        _work_goes_on(server.redis)


def cuts(stage: Stage, times: int, chance: Random) -> None:
    """Every connection to Redis is cut at once; new ones may be made."""
    front = _proxied(stage)
    for _ in range(times):
        stage.work(chance.randint(1, 20))
        with _works_on(stage.front.redis):
            front.cut()


def outages(stage: Stage, times: int, chance: Random) -> None:
    """Redis cannot be reached, for up to twice the lease."""
    front = _proxied(stage)
    for _ in range(times):
        stage.work(chance.randint(20, 50))
        with stage.without_redis():
            front.shut()
            time.sleep(chance.uniform(0, 2 * LEASE_S))
            front.open()
        _work_goes_on(stage.front.redis)


def failovers(stage: Stage, times: int, chance: Random) -> None:
    """The master is killed; its replica takes over."""
    front = _watched(stage)
    for _ in range(times):
        stage.work(chance.randint(20, 50))
        with stage.without_redis():
            killed = front.kill()
        _work_goes_on(front.redis)
        front.bring_back(killed)


def handovers(stage: Stage, times: int, chance: Random) -> None:
    """The master hands over to its replica, as for an update, and becomes a replica itself."""
    front = _watched(stage)
    for _ in range(times):
        stage.work(chance.randint(20, 50))
        with stage.without_redis():
            front.hand_over()
        _work_goes_on(front.redis)


def upstream(stage: Stage, times: int, chance: Random) -> None:
    """The router cuts the first call of each task, in turn behind each frame, or refuses it."""
    for _ in range(times):
        stage.work(len(group("cut")))


def _watched(stage: Stage) -> Watched:
    assert isinstance(stage.front, Watched)
    return stage.front


def _proxied(stage: Stage) -> Proxied:
    assert isinstance(stage.front, Proxied)
    return stage.front


@contextmanager
def _works_on(redis: redis_library.Redis) -> Iterator[None]:
    """Wait, after the block, until an attempt has begun that was not there before it."""
    with closing(redis.pubsub()) as channel:  # type: ignore[no-untyped-call]
        channel.psubscribe("rw:*:live")
        assert channel.get_message(timeout=RESUME_S)["type"] == "psubscribe"
        yield
        deadline = time.monotonic() + RESUME_S
        while not _begins(channel.get_message(timeout=1)):
            assert time.monotonic() < deadline, f"no attempt began within {RESUME_S:g} s"


def _work_goes_on(redis: redis_library.Redis) -> None:
    with _works_on(redis):
        pass


def _begins(message: dict[str, Any] | None) -> bool:
    return message is not None and json.loads(message["data"])["type"] == "started"
