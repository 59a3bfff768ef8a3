"""The three Celery tasks, as thin as a web view: read the message, hand it on, wait.

Celery acknowledges a message either before its task runs or after it. A foreign producer's must
be acknowledged in between, when its record is written, so a task here does it itself.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from celery import Celery, Task
from celery.worker.request import Request

from api_contracts.requests import CELERY_TASKS
from worker.intake import Doorbell, Foreign, Refused, read_message

#: Reads a message.
Read = Callable[[], Doorbell | Foreign | Refused]

logger = logging.getLogger(__name__)


class Receipt:
    """What can be done with a message while its task runs."""

    def __init__(self, message: Any, acknowledge: Callable[[], object]) -> None:
        """Take kombu's message."""
        self._message = message
        self._acknowledge = acknowledge

    @property
    def queue(self) -> str:
        """The queue that the message came from."""
        return str(self._message.delivery_info["routing_key"])

    @property
    def text(self) -> bytes:
        """The message as it came, but for the order and the white space of its JSON."""
        return json.dumps(self._message._raw).encode()  # noqa: SLF001 - kombu gives it no name

    def acknowledge(self) -> None:
        """Let Celery's own thread tell Redis, soon, that the message need not come again."""
        self._acknowledge()


class Unacknowledged(Request):
    """A message that its task acknowledges."""

    def __init__(self, message: Any, on_ack: Callable[..., object], **options: Any) -> None:
        """Give the task its receipt."""
        super().__init__(message, on_ack=on_ack, **options)
        errors = self.connection_errors
        self.request_dict["receipt"] = Receipt(message, lambda: on_ack(logger, errors))

    def acknowledge(self) -> None:
        """Do nothing: Celery asks for it before the task runs."""


class Obey(Protocol):
    """Obeys a message; returns when its attempt is over. Called in a thread of the pool."""

    def __call__(self, read: Read, receipt: Receipt) -> None:
        """Obey a message, and acknowledge it by its receipt as soon as it need not come again."""


class RouterTask(Task[Any, None]):
    """The Celery task of one kind of work."""

    Request = f"{__name__}:Unacknowledged"

    def __init__(self, kind: str, obey: Obey) -> None:
        """Take the kind's name."""
        self.name = CELERY_TASKS[kind]
        self._kind = kind
        self._obey = obey

    def run(self, *arguments: Any, **keywords: Any) -> None:
        """Run a message, whatever its arguments are."""
        read = partial(read_message, self._kind, arguments, keywords, self.request.id)
        receipt: Receipt = self.request.get("receipt")
        self._obey(read, receipt)


def register(app: Celery, obey: Obey) -> None:
    """Add the task of each kind to the app."""
    for kind in CELERY_TASKS:
        app.register_task(RouterTask(kind, obey))
