"""The client for asyncio programs: the same as :mod:`.sync`, awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from redis.asyncio.retry import Retry
from redis.exceptions import RedisError

from api_contracts.client import compose, connection, flows, letters, tracing
from api_contracts.client.box import reader
from api_contracts.client.brokers import is_amqp, open_async_bells
from api_contracts.client.links import (
    AsyncChannel,
    AsyncCluster,
    AsyncOneServer,
    open_async_link,
)
from api_contracts.client.protection import Protection
from api_contracts.client.reassembler import Reassembler
from api_contracts.client.submission import Bell
from api_contracts.client.text import TextView
from api_contracts.content import IMAGE_LIMIT
from api_contracts.errors import ResultTimeout
from api_contracts.events import Completed, Event
from api_contracts.requests import Task
from api_contracts.results import DeadLetter, Result, Status

if TYPE_CHECKING:
    from api_contracts.client.rabbitmq import AsyncBells


class AsyncClient:
    """Put tasks on Redis, follow their streams, fetch their results.

    ``url`` is the Redis of records and events, ``broker_url`` Celery's where it is another;
    unset, both come from the environment (``REDIS_URL``, ``ROUTER_WORKER_BROKER_URL``). Both may be
    a Redis or its sentinels, the first a cluster, and Celery's a RabbitMQ: :mod:`.servers` and
    :mod:`.brokers` have the forms.
    With ``encryption_keys`` what a task says is encrypted, and with ``signing_keys`` it is signed;
    unset, they come from the environment too (``ROUTER_WORKER_…``): :mod:`.protection` says what
    they are good for. ``encryption_required``: no plain answer is believed. What is encrypted for
    others raises NotOpened.
    Everything that Redis refuses or does not answer within ``timeout_s`` seconds raises
    StoreUnavailable; a task that breaks the contract raises InvalidTask, before it is sent.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        broker_url: str | None = None,
        prefix: str | None = None,
        timeout_s: float = connection.TIMEOUT_S,
        image_limit: int = IMAGE_LIMIT,
        encryption_keys: str | None = None,
        encryption_required: bool | None = None,
        signing_keys: str | None = None,
    ) -> None:
        """Prepare; nothing is connected before the first call."""
        address = connection.Address.of(url, broker_url, prefix)
        self._keys = address.keys
        self._protection = Protection.of(
            encryption_keys, signing_keys, required=encryption_required
        )
        self._keyring = self._protection.keyring
        self._image_limit = image_limit
        options = connection.connection_options(timeout_s)
        options["max_connections"] = connection.CONNECTIONS
        options["retry"] = Retry(connection.BACKOFF, connection.TRIES, connection.TRIED_AGAIN)
        self._redis = open_async_link(address.url, **options)
        self._one_redis = address.broker_url == address.url
        self._queues: AsyncOneServer | AsyncCluster | AsyncBells = self._redis
        if is_amqp(address.broker_url):
            self._queues = open_async_bells(address.broker_url, timeout_s)
        elif not self._one_redis:
            self._queues = open_async_link(address.broker_url, **options)

    async def chat(
        self, model: str, messages: Iterable[Mapping[str, Any]], **parameters: Any
    ) -> AsyncHandle:
        """Enqueue a chat; the arguments are those of :func:`~.compose.chat_task`."""
        return await self.enqueue(compose.chat_task(model, messages, **parameters))

    async def vision(
        self, model: str, prompt: str, images: Iterable[compose.Image], **parameters: Any
    ) -> AsyncHandle:
        """Enqueue a question about pictures; as :func:`~.compose.vision_task`."""
        parameters.setdefault("image_limit", self._image_limit)
        return await self.enqueue(compose.vision_task(model, prompt, images, **parameters))

    async def native(
        self, path: str, request: Mapping[str, Any] | None = None, **parameters: Any
    ) -> AsyncHandle:
        """Enqueue a provider's own call; as :func:`~.compose.native_task`."""
        return await self.enqueue(compose.native_task(path, request, **parameters))

    async def enqueue(self, task: Task | Mapping[str, Any]) -> AsyncHandle:
        """Enqueue any task and return at once.

        The same id, or the same idempotency key, with the same content gives the same task back;
        with another content it raises TaskExists or IdempotencyConflict.
        """
        with tracing.sending([compose.checked(task)]) as (told,):
            flow = flows.enqueue(
                told, self._keys, _now_ms(), self._protection, one_redis=self._one_redis
            )
            return AsyncHandle(self, await self._ask(flow))

    async def enqueue_all(self, tasks: Iterable[Task | Mapping[str, Any]]) -> list[AsyncHandle]:
        """Enqueue many tasks, 200 in a round trip; as :meth:`enqueue` for each.

        Nothing is sent where one of them breaks the contract. Where one is refused, the error
        comes once all others are on record; to call again with the same tasks is harmless.
        """
        made = [compose.checked(task) for task in tasks]
        with tracing.sending(made) as told:
            flow = flows.enqueue_all(
                told, self._keys, _now_ms(), self._protection, one_redis=self._one_redis
            )
            return [AsyncHandle(self, task_id) for task_id in await self._ask(flow)]

    def stream(self, task_id: str, after: str | None = None) -> AsyncGenerator[Event, None]:
        """Yield a task's events, from its first or behind ``after``, to its ending.

        TaskNotFound where there is no such task, CursorExpired where its log has lost what follows;
        StoreUnavailable where Redis stays away. It holds a connection until it ends or is closed.
        """
        return self._follow(task_id, self._seen(task_id, after), connection.Until(None))

    async def result(self, task_id: str, timeout: float | None = None) -> Result:
        """Wait for a task's result, for ``timeout`` seconds or without limit.

        TaskFailed, TaskCancelled or TaskExpired where it ended otherwise; ResultTimeout where
        it has not ended by then.
        """
        found = await self._ask(flows.result(task_id, self._keys, self._keyring))
        if found is None:
            follow = self._follow(task_id, self._seen(task_id), connection.Until(timeout))
            async with aclosing(follow) as events:
                async for event in events:
                    if isinstance(event, Completed) and event.result is not None:
                        return event.result
            found = await self._ask(flows.result(task_id, self._keys, self._keyring))
        if found is None:
            message = f"task {task_id} had not ended after {timeout} s"
            raise ResultTimeout(message)
        return found

    async def status(self, task_id: str) -> Status:
        """Tell what the record says now; TaskNotFound where there is none."""
        return await self._ask(flows.status(task_id, self._keys, self._keyring))

    async def cancel(self, task_id: str) -> bool:
        """Cancel a task; False where it had ended otherwise. Cancelling it again is no fault.

        Nothing more of it is written, and a call that runs is stopped. TaskNotFound where there
        is no such task.
        """
        return await self._ask(flows.cancel(task_id, self._keys))

    async def dead_letters(
        self, limit: int = letters.PAGE, before: DeadLetter | None = None
    ) -> list[DeadLetter]:
        """Return so many dead letters, the newest first; ``before`` the last is the next page."""
        return await self._ask(letters.letters(self._keys, limit, before, _now_ms(), self._keyring))

    async def dead_letter(self, letter_id: str) -> DeadLetter:
        """Return one dead letter. NotDead where the task is none; TaskNotFound likewise."""
        return await self._ask(letters.letter(letter_id, self._keys, self._keyring))

    async def dead_letter_body(self, letter_id: str) -> bytes:
        """Return what it was about: a task's request, or the beginning of a message."""
        return await self._ask(letters.body(letter_id, self._keys, self._keyring))

    async def replay(self, task_id: str) -> None:
        """Queue a dead letter again, under its own id and without its deadlines.

        NotDead where it is none, or was no task; TaskNotFound where there is no such task.
        """
        flow = letters.replay(task_id, self._keys, _now_ms(), one_redis=self._one_redis)
        await self._ask(flow)

    async def drop(self, letter_id: str) -> None:
        """Let go of a dead letter. NotDead where the task is none; TaskNotFound likewise."""
        await self._ask(letters.drop(letter_id, self._keys))

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()
        await self._queues.aclose()

    async def __aenter__(self) -> Self:
        """Use the client in a ``async with`` block."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it at the end of the block."""
        await self.close()

    async def _ask(self, flow: flows.Flow[flows.Value]) -> flows.Value:
        with connection.clear_errors():
            return await self._run(flow)

    async def _run(self, flow: flows.Flow[flows.Value]) -> flows.Value:
        replies: Any = None
        while True:
            try:
                batch = flow.send(replies)
            except StopIteration as stop:
                value: flows.Value = stop.value
                return value
            if isinstance(batch, flows.Rings):
                replies = await self._ring(batch.bells)
            else:
                replies = await self._redis.ask(batch.commands)

    async def _ring(self, bells: Sequence[Bell]) -> Sequence[Bell]:
        """Ring doorbells where the queues are elsewhere; return those that could not be."""
        if isinstance(self._queues, (AsyncOneServer, AsyncCluster)):
            flows.raise_error(await self._queues.ask(flows.ring_commands(bells)))
            return ()
        return () if await self._queues.ring(bells) else bells

    def _seen(self, task_id: str, after: str | None = None) -> Reassembler:
        """Begin to follow a task."""
        return Reassembler(after, reader(self._keyring, task_id))

    async def _follow(
        self, task_id: str, seen: Reassembler, until: connection.Until
    ) -> AsyncGenerator[Event, None]:
        patience = connection.Patience()
        while not flows.over(seen, until):
            try:
                async with self._redis.listen(self._keys.live(task_id)) as channel:
                    while not flows.over(seen, until):
                        events = await self._next(channel, task_id, seen, until)
                        patience.restore()
                        for event in events:
                            yield event
            except RedisError as error:
                await asyncio.sleep(patience.pause(error, time.monotonic()))

    async def _next(
        self, channel: AsyncChannel, task_id: str, seen: Reassembler, until: connection.Until
    ) -> list[Event]:
        """Wait for what comes next.

        The channel's word that it is open, silence and gaps read the log.
        """
        if not seen.behind:
            with connection.cancellable():
                message = await channel.get_message(timeout=until.wait(connection.SILENCE_S))
            said = connection.event_of(message)
            heard = None if said is None else seen.hear(said)
            if heard is not None:
                return heard
        return await self._run(flows.log_page(task_id, self._keys, seen))


