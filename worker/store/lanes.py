"""A pump for each server of a cluster, and which of them has what.

1. A command goes to the lane that its slot is in, one lane for each server that has slots. Each has
   batches, troubles and tries of its own: a server that is away keeps nobody else waiting.
2. What is refused for its slot, since that is on its way or has arrived elsewhere, goes back to the
   front of its lane, and the map is read anew; the rest of its batch has its replies.
3. A lane that sees another map gives away what is another's by it: between two batches, so that
   nothing of a slot is on its way while it changes lanes. So a slot's commands keep their order,
   wherever it goes.
4. Until it is known who has which slot, all are in a lane of nobody's, which gives them away
   likewise.

Between two slots there is no order: whoever needs one waits for a reply
(:meth:`.link.Link.in_order`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import AskError, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from api_contracts.client.links import AsyncCluster
from api_contracts.client.slots import SLOTS, Elsewhere, Place, is_elsewhere, slot_of
from worker.pump import PAUSE_S, Command, Operation, Passing, Pending, Pump, Send, in_one_go

#: Pause before the map is read anew for a slot that is on its way, in seconds. The whole lane
#: waits; where a cluster is dealt anew, each slot that is in use costs it one.
MOVING_S: Final = 0.01
#: Longest wait for the map, in seconds: it takes a millisecond, and the next try is near.
MAP_S: Final = 1.0

_UNKNOWN: Final = "it is not known which server has what"
#: Stands for the reply of what was not answered.
_UNANSWERED: Final = Elsewhere("not answered")

logger = logging.getLogger(__name__)


class Lanes:
    """The lanes of one cluster. Used as one pump is."""

    def __init__(
        self, cluster: AsyncCluster, send_through: Callable[[Redis], Send], passing: Passing
    ) -> None:
        """Prepare; ``send_through`` makes the way to one server."""
        self._cluster = cluster
        self._send_through = send_through
        self._passing = passing
        self._nobody = _Lane(self, None, _to_nobody, passing)
        self._by_place: dict[Place, _Lane] = {}
        #: Who has each slot's commands.
        self._of_slot: list[_Lane] = [self._nobody] * SLOTS
        self._group = asyncio.TaskGroup()
        #: Whether the lanes will end.
        self.closing = False
        #: Bytes of events that wait; kept by those who leave them.
        self.buffered = 0

    @property
    def owners(self) -> Sequence[Place | None]:
        """By slot, which server has it, as far as is known. Another map is another object."""
        return self._cluster.routes.owners

    @property
    def trouble(self) -> str | None:
        """What keeps one of the servers from taking its batch, in words; None while all is well."""
        return next((lane.trouble for lane in self._lanes if lane.trouble), None)

    @property
    def round_trips(self) -> int:
        """Batches that were answered."""
        return sum(lane.round_trips for lane in self._lanes)

    def leave(self, item: Pending) -> None:
        """Take something to be sent to whom it concerns."""
        self._of_slot[slot_of(item.head) or 0].leave(item)

    def ask(self, *command: Any) -> asyncio.Future[Any]:
        """Send a command; as :meth:`~worker.pump.Pump.ask`."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.leave(Operation(command, future))
        return future

    async def ping(self) -> None:
        """Raise unless every server that has slots answers."""
        places = self._cluster.routes.places
        if not places:
            raise RedisConnectionError(_UNKNOWN)
        await asyncio.gather(*(self._lane(place).ask("PING") for place in places))

    async def run(self) -> None:
        """Pump until closed and empty."""
        async with self._group:
            await self.refresh()
            self._start(self._nobody)

    def close(self) -> None:
        """Let :meth:`run` return; as :meth:`~worker.pump.Pump.close`."""
        self.closing = True
        for lane in self._lanes:
            lane.close()

    async def refresh(self, first: Place | None = None, last: Place | None = None) -> None:
        """Read the map anew, where anybody tells it; as :meth:`~.slots.Routes.refresh`."""
        with suppress(RedisError, OSError):
            async with asyncio.timeout(MAP_S):
                await self._cluster.refresh(first, last)

    def owner(self, key: str) -> Place | None:
        """Return the server that has a key, as far as is known."""
        return self.owners[slot_of(("GET", key)) or 0]

    def give_away(self, lane: _Lane) -> None:
        """Move the slots of this lane that are another server's to that one's."""
        for slot, place in enumerate(self.owners):
            if self._of_slot[slot] is lane and place is not None and place != lane.place:
                self._of_slot[slot] = self._lane(place)

    @property
    def _lanes(self) -> list[_Lane]:
        return [self._nobody, *self._by_place.values()]

    def _lane(self, place: Place) -> _Lane:
        lane = self._by_place.get(place)
        if lane is None:
            send = self._send_through(self._cluster.node(place))
            lane = self._by_place[place] = _Lane(self, place, send, self._passing)
            self._start(lane)
        return lane

    def _start(self, lane: _Lane) -> None:
        if self.closing:
            lane.close()
        self._group.create_task(lane.run())


class _Lane(Pump):
    """The pump of one server; ``place`` is None where it is nobody's."""

    def __init__(self, lanes: Lanes, place: Place | None, send: Send, passing: Passing) -> None:
        name = "the cluster" if place is None else f"Redis at {place[0]}:{place[1]}"
        super().__init__(send, lambda error: _lasting(error, passing), name)
        self.place = place
        self._lanes = lanes
        #: The map by which the slots were given away last.
        self._owners: Sequence[Place | None] | None = None

    def _next(self) -> list[Pending]:
        """Take the next batch, of what is ours still; nothing of ours is on its way now."""
        owners = self._lanes.owners
        if owners is not self._owners:
            self._owners = owners
            self._lanes.give_away(self)
            waiting, self._pending = self._pending, []
            for item in waiting:
                self._lanes.leave(item)
        if self.trouble and not self._pending:
            logger.warning("what waited for %s goes on", self._name)
            self.trouble = None
        return super()._next()

    async def _deliver(self, batch: list[Pending]) -> None:
        """Send a batch once; what was not taken goes back to the front, and may be another's."""
        if self._late():
            self._refuse(batch)
            return
        batch, rest = batch[: in_one_go(batch)], batch[in_one_go(batch) :]
        commands = [item.command() for item in batch]
        replies = await self._replies(commands) if batch else []
        replies = [*replies, *[_UNANSWERED] * (len(batch) - len(replies))]
        again: list[Pending] = []
        for item, command, reply in zip(batch, commands, replies, strict=True):
            if is_elsewhere(reply):
                again.append(item if isinstance(item, _Again) else _Again(item, command))
            else:
                item.replied(reply)
        self._pending[:0] = [*again, *rest]
        if self.trouble:
            await asyncio.sleep(PAUSE_S)
            await self._lanes.refresh(last=self.place)
        elif again:
            await asyncio.sleep(MOVING_S)
            await self._lanes.refresh(first=self.place)


class _Again:
    """Something whose command is written already, and was not taken."""

    __slots__ = ("_command", "_item", "size")

    def __init__(self, item: Pending, command: Command) -> None:
        self._item = item
        self._command = command
        self.size = item.size

    @property
    def head(self) -> Command:
        return self._command

    def command(self) -> Command:
        return self._command

    def replied(self, reply: Any) -> None:
        self._item.replied(reply)


async def _to_nobody(_: Sequence[Command]) -> Sequence[Any]:
    raise RedisConnectionError(_UNKNOWN)


def _lasting(error: Any, passing: Passing) -> str | None:
    """Name a trouble of the whole server, not of a slot that is on its way."""
    return None if isinstance(error, (AskError, TryAgainError)) else passing(error)
