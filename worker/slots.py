"""The slots of a worker process: how many are taken, and whether the free ones are offered work.

Celery may stop asking for messages without a word, as after a reconnection that went wrong. While
a slot is free it asks Redis once a second, and RabbitMQ gives a sign of life every five; with none
free it rightly asks nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Slots:
    """Counts what runs. Threads may use it at once."""

    def __init__(self, slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with that many free slots, and with the server of the queues just heard."""
        self._slots = slots
        self._clock = clock
        self._lock = threading.Lock()
        self._taken = 0
        self._free_since = self._heard_at = clock()

    def take(self) -> None:
        """Take a slot; :meth:`free` gives it back."""
        with self._lock:
            self._taken += 1

    def free(self) -> bool:
        """Give a slot back; tell whether none was free before."""
        with self._lock:
            first = self._taken == self._slots
            if first:
                self._free_since = self._clock()
            self._taken -= 1
        return first

    @property
    def taken(self) -> int:
        """How many slots are taken."""
        return self._taken

    @property
    def room(self) -> int:
        """How many slots are free."""
        return self._slots - self._taken

    def heard(self) -> None:
        """Note that the server of the queues has just said something."""
        self._heard_at = self._clock()

    def silent_s(self) -> float:
        """Tell for how long nothing was heard though a slot was free, in seconds."""
        with self._lock:
            if self.room <= 0:
                return 0.0
            return self._clock() - max(self._free_since, self._heard_at)
