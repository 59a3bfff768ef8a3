"""The Celery app. Each setting has its reason; the experiments behind them are in the README.

A message is a doorbell: it carries a task's id, may be lost, doubled or late, and is acknowledged
at once. What Celery offers beyond delivering it (retries, results, time limits, events) is off.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu import Connection
from kombu import Queue as KombuQueue

from api_contracts.names import Queue
from worker.transport import Park, guarded_transport

#: Longest wait for the broker's answer, in seconds.
BROKER_TIMEOUT_S = 5.0
#: kombu restores messages that nobody acknowledged after this time, in seconds. Ours are
#: acknowledged at once, so it must only never come too early.
VISIBILITY_TIMEOUT_S = 24 * 3600


class App(Celery):
    """Celery on the broker that the settings name.

    ``CELERY_BROKER_URL`` and its kin, set for another program, would win over it.
    """

    #: URL of the broker.
    own_broker: str

    def connection_for_read(self, url: str | None = None, **options: Any) -> Connection:
        """Connect to consume."""
        return super().connection_for_read(url or self.own_broker, **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Connection:
        """Connect to produce."""
        return super().connection_for_write(url or self.own_broker, **options)


def make_app(broker_url: str, queues: tuple[Queue, ...], concurrency: int, park: Park) -> Celery:
    """Make the app of one worker process; ``park`` takes what is no message."""
    app = App("router-worker", broker=broker_url, set_as_current=False)
    app.own_broker = broker_url
    app.conf.update(
        task_queues=[_queue(name) for name in queues],
        task_default_queue=Queue.INTERACTIVE,
        task_default_exchange="",
        task_create_missing_queues=False,
        # The stock threads pool: a task's thread only waits for the loop.
        worker_pool="threads",
        worker_concurrency=concurrency,
        # Late acks run every task twice when a connection to Redis is cut (kombu requeues).
        task_acks_late=False,
        # No message waits in a worker while another has room.
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
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
        broker_transport_options=_transport_options(),
        # What is no message for us never reaches kombu.
        broker_transport=guarded_transport(park),
        # JSON alone: a pickle is code.
        accept_content=["json"],
        task_serializer="json",
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        task_protocol=2,
    )
    return app


def _queue(name: Queue) -> KombuQueue:
    return KombuQueue(name, exchange="", routing_key=name)


def _transport_options() -> dict[str, Any]:
    return {
        "socket_timeout": BROKER_TIMEOUT_S,
        "socket_connect_timeout": BROKER_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
    }
