"""The client for ordinary programs. Thread-safe; one connection a running stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from redis.exceptions import RedisError
from redis.retry import Retry

from api_contracts.client import compose, connection, flows, letters, tracing
from api_contracts.client.box import reader
from api_contracts.client.brokers import is_amqp, open_bells
from api_contracts.client.links import Channel, Cluster, OneServer, open_link
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
    from api_contracts.client.rabbitmq import Bells


class Client:
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
        options["command_packer"] = connection.Packer()
        options["retry"] = Retry(connection.BACKOFF, connection.TRIES, connection.TRIED_AGAIN)
        self._redis = open_link(address.url, **options)
        self._one_redis = address.broker_url == address.url
        self._queues: OneServer | Cluster | Bells = self._redis
        if is_amqp(address.broker_url):
            self._queues = open_bells(address.broker_url, timeout_s)
        elif not self._one_redis:
            self._queues = open_link(address.broker_url, **options)

    def chat(self, model: str, messages: Iterable[Mapping[str, Any]], **parameters: Any) -> Handle:
        """Enqueue a chat; the arguments are those of :func:`~.compose.chat_task`."""
        return self.enqueue(compose.chat_task(model, messages, **parameters))

    def vision(
        self, model: str, prompt: str, images: Iterable[compose.Image], **parameters: Any
    ) -> Handle:
        """Enqueue a question about pictures; as :func:`~.compose.vision_task`."""
        parameters.setdefault("image_limit", self._image_limit)
        return self.enqueue(compose.vision_task(model, prompt, images, **parameters))

    def native(
        self, path: str, request: Mapping[str, Any] | None = None, **parameters: Any
    ) -> Handle:
        """Enqueue a provider's own call; as :func:`~.compose.native_task`."""
        return self.enqueue(compose.native_task(path, request, **parameters))

    def enqueue(self, task: Task | Mapping[str, Any]) -> Handle:
        """Enqueue any task and return at once.

        The same id, or the same idempotency key, with the same content gives the same task back;
        with another content it raises TaskExists or IdempotencyConflict.
        """
        with tracing.sending([compose.checked(task)]) as (told,):
            flow = flows.enqueue(
                told, self._keys, _now_ms(), self._protection, one_redis=self._one_redis
            )
            return Handle(self, self._ask(flow))

    def enqueue_all(self, tasks: Iterable[Task | Mapping[str, Any]]) -> list[Handle]:
        """Enqueue many tasks, 200 in a round trip; as :meth:`enqueue` for each.

        Nothing is sent where one of them breaks the contract. Where one is refused, the error
        comes once all others are on record; to call again with the same tasks is harmless.
        """
        made = [compose.checked(task) for task in tasks]
        with tracing.sending(made) as told:
            flow = flows.enqueue_all(
                told, self._keys, _now_ms(), self._protection, one_redis=self._one_redis
            )
            return [Handle(self, task_id) for task_id in self._ask(flow)]

    def stream(self, task_id: str, after: str | None = None) -> Generator[Event, None, None]:
        """Yield a task's events, from its first or behind ``after``, to its ending.

        TaskNotFound where there is no such task, CursorExpired where its log has lost what follows;
        StoreUnavailable where Redis stays away. It holds a connection until it ends or is closed.
        """
        return self._follow(task_id, self._seen(task_id, after), connection.Until(None))

    def result(self, task_id: str, timeout: float | None = None) -> Result:
        """Wait for a task's result, for ``timeout`` seconds or without limit.

        TaskFailed, TaskCancelled or TaskExpired where it ended otherwise; ResultTimeout where
        it has not ended by then.
        """
        found = self._ask(flows.result(task_id, self._keys, self._keyring))
        if found is None:
            follow = self._follow(task_id, self._seen(task_id), connection.Until(timeout))
            with closing(follow) as events:
                for event in events:
                    if isinstance(event, Completed) and event.result is not None:
                        return event.result
            found = self._ask(flows.result(task_id, self._keys, self._keyring))
        if found is None:
            message = f"task {task_id} had not ended after {timeout} s"
            raise ResultTimeout(message)
        return found

    def status(self, task_id: str) -> Status:
        """Tell what the record says now; TaskNotFound where there is none."""
        return self._ask(flows.status(task_id, self._keys, self._keyring))

    def cancel(self, task_id: str) -> bool:
        """Cancel a task; False where it had ended otherwise. Cancelling it again is no fault.

        Nothing more of it is written, and a call that runs is stopped. TaskNotFound where there
        is no such task.
        """
        return self._ask(flows.cancel(task_id, self._keys))

    def dead_letters(
        self, limit: int = letters.PAGE, before: DeadLetter | None = None
    ) -> list[DeadLetter]:
        """Return so many dead letters, the newest first; ``before`` the last is the next page."""
        return self._ask(letters.letters(self._keys, limit, before, _now_ms(), self._keyring))

    def dead_letter(self, letter_id: str) -> DeadLetter:
        """Return one dead letter. NotDead where the task is none; TaskNotFound likewise."""
        return self._ask(letters.letter(letter_id, self._keys, self._keyring))

    def dead_letter_body(self, letter_id: str) -> bytes:
        """Return what it was about: a task's request, or the beginning of a message."""
        return self._ask(letters.body(letter_id, self._keys, self._keyring))

    def replay(self, task_id: str) -> None:
        """Queue a dead letter again, under its own id and without its deadlines.

        NotDead where it is none, or was no task; TaskNotFound where there is no such task.
        """
        flow = letters.replay(task_id, self._keys, _now_ms(), one_redis=self._one_redis)
        self._ask(flow)

    def drop(self, letter_id: str) -> None:
        """Let go of a dead letter. NotDead where the task is none; TaskNotFound likewise."""
        self._ask(letters.drop(letter_id, self._keys))

    def close(self) -> None:
        """Close every connection."""
        self._redis.close()
        self._queues.close()

    def __enter__(self) -> Self:
        """Use the client in a ``with`` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it at the end of the block."""
        self.close()

    def _ask(self, flow: flows.Flow[flows.Value]) -> flows.Value:
        with connection.clear_errors():
            return self._run(flow)

    def _run(self, flow: flows.Flow[flows.Value]) -> flows.Value:
        replies: Any = None
        while True:
            try:
                batch = flow.send(replies)
            except StopIteration as stop:
                value: flows.Value = stop.value
                return value
            if isinstance(batch, flows.Rings):
                replies = self._ring(batch.bells)
            else:
                replies = self._redis.ask(batch.commands)

    def _ring(self, bells: Sequence[Bell]) -> Sequence[Bell]:
        """Ring doorbells where the queues are elsewhere; return those that could not be."""
        if isinstance(self._queues, (OneServer, Cluster)):
            flows.raise_error(self._queues.ask(flows.ring_commands(bells)))
            return ()
        return () if self._queues.ring(bells) else bells

    def _seen(self, task_id: str, after: str | None = None) -> Reassembler:
        """Begin to follow a task."""
        return Reassembler(after, reader(self._keyring, task_id))

    def _follow(
        self, task_id: str, seen: Reassembler, until: connection.Until
    ) -> Generator[Event, None, None]:
        patience = connection.Patience()
        while not flows.over(seen, until):
            try:
                with self._redis.listen(self._keys.live(task_id)) as channel:
                    while not flows.over(seen, until):
                        events = self._next(channel, task_id, seen, until)
                        patience.restore()
                        yield from events
            except RedisError as error:
                time.sleep(patience.pause(error, time.monotonic()))

    def _next(
        self, channel: Channel, task_id: str, seen: Reassembler, until: connection.Until
    ) -> list[Event]:
        """Wait for what comes next.

        The channel's word that it is open, silence and gaps read the log.
        """
        if not seen.behind:
            message = channel.get_message(timeout=until.wait(connection.SILENCE_S))
            said = connection.event_of(message)
            heard = None if said is None else seen.hear(said)
            if heard is not None:
                return heard
        return self._run(flows.log_page(task_id, self._keys, seen))


