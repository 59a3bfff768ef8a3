"""The composition root: builds every part of a worker process, once, from its settings."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import time
from collections.abc import Coroutine, Iterable
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from api_contracts.names import Keys
from worker import logs, presence
from worker.attempt import Limits
from worker.consumer import Consumer
from worker.credentials import Credentials
from worker.engine import Engine
from worker.environment import traced
from worker.executor import Executor, Policy
from worker.health import HealthServer, loop_answers
from worker.leases import Leases
from worker.metrics import CONTENT_TYPE, Metrics, Readings
from worker.presence import Pace, Presence
from worker.reaper import Reaper
from worker.reception import Reception
from worker.router import Router
from worker.settings import Settings
from worker.store import Store, full
from worker.store.roll import Roll
from worker.telemetry import BUFFERED, CONNECTIONS, FENCED, ROUND_TRIPS, Fleet

if TYPE_CHECKING:
    from worker.tracing import Tracing

#: How often the worker that tells of the fleet says that it still does, in seconds.
ELECTION_S: Final = 5.0
#: For how long it stays the one without that, in ms: two rounds, and a bit.
TERM_MS: Final = 12_000
#: Longest wait for Redis to take that it does not any more, in seconds.
RESIGN_S: Final = 1.0
#: Longest wait for Redis's answer to a readiness probe, in seconds: below the probe's own.
READY_S: Final = 0.8
#: Pause before the channel of cancellations is listened to again, in seconds; the heartbeat finds
#: what is missed meanwhile.
RECONNECT_S: Final = 1.0
#: Longest wait to be struck off the roll, in seconds: one round trip, unless Redis is away.
LEAVE_S: Final = 1.0
#: Pause until a part that goes on is cancelled again, in seconds.
CANCEL_S: Final = 0.2
#: Longest wait for the loop to build or close the parts, in seconds.
OPEN_S: Final = 30.0

#: Objects that may be made, net, before Python looks for garbage among them: about 1 MB, and 10 ms
#: of a start of 50 streams. Python 3.11 does at 700.
GARBAGE: Final = 5_000
#: How often it does until it looks at those that stayed, too: 10 to 100 MB. Python 3.11 does at 10.
GARBAGE_OLDER: Final = 50

logger = logging.getLogger(__name__)


class WorkerProcess:
    """One worker process: Celery in the main thread, everything else on the loop."""

    def __init__(self, settings: Settings) -> None:
        """Build the parts; nothing runs yet."""
        self._settings = settings
        self._engine = Engine()
        #: Its name as a candidate. Containers on the network of one host have one name, and each
        #: may be process 1.
        self._candidate = f"{worker_name()} {uuid4()}"
        #: Whether this worker tells for all what they would tell alike.
        self._elected = False
        #: Whether Redis had no memory for this worker's last sign of life.
        self._redis_full = False
        self._metrics = Metrics(
            slots=settings.concurrency,
            models=settings.models,
            prices=settings.prices,
            fleet=self._fleet,
            readings=self._readings,
        )

    def run(self) -> int:
        """Work until a signal ends it; return the exit status."""
        logs.setup(self._settings.log_format)
        self._tracing = _tracing(self._settings.base_url)
        self._engine.start()
        self._engine.call(self._open, OPEN_S)
        health = self._serve_health()
        _collect_less()
        try:
            return self._consumer.run(worker_name())
        finally:
            self._engine.call(self._close, OPEN_S)
            health.close()
            self._engine.stop()
            if self._tracing is not None:
                self._tracing.close()

    async def _open(self) -> None:
        """Build what belongs to the loop, on the loop."""
        settings, protection = self._settings, self._settings.protection
        self._store = Store(
            settings.redis_url.get_secret_value(),
            settings.broker_url.get_secret_value(),
            Keys(settings.prefix),
            worker_name(),
            int(settings.lease_s * 1000),
            protection.keyring,
        )
        credentials = Credentials(settings.api_key.get_secret_value(), settings.credentials_dir)
        self._router = Router(settings.base_url, credentials, settings.connect_s)
        leases = Leases(self._store, settings.lease_s, settings.heartbeat_s)
        executor = Executor(
            self._store, self._router, leases, self._metrics, _policy(settings), self._tracing
        )
        reception = Reception(self._store, self._metrics, protection.signatures)
        self._consumer = Consumer(settings, self._engine, executor, reception, self._store)
        self._roll = Roll(self._store.link, worker_name())
        self._pump = _part("pump", self._store.pump.run())
        self._running = [
            _part("heartbeat", leases.run()),
            _part("reaper", Reaper(self._store, self._metrics).run()),
            _part("cancellations", self._hear_cancellations(leases)),
            _part("election", self._stand_for_election()),
            _part("roll", self._sign_roll(leases, executor)),
        ]

    async def _close(self) -> None:
        self._store.pump.close()
        await _cancelled(self._running)
        await self._resign()
        await asyncio.wait({self._pump})
        await self._leave_roll()
        await self._router.close()
        await self._store.link.close()

    async def _stand_for_election(self) -> None:
        """Be the worker that tells of the fleet while nobody else is."""
        while True:
            try:
                self._elected = await self._store.duties.elected(self._candidate, TERM_MS)
            except self._store.errors:
                self._elected = False
            await asyncio.sleep(ELECTION_S)

    async def _resign(self) -> None:
        """Let another worker tell of the fleet at once."""
        if not self._elected:
            return
        self._elected = False
        with suppress(TimeoutError, *self._store.errors):
            async with asyncio.timeout(RESIGN_S):
                await self._store.duties.resign(self._candidate)

    def _fleet(self) -> Fleet | None:
        """Look at what waits and was counted, if it is ours to tell; in a scrape's thread.

        None while Redis is away: an old depth would look like a queue that stands still.
        """
        if not self._elected or self._store.pump.trouble:
            return None
        try:
            return self._engine.call(self._store.duties.fleet, READY_S)
        except (FutureTimeoutError, *self._store.errors):
            return None

    async def _sign_roll(self, leases: Leases, executor: Executor) -> None:
        """Say again and again that this worker lives, and what it does."""
        pace = Pace(time.monotonic())
        while True:
            said = Presence(
                slots=self._settings.concurrency,
                taken=self._consumer.taken,
                attempts_per_s=pace.next(executor.attempts_ended, time.monotonic()),
                fault=self._consumer.fault(),
                tasks=leases.oldest(presence.NAMED),
            )
            try:
                await self._roll.sign(said, int(time.time() * 1000))
                self._redis_full = False
            except self._store.errors as error:
                # The next sign tells as much.
                self._redis_full = full(error)
            await asyncio.sleep(presence.SIGN_S)

    async def _leave_roll(self) -> None:
        """Strike this worker off, unless Redis is away: then it looks as if it had died."""
        if self._store.pump.trouble:
            return
        with suppress(TimeoutError, *self._store.errors):
            async with asyncio.timeout(LEAVE_S):
                await self._roll.leave()

    async def _hear_cancellations(self, leases: Leases) -> None:
        """Stop the calls of tasks that are cancelled."""
        while True:
            try:
                async for task_id in self._store.cancelled():
                    leases.cancel(task_id)
            except self._store.errors:
                await asyncio.sleep(RECONNECT_S)

    def _readings(self) -> Readings:
        pump = self._store.pump
        return {
            BUFFERED: pump.buffered,
            FENCED: self._store.fenced,
            ROUND_TRIPS: pump.round_trips,
            CONNECTIONS: self._router.connections,
        }

    def _serve_health(self) -> HealthServer:
        alive = {"loop": loop_answers(self._engine.loop), "parts": self._parts_run}
        return HealthServer(
            (self._settings.host, self._settings.port),
            metrics=lambda: (CONTENT_TYPE, self._metrics.exposition()),
            alive=alive,
            ready=alive | {"redis": self._redis_answers, "celery": self._consumer.fault},
        )

    def _parts_run(self) -> str | None:
        """Tell which part has ended by a fault of ours; only a restart brings it back."""
        ended = [part.get_name() for part in (self._pump, *self._running) if part.done()]
        return f"ended: {', '.join(ended)}" if ended else None

    def _redis_answers(self) -> str | None:
        if trouble := self._store.pump.trouble:
            return f"Redis takes no commands: {trouble}"
        if self._redis_full:
            return "Redis refuses what is written: its memory is full"
        try:
            self._engine.call(self._store.link.ping, READY_S)
        except FutureTimeoutError:
            return f"Redis did not answer within {READY_S:g} s"
        except self._store.errors as error:
            return f"Redis cannot be used: {type(error).__name__}"
        return None


def _collect_less() -> None:
    """Let Python look for garbage in cycles less often, and not in what is there already.

    Measured: 0.66 ms of CPU time for a short call, against 0.82. Where 400 streams begin at once,
    pauses of 10 ms, against 45 with 20,000 objects, at the same CPU time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, GARBAGE_OLDER)


