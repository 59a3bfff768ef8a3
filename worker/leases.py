"""Which attempts this process holds, and the heartbeat that keeps them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final

from worker.store import Store, full
from worker.writer import Stop, Writer

#: Pause between two tries to renew in a Redis whose memory is full, in seconds.
FULL_PAUSE_S: Final = 0.2


class Leases:
    """The attempts of this process, by task id; their leases are renewed together."""

    def __init__(self, store: Store, lease_s: float, heartbeat_s: float) -> None:
        """Hold nothing yet."""
        self._store = store
        self._heartbeat_s = heartbeat_s
        #: A heartbeat after the last renewal, so much of the lease is left.
        self._left_s = lease_s - heartbeat_s
        self._held: dict[str, Writer] = {}
        #: Servers whose answer to a renewal is still awaited.
        self._awaited: set[object] = set()
        #: Tasks that were cancelled in this heartbeat and in the one before: the word may come
        #: between a claim and its being held.
        self._cancelled: set[str] = set()
        self._cancelled_before: set[str] = set()

    @contextmanager
    def hold(self, writer: Writer) -> Iterator[None]:
        """Keep an attempt's lease alive inside the block.

        One of the same task that is held already has lost its own, or there would be none.
        """
        task_id = writer.claim.task_id
        self.stop(Stop.GONE, task_id)
        self._held[task_id] = writer
        if task_id in self._cancelled or task_id in self._cancelled_before:
            writer.stop(Stop.GONE)
        try:
            yield
        finally:
            if self._held.get(task_id) is writer:
                del self._held[task_id]

    def oldest(self, limit: int) -> tuple[str, ...]:
        """Return the ids of the tasks that have been held longest, that many at most."""
        return tuple(islice(self._held, limit))

    def holds(self, task_id: str) -> bool:
        """Tell whether an attempt of this task is held, as far as we know."""
        return task_id in self._held

    def stop(self, stop: Stop, *task_ids: str) -> None:
        """Stop the attempts of these tasks, as far as they are held; without ids, all."""
        for task_id in task_ids or tuple(self._held):
            if task_id in self._held:
                self._held[task_id].stop(stop)

    def cancel(self, task_id: str) -> None:
        """Stop the attempt of a task that was cancelled, also one that is about to be held."""
        self._cancelled.add(task_id)
        self.stop(Stop.GONE, task_id)

    async def run(self) -> None:
        """Renew every lease at each heartbeat, in a round trip to each server, until cancelled."""
        async with asyncio.TaskGroup() as renewals:
            while True:
                await asyncio.sleep(self._heartbeat_s)
                self._cancelled_before, self._cancelled = self._cancelled, set()
                for server, share in self._store.shares(self._held).items():
                    # One that is away keeps nobody else's leases waiting.
                    if server not in self._awaited:
                        renewals.create_task(self._renew(server, share))

    async def _renew(self, server: object, held: dict[str, Writer]) -> None:
        """Renew these leases; where Redis is away until they have ended, stop their attempts.

        By then another worker may have them. The pump goes on trying.
        """
        self._awaited.add(server)
        renewal = asyncio.ensure_future(self._renewed(held))
        try:
            done, _ = await asyncio.wait({renewal}, timeout=self._left_s)
            if not done:
                self._stop_all(held, "Redis renewed no lease for as long as one lasts")
            for task_id in await renewal:
                held[task_id].stop(Stop.GONE)
        except self._store.errors as error:
            self._stop_all(held, f"Redis renews no lease ({type(error).__name__})")
        finally:
            renewal.cancel()
            self._awaited.discard(server)

    async def _renewed(self, held: dict[str, Writer]) -> list[str]:
        """Renew these leases; return the ids that are no longer ours.

        Nobody can claim them while the memory of Redis is full; as soon as it is not, we are there.
        """
        while True:
            # Those that have ended meanwhile need no lease.
            tokens = [(one, held[one].claim.token) for one in held if one in self._held]
            try:
                return await self._store.renew(tokens)
            except self._store.errors as error:
                if not full(error):
                    raise
            await asyncio.sleep(FULL_PAUSE_S)

    @staticmethod
    def _stop_all(held: dict[str, Writer], message: str) -> None:
        for writer in held.values():
            writer.stop(Stop.STORE, message)
