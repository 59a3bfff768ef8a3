"""Which attempts this process holds, and the heartbeat that keeps them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from worker.store import Store, full
from worker.writer import Stop, Writer


class Leases:
    """The attempts of this process, by task id; their leases are renewed together."""

    def __init__(self, store: Store, lease_s: float, heartbeat_s: float) -> None:
        """Hold nothing yet."""
        self._store = store
        self._heartbeat_s = heartbeat_s
        #: A heartbeat after the last renewal, so much of the lease is left.
        self._left_s = lease_s - heartbeat_s
        self._held: dict[str, Writer] = {}

    @contextmanager
    def hold(self, writer: Writer) -> Iterator[None]:
        """Keep an attempt's lease alive inside the block."""
        self._held[writer.claim.task_id] = writer
        try:
            yield
        finally:
            if self._held.get(writer.claim.task_id) is writer:
                del self._held[writer.claim.task_id]

    def stop(self, stop: Stop, *task_ids: str) -> None:
        """Stop the attempts of these tasks, as far as they are held; without ids, all."""
        for task_id in task_ids or tuple(self._held):
            if task_id in self._held:
                self._held[task_id].stop(stop)

    async def run(self) -> None:
        """Renew every lease at each heartbeat, in one round trip, until cancelled."""
        while True:
            await asyncio.sleep(self._heartbeat_s)
            if self._held:
                await self._renew(dict(self._held))

    async def _renew(self, held: dict[str, Writer]) -> None:
        """Renew these leases; where Redis is away until they have ended, stop their attempts.

        By then another worker may have them. The pump goes on trying.
        """
        tokens = [(task_id, writer.claim.token) for task_id, writer in held.items()]
        renewal = asyncio.ensure_future(self._store.renew(tokens))
        try:
            done, _ = await asyncio.wait({renewal}, timeout=self._left_s)
            if not done:
                self._stop_all(held, "Redis took nothing for as long as a lease")
            for task_id in await renewal:
                held[task_id].stop(Stop.GONE)
        except self._store.errors as error:
            if full(error):
                # Nobody else can claim them meanwhile. Whether events go through is another matter.
                return
            self._stop_all(held, f"Redis renews no lease ({type(error).__name__})")
        finally:
            renewal.cancel()

    @staticmethod
    def _stop_all(held: dict[str, Writer], message: str) -> None:
        for writer in held.values():
            writer.stop(Stop.STORE, message)
