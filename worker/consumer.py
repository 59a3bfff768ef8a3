"""Celery's side of a worker process: it takes messages, hands them to the loop, and leaves.

A message's way:

1. The transport reads it, and calls the door where it is none (:class:`worker.transport.Door` on
   Redis, :class:`worker.rabbitmq.Door` on RabbitMQ).
2. Celery finds its task, whose strategy calls :meth:`Consumer.obey`, which hands it to the loop.
3. There it takes a slot until its attempt is over. A foreign task is acknowledged once its record
   is written, and a doorbell was never noted, on Redis; on RabbitMQ both are acknowledged once
   the task is claimed, or known to be nobody's to run.

Leaving, at a signal:

1. No task is claimed any more; doorbells that still come go back, for another worker.
2. Celery stops within a second. A message that it gets meanwhile goes back.
3. Tasks that run may end within the grace; then, or at a second signal, they are handed back.
4. Whatever still waits for Redis then waits for one that is away: it is given up, and comes again
   by itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from typing import Any, Final, TypeVar

from celery import signals

from worker import logs
from worker.admission import NotAMessage
from worker.app import make_app, make_worker
from worker.engine import Engine
from worker.executor import LOOP_PARSE_LIMIT, Executor
from worker.intake import Doorbell, Foreign, Refused
from worker.reception import Reception
from worker.settings import Settings
from worker.slots import Slots
from worker.store import Store
from worker.tasks import Envelope, Read, register

#: Longest wait for what is no message to be answered or put aside, in seconds: Celery takes no
#: other meanwhile. Redis takes it later then.
TURN_AWAY_S: Final = 5.0
#: How long Celery may hear nothing from its queues while a slot is free, in seconds. It asks once
#: a second; a connection that has died silently is noticed after 11 s and made anew.
SILENT_S: Final = 15.0
#: Longest wait for messages to be finished with after the last task has been, in seconds: they
#: need one round trip, unless Redis is away.
LAST_S: Final = 2.0
#: How often a worker that leaves looks whether Celery has stopped, in seconds.
LOOK_S: Final = 0.05

Value = TypeVar("Value")

logger = logging.getLogger(__name__)


class Consumer:
    """Runs Celery in the main thread. One for a process."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        executor: Executor,
        reception: Reception,
        store: Store,
    ) -> None:
        """Join the parts; nothing runs yet."""
        self._engine = engine
        self._executor = executor
        self._reception = reception
        self._store = store
        self._drain_s = settings.drain_s
        self._slots = Slots(settings.concurrency)
        self._ready = self._leaving = self._stopped = self._over = False
        #: One for each signal.
        self._leaves: list[Future[None]] = []
        #: What runs on the loop for a message.
        self._called: set[asyncio.Task[Any]] = set()
        self._app = make_app(
            settings.broker_url.get_secret_value(), settings.queues, settings.concurrency, door=self
        )
        register(self._app, self.obey)

    def run(self, name: str) -> int:
        """Consume until a signal ends it; return the exit status."""
        # Celery would replace the handlers; somebody who answers this signal keeps it from that.
        signals.setup_logging.connect(self._keep_logs, weak=False)
        signals.worker_ready.connect(self._on_ready, weak=False)
        worker = self._celery = make_worker(self._app, name, self._on_signal)
        try:
            worker.start()
        finally:
            self._stopped = True
            if not self._leaves:
                # Celery has ended by itself.
                self._begin_to_leave(self._drain_s)
            # A signal may add one meanwhile.
            for leave in self._leaves:
                wait([leave])
            self._over = True
        return int(worker.exitcode or 0)

    def fault(self) -> str | None:
        """Say why no task would be taken now."""
        if self._leaving:
            return "the worker is leaving"
        if not self._ready:
            return "Celery does not consume yet"
        silent_s = self._slots.silent_s()
        if silent_s < SILENT_S:
            return None
        since = time.strftime("%FT%TZ", time.gmtime(time.time() - silent_s))
        return f"Celery has heard nothing from its queues since {since}, with slots free"

    @property
    def room(self) -> int:
        """How many more messages may come."""
        return self._slots.room

    @property
    def taken(self) -> int:
        """How many slots are taken."""
        return self._slots.taken

    def obey(self, read: Read, envelope: Envelope) -> None:
        """Take a slot for a message, and let the loop obey it."""
        self._slots.take()
        self._engine.begin(partial(self._tracked, partial(self._obeyed, read, envelope)))

    async def _obeyed(self, read: Read, envelope: Envelope) -> None:
        """Obey a message, until its attempt is over."""
        try:
            doorbell = await self._on_record(read, envelope)
            if doorbell is not None:
                settle = partial(self._settle, envelope)
                await self._executor.run(doorbell.task_id, doorbell.kind, settle)
        except self._store.errors as error:
            logger.error("Redis is away (%s): a message comes again", type(error).__name__)  # noqa: TRY400
        except Exception as error:  # noqa: BLE001 - nobody waits for it who could tell
            logger.critical("a message met a fault of the worker: %s", logs.origin(error))
        finally:
            if self._slots.free():
                self._celery.ask_again()

    async def _on_record(self, read: Read, envelope: Envelope) -> Doorbell | None:
        """Return the doorbell that a message is, or that it is once its task is on record."""
        doorbell = None
        try:
            message = await _read(read, envelope)
            if isinstance(message, Doorbell):
                return message
            doorbell = await self._reception.accept(message)
        except NotAMessage as error:
            await self._reception.turn_away(envelope.queue, envelope.text, error)
        except self._store.errors:
            raise
        except Exception as error:  # noqa: BLE001 - left alone, it would come again for ever
            logger.error("a message met a fault of the worker: %s", logs.origin(error))  # noqa: TRY400
            reason = NotAMessage("it met a fault of the worker")
            await self._reception.turn_away(envelope.queue, envelope.text, reason)
        if envelope.settle is None:
            # Beside what follows: the queues may be another Redis, which may be away.
            acknowledged = partial(self._acknowledged, envelope.tag)
            asyncio.create_task(self._tracked(acknowledged))  # noqa: RUF006 - it keeps itself
        elif doorbell is None:
            self._settle(envelope)
        return doorbell

    def _settle(self, envelope: Envelope) -> None:
        """Let a message not come again, where its channel sees to that."""
        if envelope.settle is not None:
            envelope.settle()
            self._celery.ask_again()

    async def _acknowledged(self, tag: str) -> None:
        try:
            await self._store.duties.acknowledge(tag)
        except self._store.errors as error:
            logger.warning("a message comes again, and is dropped: %s", type(error).__name__)

    def heard(self) -> None:
        """Note that Celery has heard from its queues."""
        self._slots.heard()

    def came(self, queue: str, rung_at: int) -> None:
        """Note that a doorbell has come from a queue that was rung then, in unix ms."""
        self._store.link.queues.came(queue, rung_at)

    def refuse(
        self, queue: str, message: bytes, error: NotAMessage, settle: Callable[[], None]
    ) -> None:
        """Answer what is no message, or put it aside, and settle it; do not wait for that."""
        refused = partial(self._refused, queue, message, error, settle)
        self._engine.begin(partial(self._tracked, refused))

    async def _refused(
        self, queue: str, message: bytes, error: NotAMessage, settle: Callable[[], None]
    ) -> None:
        try:
            await self._reception.turn_away(queue, message, error)
        except self._store.errors as trouble:
            if self._store.pump.closing:
                # It goes back with its connection.
                return
            logger.error("a bad message on %s is lost: %s", queue, type(trouble).__name__)  # noqa: TRY400
        settle()
        self._celery.ask_again()

    def turn_away(self, queue: str, message: bytes, error: NotAMessage) -> None:
        """Answer what is no message, or put it aside."""
        turned_away = partial(self._reception.turn_away, queue, message, error)
        try:
            self._call(turned_away, TURN_AWAY_S)
        except FutureTimeoutError:
            logger.warning("a bad message on %s waits for Redis: %s", queue, error)
        except self._store.errors as trouble:
            logger.error("a bad message on %s is lost: %s", queue, type(trouble).__name__)  # noqa: TRY400

    def put_back(self, queue: str, message: bytes) -> None:
        """Put a message back, however long Redis is away."""
        try:
            self._call(partial(self._reception.put_back, queue, message))
        except self._store.errors as error:
            logger.error("a message on %s is lost: %s", queue, type(error).__name__)  # noqa: TRY400

    def _call(self, work: Callable[[], Awaitable[Value]], timeout_s: float | None = None) -> Value:
        """Do something on the loop, and wait for it in this thread."""
        return self._engine.call(partial(self._tracked, work), timeout_s)

    async def _tracked(self, work: Callable[[], Awaitable[Value]]) -> Value:
        """Do something that is waited for before we leave."""
        task = asyncio.current_task()
        assert task is not None  # nosec B101 # noqa: S101 - a coroutine runs in one
        self._called.add(task)
        try:
            return await work()
        finally:
            self._called.discard(task)

    def _on_ready(self, **_: object) -> None:
        self._slots.heard()
        self._ready = True

    def _keep_logs(self, **_: object) -> None:
        """Do nothing: the logs are set up."""

    def _on_signal(self, at_once: bool) -> None:  # noqa: FBT001 - the one thing that it says
        if self._over:
            # What is left to do is bounded, and the loop may have ended.
            return
        self._begin_to_leave(0.0 if at_once or self._leaving else self._drain_s)

    def _begin_to_leave(self, grace_s: float) -> None:
        self._leaving = True
        self._leaves.append(self._engine.submit(partial(self._leave, grace_s)))
        self._leaves[-1].add_done_callback(_tell_fault)

    async def _leave(self, grace_s: float) -> None:
        logger.info("leaving; tasks that run may end within %g s", grace_s)
        # It waits for what comes, on RabbitMQ for up to 5 s; a signal alone does not wake it.
        self._celery.ask_again()
        await (self._executor.drain(grace_s) if grace_s else self._executor.hand_back())
        late: set[asyncio.Task[Any]] = set()
        stopped = False
        # Messages may still come, until Celery has stopped. What it left to the loop by then has
        # begun after the pause.
        while not (late or self._store.pump.trouble or (stopped and not self._called)):
            stopped = self._stopped
            await asyncio.sleep(LOOK_S)
            if self._called:
                _, late = await asyncio.wait(self._called, timeout=LAST_S)
        self._store.pump.close()


def _tell_fault(done: Future[None]) -> None:
    error = done.exception()
    if error is not None:
        logger.critical("leaving met a fault: %s", logs.origin(error))


async def _read(read: Read, envelope: Envelope) -> Doorbell | Foreign | Refused:
    return await asyncio.to_thread(read) if envelope.size > LOOP_PARSE_LIMIT else read()