class Handle:
    """A task that was enqueued. Iterating it yields its events, from the first to the ending."""

    def __init__(self, client: Client, task_id: str) -> None:
        """Belong to a client; made by it."""
        self._client = client
        self.id = task_id

    def __repr__(self) -> str:
        """Show the id."""
        return f"Handle({self.id!r})"

    def __iter__(self) -> Iterator[Event]:
        """Yield every event; as :meth:`events`."""
        return self.events()

    def events(self, after: str | None = None) -> Generator[Event, None, None]:
        """Yield the events behind ``after``, or all."""
        return self._client.stream(self.id, after)

    def text(self, on_reset: Callable[[], None] | None = None) -> Generator[str, None, None]:
        """Yield the answer's text piece by piece; whole where it was not streamed.

        Restarts are as :class:`~.text.TextView` has them. Another ending than `completed` raises
        as :meth:`result` does.
        """
        view = TextView(on_reset)
        with closing(self.events()) as events:
            for event in events:
                if piece := view.piece(event):
                    yield piece
        if rest := view.rest(self.result()):
            yield rest

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the result; as :meth:`Client.result`."""
        return self._client.result(self.id, timeout)

    def status(self) -> Status:
        """Tell what the record says now."""
        return self._client.status(self.id)

    def cancel(self) -> bool:
        """Cancel the task; as :meth:`Client.cancel`."""
        return self._client.cancel(self.id)


def _now_ms() -> int:
    return int(time.time() * 1000)