def _tracing(base_url: str) -> Tracing | None:
    """Trace where that is wanted and can be: OpenTelemetry takes 0.2 s to be imported."""
    if not traced():
        return None
    try:
        from worker.tracing import Tracing  # noqa: PLC0415 - an extra, which need not be there
    except ImportError as error:
        advice = "pip install 'router-worker[otel]'"
        logger.warning("nothing is traced: there is no %s; %s", error.name, advice)
        return None
    try:
        return Tracing(base_url, worker_name())
    except ValueError as error:
        # So the SDK says it of some of its variables, and of others in its own log.
        logger.warning("nothing is traced: %s", error)
        return None


def worker_name() -> str:
    """Name this process among all workers."""
    return f"router-worker-{os.getpid()}@{socket.gethostname()}"


def _part(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a part that runs as long as the process; tell where it ends before."""
    part = asyncio.create_task(work, name=name)
    part.add_done_callback(_tell_end)
    return part


async def _cancelled(parts: Iterable[asyncio.Task[None]]) -> None:
    """Cancel these parts until all have ended.

    redis-py waits by ``asyncio.wait_for``, which up to Python 3.11 may forget a cancellation
    (https://github.com/python/cpython/issues/86296).
    """
    running = set(parts)
    while running:
        for part in running:
            part.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_S)


def _tell_end(part: asyncio.Task[None]) -> None:
    error = None if part.cancelled() else part.exception()
    if error is not None:
        logger.critical("the %s has ended: %s", part.get_name(), logs.origin(error))


def _policy(settings: Settings) -> Policy:
    limits = Limits(settings.first_chunk_s, settings.gap_s, settings.total_s)
    signatures = settings.protection.signatures
    return Policy(settings.lease_s, limits, settings.retry, settings.include_usage, signatures)
