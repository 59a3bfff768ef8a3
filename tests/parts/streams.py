"""Answers that come slowly from a cluster, followed by both clients while something happens."""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any, Final
from uuid import uuid4

from redis import Redis

from api_contracts.client import AsyncClient, Client
from api_contracts.client.text import text_of_chunk, text_of_response
from api_contracts.events import Chunk, Event, Started
from tests.parts import answers
from tests.parts.cluster import Cluster
from tests.parts.following import KEYS, log_of
from tests.parts.gate import Gate, Pause, stream
from tests.parts.wait import until

#: Tasks of each master.
TASKS: Final = 3
QUESTION: Final[list[Any]] = [{"role": "user", "content": "count"}]
#: Pause between two words of an answer, in seconds.
EVERY_S: Final = 0.1
#: Words that outlast whatever a test does meanwhile: who takes so many says when it is enough.
ENDLESS: Final = 300
#: Longest wait of a client for one answer of Redis, in seconds.
TIMEOUT_S: Final = 2.0
#: Longest time until a task is over, in seconds: a failover, a lease, and the answer again.
OVER_S: Final = 60.0


class Streams:
    """Tasks whose answers come slowly, some with each master; each is followed by both clients."""

    def __init__(self, gate: Gate, cluster: Cluster, redis: Redis, client: Client) -> None:
        self._gate = gate
        self._cluster = cluster
        self._redis = redis
        self._client = client
        self._pool = ThreadPoolExecutor(100)
        self._follows: dict[str, list[Future[list[Event]]]] = {}
        self._hurries = threading.Event()

    def begin(self, words: int) -> None:
        """Enqueue them, and wait until all are in the middle."""
        self._text = "".join(f"{number} " for number in range(words))
        pieces = answers.openai(*(f"{number} " for number in range(words)))
        pause = Pause(EVERY_S, self._hurries)
        answer = stream(*(step for piece in pieces for step in (piece, pause)))
        ids = [one for master in self._cluster.masters for one in self._ids_of(master.port)]
        self._gate.answer(*[answer] * 3 * len(ids))
        for one in ids:
            request = {"model": "m", "messages": QUESTION, "stream": True}
            self._client.enqueue({"kind": "chat", "id": one, "request": request})
            follows = self._follow, self._follow_async
            self._follows[one] = [self._pool.submit(follow, one) for follow in follows]
        until(lambda: min(map(self.length, ids)) > 5, "all streams run", within=30)

    def hurry(self) -> None:
        """Let what is left of the answers come at once, and those that begin from now on."""
        self._hurries.set()

    @property
    def ids(self) -> list[str]:
        """The tasks: those of the first master, and so on."""
        return list(self._follows)

    def length(self, task_id: str) -> int:
        """Count what the log has."""
        return len(log_of(self._redis, task_id))

    def whole(self) -> dict[str, int]:
        """Wait until all have ended; check what was seen; return how many attempts each took."""
        self.hurry()
        attempts = {}
        for one, follows in self._follows.items():
            result = self._client.result(one, OVER_S)
            assert text_of_response(result.response) == self._text
            for follow in follows:
                self._check(follow.result(OVER_S))
            attempts[one] = len(result.attempts)
        return attempts

    def close(self) -> None:
        """Wait until nobody follows any more."""
        self.hurry()
        self._pool.shutdown()

    def _check(self, events: list[Event]) -> None:
        shown: list[str] = []
        for event in events:
            if isinstance(event, Started) and event.resets:
                shown = []
            if isinstance(event, Chunk):
                shown.append(text_of_chunk(event.data))
        assert "".join(shown) == self._text
        assert [event.type for event in events].count("completed") == 1
        begins = max(place for place, event in enumerate(events) if isinstance(event, Started))
        last = [event.cursor.seq for event in events[begins:]]
        assert last == list(range(len(last)))

    def _ids_of(self, port: int) -> list[str]:
        """Make ids of tasks that this master has."""
        made = (str(uuid4()) for _ in count())
        theirs = (one for one in made if self._cluster.master_of(KEYS.record(one)).port == port)
        return [next(theirs) for _ in range(TASKS)]

    def _follow(self, task_id: str) -> list[Event]:
        return list(self._client.stream(task_id))

    def _follow_async(self, task_id: str) -> list[Event]:
        async def follow() -> list[Event]:
            async with AsyncClient(self._cluster.url, timeout_s=TIMEOUT_S) as client:
                return [event async for event in client.stream(task_id)]

        return asyncio.run(follow())
