"""What a task of the benchmark is, as its producer makes it and as a peer's program runs it."""

import base64
import os
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

#: Where a peer's program finds the upstream, the Redis, and how many tasks it shall run at once.
URL: Final = "BENCH_URL"
SLOTS: Final = "BENCH_SLOTS"
REDIS_URL: Final = "REDIS_URL"
#: Seconds that a call may take, in any peer.
TIMEOUT_S: Final = 120.0
#: In any pool of connections to Redis: more than a worker needs. redis-py's default, 100, makes
#: publishing fail where 400 tasks share a client.
CONNECTIONS: Final = 10_000
#: Of redis-py's clients: without its 5 s for an answer too, since a worker that is measured at
#: its limit is slow, and since BLMOVE waits for ever.
REDIS_OPTIONS: Final[dict[str, Any]] = {
    "max_connections": CONNECTIONS,
    "socket_timeout": None,
    "socket_connect_timeout": TIMEOUT_S,
}

#: The tasks that warm a worker are numbered from here on, and are published elsewhere, so that one
#: that comes late is told apart; no workload has as many.
WARM: Final = 900_000

_PNG: Final = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Request:
    """A task: the body for the router, and the channel for what it answers."""

    channel: str
    body: dict[str, Any]


class Queue(Protocol):
    """A peer's way of putting tasks on its queue."""

    async def put(self, request: Request) -> None:
        """Put one, as the peer's documentation does it."""


#: Opens a peer's queue on the Redis with this URL.
OpenQueue = Callable[[str], AbstractAsyncContextManager[Queue]]


class BatchQueue(Queue, Protocol):
    """A queue that also takes many at once."""

    async def put_all(self, requests: list[Request]) -> None:
        """Put all in one go."""


def picture(size: int, seed: int) -> bytes:
    """Make so many bytes that begin like a PNG; nothing compresses them."""
    return _PNG + random.Random(seed).randbytes(size - len(_PNG))


def request(number: int, *, stream: bool, image: bytes = b"") -> Request:
    """Make the task with this number: a chat, or a question about a picture."""
    content: Any = "Write a short poem about the ocean."
    if image:
        url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
        content = [{"type": "text", "text": "What is it?"}]
        content.append({"type": "image_url", "image_url": {"url": url}})
    body: dict[str, Any] = {"model": "gpt-4o"}
    body["messages"] = [{"role": "user", "content": content}]
    if stream:
        body["stream"] = True
    channel = f"{'warm' if number >= WARM else 'bench'}:{number}"
    return Request(channel, body | {"user": f"{number:06d}"})


def setting(name: str) -> str:
    """Read what the harness has set for a peer's program."""
    return os.environ[name]
