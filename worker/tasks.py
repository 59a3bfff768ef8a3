"""The three Celery tasks: how their messages become work.

A task of ours is not run by a thread of Celery's pool. Its strategy, which is how Celery lets a
task say what is done with its messages, hands each one to the loop and returns. For 5,000 short
calls this took a third of the CPU time off a task (README, design notes), and no thread waits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from celery import Celery, Task

from api_contracts.requests import CELERY_TASKS
from worker.admission import Admitted
from worker.intake import Doorbell, Foreign, Refused, read_message

#: Reads a message.
Read = Callable[[], Doorbell | Foreign | Refused]


class Envelope:
    """What a message is besides its task."""

    def __init__(self, message: Any) -> None:
        """Take kombu's message, while its channel delivers it."""
        self._message = message
        self._admitted: Admitted = message.channel.admitted
        #: Says that it need not come again, where its channel is to know that; any thread may.
        self.settle: Callable[[], None] | None = message.channel.settle

    @property
    def queue(self) -> str:
        """The queue that the message came from."""
        return str(self._message.delivery_info["routing_key"])

    @property
    def tag(self) -> str:
        """Under which the message is noted as unacknowledged, if it is."""
        return str(self._message.delivery_tag)

    @property
    def size(self) -> int:
        """Bytes of what it carries."""
        return len(self._message.body)

    @property
    def text(self) -> bytes:
        """The message as it came, as :attr:`Admitted.text` has it."""
        return self._admitted.text


class Obey(Protocol):
    """Takes a message to obey it; called in Celery's thread, and returns at once."""

    def __call__(self, read: Read, envelope: Envelope) -> None:
        """Begin to obey a message."""


class RouterTask(Task[Any, None]):
    """The Celery task of one kind of work."""

    def __init__(self, kind: str, obey: Obey) -> None:
        """Take the kind's name."""
        self.name = CELERY_TASKS[kind]
        self._kind = kind
        self._obey = obey

    def start_strategy(self, *_: object, **__: object) -> Callable[..., None]:
        """Say what is done with a message."""
        return self._received

    def _received(self, message: Any, *_: object) -> None:
        """Take a message, whatever its arguments are; the door has seen to its form."""
        admitted = message.channel.admitted
        arguments, keywords = tuple(admitted.arguments), admitted.keywords
        read = partial(read_message, self._kind, arguments, keywords, message.headers["id"])
        self._obey(read, Envelope(message))


def register(app: Celery, obey: Obey) -> None:
    """Add the task of each kind to the app."""
    for kind in CELERY_TASKS:
        app.register_task(RouterTask(kind, obey))
