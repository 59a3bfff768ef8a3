"""The roll of workers: each signs it every few seconds, and strikes itself off when it leaves.

A worker that died stays on it for :data:`~worker.presence.KEPT_S`, with the moment of its last
sign; whoever signs takes off those who stand there for longer. Nothing depends on the roll: tasks
are looked after by their leases.
"""

from __future__ import annotations

import asyncio
from typing import Final

from api_contracts.client.flows import raise_error
from worker import presence
from worker.presence import Presence
from worker.store.link import Link

_KEPT_MS: Final = presence.KEPT_S * 1000


class Roll:
    """The roll, as one worker signs it. Methods raise as the store's do."""

    def __init__(self, link: Link, worker: str) -> None:
        """Speak through this link, for the worker of this name."""
        self._link = link
        self._worker = worker

    async def sign(self, said: Presence, now_ms: int) -> None:
        """Say that the worker lives, and what it does; ``now_ms`` is unix time."""
        keys = self._link.keys
        commands = (
            ("ZADD", keys.workers, now_ms, self._worker),
            ("ZREMRANGEBYSCORE", keys.workers, "-inf", now_ms - _KEPT_MS),
            ("EXPIRE", keys.workers, presence.KEPT_S),
            ("SET", keys.worker(self._worker), presence.write(said), "EX", presence.KEPT_S),
        )
        await asyncio.gather(*(self._link.pump.ask(*command) for command in commands))

    async def leave(self) -> None:
        """Strike the worker off. Beside the pump, which has ended by then."""
        keys = self._link.keys
        struck = ("ZREM", keys.workers, self._worker), ("DEL", keys.worker(self._worker))
        raise_error(await self._link.beside.ask(struck))
