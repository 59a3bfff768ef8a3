"""The Celery app and its worker. Each setting has its reason; the README has the experiments.

A message is a doorbell: it carries a task's id, and may be lost, doubled or late. What Celery
offers beyond delivering it (pools, retries, results, time limits, events) is off.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable
from typing import Any, Final, Protocol

from celery import Celery
from celery.app.amqp import AMQP
from celery.apps.worker import Worker as CeleryWorker
from celery.exceptions import CPendingDeprecationWarning
from celery.utils.threads import bound_open_broker_sockets  # type: ignore[attr-defined]
from celery.worker import WorkController, state
from kombu import Connection
from kombu import Queue as KombuQueue

from api_contracts.client.brokers import amqp_address, is_amqp
from api_contracts.client.servers import kombu_address
from api_contracts.names import Queue
from worker import rabbitmq, transport
from worker.store import UNACKED, UNACKED_INDEX

#: Called at each signal that asks the worker to leave; with True where it is to leave at once.
#: It runs in the main thread, between any two steps of it.
Leave = Callable[[bool], None]

#: Longest wait for the broker's answer, in seconds.
BROKER_TIMEOUT_S = 5.0
#: The same once the worker leaves: what it might hear is nothing that it needs.
LEAVE_TIMEOUT_S = 2.0
#: Pauses between two tries to reach the broker, in seconds: the first, by how much each is longer
#: than the one before, and the longest. kombu's own, 30, would be all the time that a worker has
#: to come back.
RECONNECT_S = {"interval_start": 0.5, "interval_step": 1.0, "interval_max": 5.0}
#: A foreign task's message that was taken and not acknowledged for so long comes again, in seconds.
#: It is acknowledged as soon as it is on record: whoever takes longer has died, or waits for Redis.
#: Coming twice is harmless, since the claim decides.
VISIBILITY_TIMEOUT_S = 60
#: How often each worker looks for such messages, in seconds.
RESTORE_S = 10
#: A worker that dies while it looks keeps the others from looking for so long, in seconds.
RESTORE_LOCK_S = 30

#: What ends a worker: an orchestrator, a terminal, a terminal that closes; and one that cannot
#: wait. Windows has two of them.
_LEAVE: Final = ("SIGTERM", "SIGINT", "SIGHUP")
_LEAVE_AT_ONCE: Final = ("SIGQUIT",)


class Door(transport.Door, rabbitmq.Door, Protocol):
    """What happens to messages at the door, whichever server they come from."""


class BrokerConnection(Connection):
    """A connection that is never long between two tries, and keeps its transport."""

    def switch(self, conn_str: str) -> None:
        """Take the next sentinel's URL; kombu would take its own transport for it, without door."""
        transport = self.transport_cls
        super().switch(conn_str)
        self.transport_cls = transport

    def as_uri(self, *arguments: Any, **options: Any) -> str:
        """Name the server by its URL; kombu would write our transport's class for its scheme."""
        address = super().as_uri(*arguments, **options).partition("://")[2]
        return f"{self.transport.driver_type}://{address}"

    def ensure_connection(  # type: ignore[override]  # its own, whatever they are
        self, *arguments: Any, **options: Any
    ) -> Connection:
        """Connect, however long that takes."""
        return super().ensure_connection(*arguments, **RECONNECT_S | options)


class Amqp(AMQP):
    """Celery's own, with those connections."""

    Connection = BrokerConnection


