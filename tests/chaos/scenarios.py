"""The rows of the table: which fault, how often, under which load and settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from tests.chaos import faults
from tests.chaos.ledger import Kind
from tests.chaos.servers import Front, Proxied, Server, Watched
from tests.chaos.stage import Load, Stage

Fault = Callable[[Stage, int, Random], None]


@dataclass(frozen=True)
class Scenario:
    """A row: each of its faults is done so often, one kind after the other."""

    name: str
    what: str
    faults: Sequence[Fault]
    times: int
    load: Load = field(default_factory=Load)
    front: Callable[[Path], Front] = Server
    settings: Mapping[str, str] = field(default_factory=dict)
    workers: int = 2
    #: Codes with which a task may fail, since the fault is made for it.
    allowed: frozenset[str] = frozenset()
    #: Faults that cannot be helped: they are counted and told, no more.
    excused: frozenset[Kind] = frozenset()
    #: Whether no failed call and no worker's death may be counted against any task.
    spends_nothing: bool = False


#: A task whose worker died three times is not given to a fourth.
_POISON: Final = frozenset({"poison"})
#: Replication is asynchronous: with its master, Redis loses its last milliseconds. A claim among
#: them is made again, under the same number; events among them are shown again.
_FORGETS: Final = frozenset({Kind.STRAY, Kind.REWOUND})
_DEFAULT_LEASE: Final = {"ROUTER_WORKER_LEASE_S": "20", "ROUTER_WORKER_HEARTBEAT_S": "5"}

SCENARIOS: Final = (
    Scenario(
        "kills", "`kill -9` of one of four workers at a random moment", (faults.kills,), 1000,
        Load(threads=32), workers=4, allowed=_POISON,
    ),
    Scenario(
        "deaths", "`kill -9` with the default lease of 20 s, one at a time", (faults.deaths,), 15,
        Load(threads=32), settings=_DEFAULT_LEASE, allowed=_POISON,
    ),
    Scenario(
        "gaps", "`kill -9` between Redis giving a message and the worker noting it",
        (faults.gaps,), 50, Load(threads=32), allowed=_POISON,
    ),
    Scenario(
        "stalls", "SIGSTOP of a worker, shorter and longer than its lease", (faults.stalls,), 40,
        allowed=_POISON,
    ),
    Scenario(
        "rolls", "restart of one worker after the other, SIGTERM and 1 s to drain",
        (faults.rolls,), 100, Load(("mixed", "long")), settings={"ROUTER_WORKER_DRAIN_S": "1"},
        spends_nothing=True,
    ),
    Scenario(
        "restarts", "restart of Redis from its file, by SIGTERM and `kill -9` in turn",
        (faults.restarts,), 20,
    ),
    Scenario(
        "cuts", "all connections to Redis cut at once", (faults.cuts,), 100, front=Proxied
    ),
    Scenario(
        "outages", "no way to Redis for up to twice the lease", (faults.outages,), 20,
        front=Proxied, allowed=_POISON,
    ),
    Scenario(
        "failovers", "Sentinel: the master is killed, its replica takes over",
        (faults.failovers,), 20, front=Watched, excused=_FORGETS,
    ),
    Scenario(
        "handovers", "Sentinel: the master hands over to its replica", (faults.handovers,), 20,
        front=Watched,
    ),
    Scenario(
        "upstream", "first calls cut behind each frame, reset, refused or answered with nonsense",
        (faults.upstream,), 10, Load(("cut",)),
    ),
    Scenario(
        "storm", "all of it, one after the other",
        (faults.kills, faults.stalls, faults.rolls, faults.restarts, faults.cuts, faults.outages),
        10, Load(("mixed", "cut"), threads=32), front=Proxied, allowed=_POISON,
    ),
)  # fmt: skip

_DRAIN: Final = {"ROUTER_WORKER_DRAIN_S": "1"}

#: All faults in a minute, for `make test`: several to a stage, since each stage waits 20 s in the
#: end for the doorbells that were lost.
SHORT: Final = (
    Scenario(
        "workers", "a worker killed, given a message in its sleep, stalled, and restarted",
        (faults.upstream, faults.kills, faults.gaps, faults.stalls, faults.rolls), 2,
        Load(("mixed", "cut"), producers=1, threads=24), settings=_DRAIN, allowed=_POISON,
    ),
    Scenario(
        "redis", "Redis restarted, cut off, and out of reach",
        (faults.restarts, faults.cuts, faults.outages), 2, Load(producers=1),
        front=Proxied, allowed=_POISON,
    ),
    Scenario(
        "rolls", "workers restarted one after the other", (faults.rolls,), 2,
        Load(("long",), producers=1), settings=_DRAIN, spends_nothing=True,
    ),
    Scenario(
        "failovers", "a master killed, and one that hands over",
        (faults.failovers, faults.handovers), 1, Load(producers=1), front=Watched, excused=_FORGETS,
    ),
)  # fmt: skip
