"""Which attempts this process holds, and the heartbeat that keeps them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from worker.store import Store, Writer


class Leases:
    """The attempts of this process, by task id; their leases are renewed together."""

    def __init__(self, store: Store, heartbeat_s: float) -> None:
        """Hold nothing yet."""
        self._store = store
        self._heartbeat_s = heartbeat_s
        self._held: dict[str, Writer] = {}

    def __len__(self) -> int:
        """Return how many attempts are held."""
        return len(self._held)

    @contextmanager
    def hold(self, writer: Writer) -> Iterator[None]:
        """Keep an attempt's lease alive inside the block."""
        self._held[writer.claim.task_id] = writer
        try:
            yield
        finally:
            if self._held.get(writer.claim.task_id) is writer:
                del self._held[writer.claim.task_id]

    async def run(self) -> None:
        """Renew every lease at each heartbeat, in one round trip, until cancelled."""
        while True:
            await asyncio.sleep(self._heartbeat_s)
            if self._held:
                await self._renew(dict(self._held))

    async def _renew(self, held: dict[str, Writer]) -> None:
        attempts = [(task_id, writer.claim.attempt) for task_id, writer in held.items()]
        try:
            gone = await self._store.renew(attempts)
        except self._store.errors as error:
            # Not renewed for as long as the pump tries: somebody else may have them by now.
            for writer in held.values():
                writer.lose(error)
            return
        for task_id in gone:
            held[task_id].lose(None)
