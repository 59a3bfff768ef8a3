"""Appends one attempt's events, in order, without waiting; learns when it must stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from api_contracts.client.box import Box
from api_contracts.events import EVENT_LIMIT
from worker.claim import Claim
from worker.pump import BATCH_BYTES, BUFFER_LIMIT, Command
from worker.store import Store

#: A call of ``append.lua`` that has so many events takes no more; nor are more added to it at once.
#: Twice as many are some ms of Redis's time.
_EVENTS: Final = 500


class Stop(StrEnum):
    """Why an attempt is stopped before its answer is whole."""

    #: The record is not ours any more: another worker has it, or somebody cancelled it.
    GONE = "gone"
    #: Redis refuses our events, or has been away for as long as a lease.
    STORE = "store"
    #: The worker ends: somebody else goes on.
    HAND_BACK = "hand_back"


@dataclass(frozen=True, slots=True)
class Stopped:
    """That an attempt is to be stopped, and why in words."""

    stop: Stop
    message: str = ""


class Writer:
    """One attempt's way to its log. :attr:`stopped` is set once the attempt must stop."""

    def __init__(self, store: Store, claim: Claim) -> None:
        """Begin behind the ``started`` event."""
        self.store = store
        #: Encrypts what is written of the task.
        self.box = Box(store.keyring, claim.task_id)
        self.claim = claim
        self.task_id = claim.task_id.encode()
        self.attempt = claim.attempt
        self.seq = 0
        self.stopped: asyncio.Future[Stopped] = asyncio.get_running_loop().create_future()
        #: The beginning of each call of ``append.lua``, which is always the same.
        self.appending: Final = store.link.script(
            "append", claim.task_id, claim.attempt, claim.token
        )
        self._open: _Append | None = None

    def stop(self, stop: Stop, message: str = "") -> None:
        """Stop the attempt; the first word counts."""
        if not self.stopped.done():
            self.stopped.set_result(Stopped(stop, message))

    def append(self, events: Sequence[bytes]) -> None:
        """Leave the next events; the last one's id is ``attempt-seq`` with the new :attr:`seq`."""
        if self.box.on:
            events = [self.box.seal_event(event) for event in events]
        pump = self.store.pump
        step = _EVENTS if sum(map(len, events)) < BATCH_BYTES else 1
        for place in range(0, len(events), step):
            batch = self._open
            if batch is None or batch.full:
                batch = self._open = _Append(self, self.seq + 1)
                pump.leave(batch)
            some = events[place : place + step]
            self.seq += len(some)
            pump.buffered += batch.add(some)
        if pump.buffered > BUFFER_LIMIT:
            self.stop(Stop.STORE, f"{BUFFER_LIMIT} bytes of events wait for Redis")

    def sent(self, batch: _Append) -> None:
        """Add nothing more to a batch.

        Nor hold it: each would hold the other, and a request of 32 MiB with it, until Python looks
        for such garbage.
        """
        if self._open is batch:
            self._open = None


class _Append:
    """Events of one attempt on their way: one call of ``append.lua``."""

    __slots__ = ("_events", "_first", "_writer", "size")

    def __init__(self, writer: Writer, first: int) -> None:
        self._writer = writer
        self._first = first
        self._events: list[bytes] = []
        self.size = 0

    @property
    def head(self) -> Command:
        """How each call of the script begins."""
        return self._writer.appending

    @property
    def full(self) -> bool:
        """Whether it takes no more."""
        return len(self._events) >= _EVENTS or self.size >= BATCH_BYTES

    def add(self, events: Sequence[bytes]) -> int:
        """Take events; return their size in bytes."""
        self._events += events
        size = sum(map(len, events))
        self.size += size
        return size

    def command(self) -> Command:
        self._writer.sent(self)
        return (*self._writer.appending, self._first, EVENT_LIMIT, *self._events)

    def replied(self, reply: Any) -> None:
        store = self._writer.store
        store.pump.buffered -= self.size
        if reply == 0:
            store.fenced += len(self._events)
            self._writer.stop(Stop.GONE)
        elif isinstance(reply, Exception):
            self._writer.stop(Stop.STORE, f"Redis took no more events: {reply}")
