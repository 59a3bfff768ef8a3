"""Look after tasks that nobody looks after: the net under doorbells, timers and workers.

1. ``rw:due`` says which tasks must be looked at by now. Only tasks that go on stand there, so the
   cost does not grow with what has ended.
2. ``take.lua`` hands each to one reaper; every worker has one.
3. ``look.lua`` decides: it is over (off the list), not yet time (a later moment), or somebody
   must ring. It tells a lost doorbell from one that waits in a long queue.
4. Ringing once too often is safe, since the claim decides who runs.

A worker's death is noticed when its lease has ended and a reaper comes by: 20 s and
:data:`REAP_S` at most, and with the doorbell's way below 30 s.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from api_contracts.names import State
from worker import logs
from worker.look import Look, Word
from worker.metrics import Metrics
from worker.store import Store
from worker.telemetry import CAUSES, kind_label

#: Longest pause between two rounds, in seconds; with the lease it makes up the 30 s.
REAP_S: Final = 3.0
#: Tasks taken in one round: a few ms of Redis's time.
ROUND: Final = 200

logger = logging.getLogger(__name__)


class Reaper:
    """Rings for tasks that are due and that nobody runs."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        """Look after this store's tasks."""
        self._store = store
        self._duties = store.duties
        self._metrics = metrics

    async def run(self) -> None:
        """Reap until cancelled; a Redis that is away is waited for."""
        while True:
            # Workers that started together need not come by together.
            await asyncio.sleep(REAP_S * random.uniform(0.5, 1.0))  # nosec B311 # noqa: S311 - spreads load
            try:
                while await self.round() == ROUND:
                    pass
            except self._store.errors as error:
                logger.warning("nobody was looked after: %s", type(error).__name__)
            except Exception as error:  # noqa: BLE001 - one task must not cost all the others
                logger.error("a task could not be looked after: %s", logs.origin(error))  # noqa: TRY400

    async def round(self) -> int:
        """Look after tasks that are due, :data:`ROUND` at most; return how many."""
        looks = await self._duties.look(await self._duties.take(ROUND))
        by_word = {word: [look for look in looks if look.word is word] for word in Word}
        await asyncio.gather(*(self._over(look) for look in by_word[Word.OVER]))
        await self._duties.watch({look.task_id: look.at for look in by_word[Word.WAIT]})
        for look in by_word[Word.RING]:
            logger.info("task %s is rung for again", look.task_id)
            self._metrics.redelivered(CAUSES[look.state])
            await self._duties.ring(look.task_id, look.kind, look.queue, look.at)
        return len(looks)

    async def _over(self, look: Look) -> None:
        """Count how a task ended, where nobody has."""
        uncounted = self._metrics.tally.known(look.uncounted)
        if await self._duties.over(look.task_id, uncounted) and look.cancelled:
            # Anybody may have written the record, and anything.
            kind = kind_label(look.kind)
            logs.change(State.CANCELLED, task_id=look.task_id, attempt=look.attempt, kind=kind)