class AsyncHandle:
    """A task that was enqueued. Iterating it yields its events, from the first to the ending."""

    def __init__(self, client: AsyncClient, task_id: str) -> None:
        """Belong to a client; made by it."""
        self._client = client
        self.id = task_id

    def __repr__(self) -> str:
        """Show the id."""
        return f"AsyncHandle({self.id!r})"

    def __aiter__(self) -> AsyncIterator[Event]:
        """Yield every event; as :meth:`events`."""
        return self.events()

    def events(self, after: str | None = None) -> AsyncGenerator[Event, None]:
        """Yield the events behind ``after``, or all."""
        return self._client.stream(self.id, after)

    async def text(self, on_reset: Callable[[], None] | None = None) -> AsyncGenerator[str, None]:
        """Yield the answer's text piece by piece; whole where it was not streamed.

        Restarts are as :class:`~.text.TextView` has them. Another ending than `completed` raises
        as :meth:`result` does.
        """
        view = TextView(on_reset)
        async with aclosing(self.events()) as events:
            async for event in events:
                if piece := view.piece(event):
                    yield piece
        if rest := view.rest(await self.result()):
            yield rest

    async def result(self, timeout: float | None = None) -> Result:
        """Wait for the result; as :meth:`AsyncClient.result`."""
        return await self._client.result(self.id, timeout)

    async def status(self) -> Status:
        """Tell what the record says now."""
        return await self._client.status(self.id)

    async def cancel(self) -> bool:
        """Cancel the task; as :meth:`AsyncClient.cancel`."""
        return await self._client.cancel(self.id)


def _now_ms() -> int:
    return int(time.time() * 1000)
