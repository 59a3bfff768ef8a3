"""The connection on which a worker waits for messages, seen from Redis and from the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import redis as redis_library

#: Bytes of Redis's answer to a BRPOP that found nothing in its time; a message is longer.
_NOTHING: Final = len("*-1\r\n")


def waits(redis: redis_library.Redis, pid: int) -> bool:
    """Tell whether Redis holds a BRPOP of this process unanswered."""
    return any("b" in client["flags"] for client in _brpops(redis, _unread(pid)))


def given(redis: redis_library.Redis, pid: int) -> bool:
    """Tell whether Redis has answered a BRPOP with a message that the process has not read."""
    unread = _unread(pid)
    return any(unread[_port(client)] > _NOTHING for client in _brpops(redis, unread))


def _brpops(redis: redis_library.Redis, ports: dict[int, int]) -> Iterator[dict[str, Any]]:
    """Yield Redis's clients from these ports whose last command was BRPOP."""
    for client in redis.client_list():
        if client["cmd"] == "brpop" and _port(client) in ports:
            yield client


def _port(client: dict[str, Any]) -> int:
    return int(client["addr"].rpartition(":")[2])


def _unread(pid: int) -> dict[int, int]:
    """Return how many bytes wait to be read on each TCP connection of a process, by its port."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    unread = {}
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        _, local, _, _, queues, _, _, _, _, inode, *_ = line.split()
        if inode in inodes:
            port, received = local.rpartition(":")[2], queues.rpartition(":")[2]
            unread[int(port, 16)] = int(received, 16)
    return unread
