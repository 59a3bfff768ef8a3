"""Doorbells on RabbitMQ, or on another server that speaks AMQP 0-9-1.

A doorbell carries no promise, its task's record does. So it is published without waiting for the
server's word. One that cannot be is told of in the log, and is no error: the task is on record, and
a worker rings for it soon after the server's return.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

from amqp.exceptions import AMQPError, NotFound
from kombu import Connection

from api_contracts.client.brokers import BrokerAway, amqp_address
from api_contracts.client.submission import Bell
from api_contracts.requests import CELERY_TASKS

#: For so long a server that could not be reached is not tried again, in seconds: what is rung
#: meanwhile is not rung, and nobody waits for that.
PAUSE_S: Final = 2.0
#: Kept on disk, as the queues are: after a restart tasks begin in the order in which they came.
_PERSISTENT: Final = 2
#: What comes of a server that is away, refuses, or takes a channel away.
ERRORS: Final = (AMQPError, OSError)

Value = TypeVar("Value")

logger = logging.getLogger(__name__)


class Bells:
    """Rings doorbells, on one connection. Threads may share it, and processes that fork."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Prepare; nothing is connected yet. Each wait for the server lasts ``timeout_s`` at most.

        ValueError where the URL is none.
        """
        self._address = amqp_address(url)
        self._timeout_s = timeout_s
        self._begin()

    def ring(self, bells: Sequence[Bell]) -> bool:
        """Ring doorbells, in their order; tell whether the server took them, as far as is known."""
        try:
            self._do(lambda channel: self._publish(channel, bells))
        except BrokerAway as error:
            logger.warning(
                "doorbells not rung, a worker will ring them: %d (%s)", len(bells), error
            )
            return False
        return True

    def waiting(self, queue: str) -> int:
        """Tell how many messages wait in a queue, if there is one.

        BrokerAway where that cannot be told.
        """
        return self._do(lambda channel: _waiting(channel, queue) or 0)

    def close(self) -> None:
        """Close the connection, once the server has all that was rung."""
        with self._lock:
            if self._connection is not None:
                with suppress(*ERRORS):
                    self._connection.close()
            self._forget()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._connection: Any = None
        self._channel: Any = None
        #: Queues that are there, as far as this connection knows.
        self._made: set[str] = set()
        self._away_until = 0.0

    def _do(self, work: Callable[[Any], Value]) -> Value:
        """Do something on a channel; once more on a new one, where the old one was closed."""
        if self._process != os.getpid():
            # The connection is our parent's, and somebody may have held its lock.
            self._begin()
        with self._lock:
            if time.monotonic() < self._away_until:
                message = "it could not be used a moment ago"
                raise BrokerAway(message)
            if self._channel is not None:
                try:
                    return work(self._channel)
                except ERRORS:
                    self._forget()
            try:
                return work(self._connect())
            except ERRORS as error:
                self._forget()
                self._away_until = time.monotonic() + PAUSE_S
                message = f"{type(error).__name__}: {error}"
                raise BrokerAway(message) from error

    def _connect(self) -> Any:
        address = Connection(
            **self._address,
            transport="pyamqp",
            connect_timeout=self._timeout_s,
            transport_options={"read_timeout": self._timeout_s, "write_timeout": self._timeout_s},
        )
        # Its own way to connect tries twice, two seconds apart.
        self._connection = address.transport.establish_connection()
        self._channel = self._connection.channel()
        return self._channel

    def _forget(self) -> None:
        """Drop the connection, if there is one, without a word to the server."""
        if self._connection is not None:
            self._connection.collect()
        self._connection = self._channel = None
        self._made.clear()

    def _publish(self, channel: Any, bells: Sequence[Bell]) -> None:
        for bell in bells:
            if bell.queue not in self._made:
                make_queue(channel, bell.queue)
                self._made.add(bell.queue)
            channel.basic_publish(_message(channel, bell), routing_key=bell.queue)


class AsyncBells:
    """The same for asyncio: a thread of its own waits for the server."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Prepare, as :class:`Bells`."""
        self._bells = Bells(url, timeout_s)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="doorbells")

    async def ring(self, bells: Sequence[Bell]) -> bool:
        """Ring doorbells; as :meth:`Bells.ring`."""
        return await self._do(lambda: self._bells.ring(bells))

    async def waiting(self, queue: str) -> int:
        """Tell how many messages wait; as :meth:`Bells.waiting`."""
        return await self._do(lambda: self._bells.waiting(queue))

    async def aclose(self) -> None:
        """Close the connection; as :meth:`Bells.close`."""
        await self._do(self._bells.close)

    async def _do(self, work: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def make_queue(channel: Any, queue: str) -> None:
    """Make a queue where there is none.

    One that is there is taken as it is, of whatever kind somebody has made it.
    """
    if _waiting(channel, queue) is None:
        channel.queue_declare(queue, durable=True, auto_delete=False)


def _waiting(channel: Any, queue: str) -> int | None:
    """Tell how many messages wait in a queue; None where there is no such queue."""
    try:
        _, waiting, _ = channel.queue_declare(queue, passive=True)
    except NotFound:
        # For that the server closes the channel; py-amqp has opened it again.
        return None
    return int(waiting)


def _message(channel: Any, bell: Bell) -> Any:
    """Write a doorbell: the least message that Celery runs (protocol 2)."""
    headers = {
        "lang": "py", "task": CELERY_TASKS[bell.kind], "id": bell.task_id, "rung_at": bell.rung_at,
    }  # fmt: skip
    return channel.prepare_message(
        json.dumps([[bell.task_id], {}, {}]).encode(),
        content_type="application/json",
        content_encoding="utf-8",
        headers=headers,
        properties={"delivery_mode": _PERSISTENT},
    )
