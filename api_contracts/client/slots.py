"""Which server of a cluster has which slot, and how commands get there. Pure: no I/O, no clock.

What is to be done is written as a generator of steps (:class:`Send`, :class:`Pause`), so that one
text serves every shell (:mod:`.links` has their drivers). Why not redis-py's ``RedisCluster``:

- Its pipelines go to all servers at once. Ours have an order: ``rw:due`` gets a task's id before
  anybody writes the record, so its server is asked first here, and the others behind it.
- What is redirected it sends again one by one, and reads the commands' flags from the server first.

So a server of a cluster is spoken to by a client of its own, as any other Redis; what is left to
know is the map, and redis-py reads it (``key_slot``, ``parse_cluster_slots``).

A slot on its way from one server to another (https://valkey.io/topics/cluster-spec):

- ``MOVED``: it has arrived elsewhere. The map is read anew, from the server that said so.
- ``ASK`` and ``TRYAGAIN``: half of its keys have. Who calls a script on two keys that are new
  cannot be served by either side, so nobody follows an ``ASK``, but waits until the slot has
  arrived. (Valkey 9 can move slots whole, and says neither then.)
- ``CLUSTERDOWN``: some slot is nobody's, as in a failover, which is waited for in the same way.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from redis.cluster import parse_cluster_slots
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

Value = TypeVar("Value")
#: Host and port.
Place = tuple[str, int]
Command = tuple[Any, ...]

#: Slots of a cluster, whoever has them.
SLOTS: Final = REDIS_CLUSTER_HASH_SLOTS
#: What is raised where a server cannot be reached, or falls silent.
LOST: Final = (RedisConnectionError, RedisTimeoutError, OSError)
#: How often commands are sent before their refusal is an answer, and the pause between two times in
#: seconds: 2 s in all, less than a caller's patience.
TRIES: Final = 40
AGAIN_S: Final = 0.05

#: Commands that are about no key.
_KEYLESS: Final = frozenset({"CLUSTER", "INFO", "PING", "SCRIPT", "TIME"})
#: Commands whose keys stand behind a script and their number.
_SCRIPTED: Final = frozenset({"EVAL", "EVALSHA", "EVAL_RO"})


class Elsewhere(RedisConnectionError):
    """What one was connected for is another server's now."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send these commands to this server; the step's value are the replies, errors among them."""

    place: Place
    commands: Sequence[Command]


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for so many seconds."""

    seconds: float


#: What a driver does, one step after the other; what is raised by one is thrown in.
Steps = Generator[Send | Pause, Any, Value]


class Routes:
    """Who has which slot, as far as is known. For several threads at once."""

    def __init__(self, seeds: Iterable[Place]) -> None:
        """Know only where to ask."""
        self._seeds = tuple(seeds)
        #: By slot, who has it; None where nobody is known to. Replaced whole, and only by another.
        self.owners: tuple[Place | None, ...] = (None,) * SLOTS
        #: Every server that has slots, once.
        self.places: tuple[Place, ...] = ()
        #: Whether it must be asked for before it is used.
        self.stale = True

    def exchange(self, commands: Sequence[Command]) -> Steps[list[Any]]:
        """Send commands to whom they concern; return their replies, errors among them.

        Those of one server go together, server by server, in the order in which they first appear.
        Those about no key go along to each. What finds its slot on the way is sent again for 2 s.
        Raises as redis-py does where a server is lost and no other has its slots.
        """
        replies: list[Any] = [None] * len(commands)
        left = list(range(len(commands)))
        teller: Place | None = None
        for number in range(TRIES):
            if number > 1:
                yield Pause(AGAIN_S)
            if self.stale:
                yield from self.refresh(first=teller)
            for place, some in self._shared(commands, left).items():
                told = yield from self._sent(place, [commands[one] for one in some])
                for one, reply in zip(some, told, strict=True):
                    replies[one] = reply
                teller = place if any(isinstance(one, AskError) for one in told) else teller
            moved = {one for one in left if is_elsewhere(replies[one])}
            if not moved:
                break
            # Where a server was lost, the map has been read already.
            self.stale |= any(not isinstance(replies[one], Elsewhere) for one in moved)
            left = [one for one in left if one in moved or slot_of(commands[one]) is None]
        return replies

    def owner(self, key: str) -> Steps[Place]:
        """Return who has a key. ClusterDownError where nobody is known to."""
        if self.stale:
            yield from self.refresh()
        slot = slot_of(("GET", key)) or 0
        place = self.owners[slot]
        if place is None:
            message = f"no server of the cluster has slot {slot}"
            raise ClusterDownError(message)
        return place

    def refresh(self, first: Place | None = None, last: Place | None = None) -> Steps[None]:
        """Ask the servers, one after the other, until one tells who has which slot.

        ``first`` is whoever has said that a slot has moved, since others may not know it yet;
        ``last`` is whoever may be away. Raises what the last one did where none tells.
        """
        fault: Exception = RedisConnectionError("no server of the cluster has a slot")
        known = dict.fromkeys((*self.places, *self._seeds))
        for place in sorted(known, key=lambda one: (one == last, one != first)):
            try:
                (told,) = yield Send(place, [("CLUSTER", "SLOTS")])
            except LOST as error:
                fault = error
                continue
            if isinstance(told, Exception):
                fault = told
            elif told:
                self._take(told, place)
                return
        raise fault

    def _take(self, told: Any, asked: Place) -> None:
        """Take a server's map; one that does not name a host means itself."""
        owners: list[Place | None] = [None] * SLOTS
        slots = parse_cluster_slots(told, current_host=asked[0])
        for (first, last), servers in slots.items():
            owners[first : last + 1] = [servers["primary"]] * (last + 1 - first)
        taken = tuple(owners)
        if taken != self.owners:
            self.owners = taken
            self.places = tuple(dict.fromkeys(owner for owner in taken if owner is not None))
        self.stale = False

    def _sent(self, place: Place, commands: Sequence[Command]) -> Steps[Sequence[Any]]:
        """Send commands to one server; where it is lost, and is not theirs any more, say so."""
        try:
            told: Sequence[Any] = yield Send(place, commands)
        except LOST as error:
            self.stale = True
            yield from self.refresh(last=place)
            if place in self._shared(commands, range(len(commands))):
                raise
            return [Elsewhere(str(error))] * len(commands)
        return told

    def _shared(self, commands: Sequence[Command], which: Iterable[int]) -> dict[Place, list[int]]:
        """Share commands out among the servers; what nobody has goes where anybody refuses it."""
        common: list[int] = []
        shares: dict[Place, list[int]] = {}
        anybody = (*self.places, *self._seeds)[0]
        for one in which:
            slot = slot_of(commands[one])
            if slot is None:
                common.append(one)
            else:
                shares.setdefault(self.owners[slot] or anybody, []).append(one)
        return {place: sorted(common + some) for place, some in (shares or {anybody: []}).items()}


def slot_of(command: Command) -> int | None:
    """Return the slot of what a command is about; None where it is about no key.

    All keys of a command share it.
    """
    name = command[0]
    if name in _KEYLESS:
        return None
    key = command[3 if name in _SCRIPTED else 1]
    # What cannot be written is refused where it is packed, on whichever way.
    return key_slot(key if isinstance(key, bytes) else str(key).encode(errors="surrogatepass"))


def is_elsewhere(reply: Any) -> bool:
    """Tell whether a command was refused for its slot: it will be taken, here or elsewhere."""
    return isinstance(reply, (AskError, ClusterDownError, Elsewhere, TryAgainError))