class App(Celery):
    """Celery on the broker that the settings name.

    ``CELERY_BROKER_URL`` and its kin, set for another program, would win over it.
    """

    amqp_cls = f"{__name__}:Amqp"
    #: URL of the broker, as kombu takes it.
    own_broker: str

    def connection_for_read(self, url: str | None = None, **options: Any) -> Connection:
        """Connect to consume."""
        return super().connection_for_read(url or self.own_broker, **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Connection:
        """Connect to produce."""
        return super().connection_for_write(url or self.own_broker, **options)


class Worker(CeleryWorker):
    """Celery's worker, which leaves at our word.

    With Celery's own handlers and the threads pool, a second SIGTERM does nothing, and a second
    SIGINT and a SIGQUIT end in NotImplementedError; a SIGHUP would start another program.
    """

    leave: Leave
    consumer: Any
    hub: Any

    def ask_again(self) -> None:
        """Let Celery see now whether it may ask for messages, or is to leave.

        It sees to that in each of its rounds, which are up to a second apart on Redis, and five on
        RabbitMQ. Any thread may call this, but the one that runs Celery does not wake itself. Where
        it has no hub, as on Windows, it must be left to that.
        """
        if self.hub is not None:
            self.hub.call_soon(_nothing)

    def setup_logging(self, colorize: bool | None = None) -> Any:  # noqa: FBT001 - Celery's
        """Let Celery log as it does, but for what it would do by default some day.

        At each lost connection it says that it cancels tasks, which it does not: it was told so.
        """
        handled = super().setup_logging(colorize)
        # It lets each of these through, from here on.
        warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
        return handled

    def install_platform_tweaks(self, worker: WorkController) -> None:
        """Answer the signals that end a process."""
        super().install_platform_tweaks(worker)
        for name in (*_LEAVE, *_LEAVE_AT_ONCE):
            if hasattr(signal, name):
                signal.signal(signal.Signals[name], self._on_signal)

    def _on_signal(self, number: int, _: object) -> None:
        # Celery's consumer looks at this in its next round.
        state.should_stop = 0  # type: ignore[assignment]
        bound_open_broker_sockets(self.consumer.connection, LEAVE_TIMEOUT_S)
        self.leave(signal.Signals(number).name in _LEAVE_AT_ONCE)


def make_worker(app: Celery, hostname: str, leave: Leave) -> Worker:
    """Make the worker of this app."""
    worker = Worker(
        app=app,
        hostname=hostname,
        pool="solo",
        queues=[queue.name for queue in app.conf.task_queues],
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.leave = leave
    return worker


def make_app(broker_url: str, queues: tuple[Queue, ...], slots: int, door: Door) -> Celery:
    """Make the app of one worker process with so many slots, whose messages pass the door."""
    if is_amqp(broker_url):
        url, broker = _rabbitmq(broker_url, queues, slots, door)
    else:
        url, broker = _redis(broker_url, door)
    app = App("router-worker", broker=url, set_as_current=False)
    app.own_broker = url
    app.conf.update(
        broker,
        task_queues=[_queue(name, made=is_amqp(broker_url)) for name in queues],
        task_default_queue=Queue.INTERACTIVE,
        task_default_exchange="",
        task_create_missing_queues=False,
        # Nothing runs in Celery's pool: the tasks hand their messages to the loop
        # (worker/tasks.py), and the transports ask for as many as there is room for.
        worker_pool="solo",
        worker_concurrency=1,
        # The record holds the result. A result backend costs two round trips a task, and marks
        # tasks as failed when Redis is down at their end.
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        # Runs go on while the broker is away; our own lease decides about them.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        # A Redis that refuses (demoted, its disk full) ends the worker otherwise.
        broker_channel_error_retry=True,
        # JSON alone: a pickle is code.
        accept_content=["json"],
        task_serializer="json",
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        task_protocol=2,
    )
    return app


def _nothing() -> None:
    """Do nothing."""


def _queue(name: Queue, *, made: bool) -> KombuQueue:
    """Write a queue; one that its transport has made need not be declared."""
    return KombuQueue(name, exchange="", routing_key=name, no_declare=made)


def _rabbitmq(
    broker_url: str, queues: tuple[Queue, ...], slots: int, door: Door
) -> tuple[str, dict[str, Any]]:
    """Return the URL as kombu takes it, and what Celery is to know of RabbitMQ."""
    address = amqp_address(broker_url)
    settings = {
        "broker_use_ssl": address["ssl"],
        "broker_heartbeat": rabbitmq.HEARTBEAT_S,
        "broker_transport": rabbitmq.guarded_transport(door, queues),
        "broker_transport_options": {
            "read_timeout": BROKER_TIMEOUT_S,
            "write_timeout": BROKER_TIMEOUT_S,
        },
        "worker_prefetch_multiplier": min(rabbitmq.PREFETCH, slots),
    }
    return address["hostname"], settings


def _redis(broker_url: str, door: Door) -> tuple[str, dict[str, Any]]:
    """Return the URL as kombu takes it, and what Celery is to know of Redis."""
    url, address = kombu_address(broker_url)
    settings = {
        # What is no message for us never reaches kombu.
        "broker_transport": transport.guarded_transport(door, url),
        "broker_transport_options": _redis_options() | address,
    }
    return url, settings


def _redis_options() -> dict[str, Any]:
    return {
        "socket_timeout": BROKER_TIMEOUT_S,
        "socket_connect_timeout": BROKER_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "unacked_restore_interval": RESTORE_S,
        "unacked_restore_throttle": 1,
        "unacked_key": UNACKED,
        "unacked_index_key": UNACKED_INDEX,
        "unacked_mutex_key": f"{UNACKED}_mutex",
        "unacked_mutex_expire": RESTORE_LOCK_S,
    }
