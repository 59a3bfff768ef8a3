"""The three Celery tasks, as thin as a web view: read the message, hand it on, wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery, Task

from api_contracts.requests import CELERY_TASKS
from worker.intake import Doorbell, Foreign, Refused, read_message

#: Obeys a message; returns when its attempt is over. Called in a thread of the pool.
Obey = Callable[[Doorbell | Foreign | Refused], None]


class RouterTask(Task[Any, None]):
    """The Celery task of one kind of work."""

    def __init__(self, kind: str, obey: Obey) -> None:
        """Take the kind's name."""
        self.name = CELERY_TASKS[kind]
        self._kind = kind
        self._obey = obey

    def run(self, *arguments: Any, **keywords: Any) -> None:
        """Run a message, whatever its arguments are."""
        self._obey(read_message(self._kind, arguments, keywords, self.request.id))


def register(app: Celery, obey: Obey) -> None:
    """Add the task of each kind to the app."""
    for kind in CELERY_TASKS:
        app.register_task(RouterTask(kind, obey))
