"""What a Redis, or RabbitMQ, says of itself, and what that means for tasks. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from api_contracts.client.brokers import broker_place, is_amqp
from api_contracts.client.slots import SLOTS
from worker.cli.doctor.finding import Finding, advice, bad, good, unseen

#: Oldest Redis that will do: XRANGE with an exclusive start came with it.
OLDEST: Final = (6, 2)
#: Oldest of a cluster: sharded channels came with it.
OLDEST_OF_CLUSTER: Final = (7, 0)
#: Most by which this machine's clock may differ from Redis's, in seconds. Leases and retries are
#: timed by both; they are counted in seconds.
SKEW_S: Final = 1.0
#: Longest round trip that is no reason to move, in seconds: within a zone it takes 0.001, and a
#: chunk that came alone waits for one.
TRIP_S: Final = 0.01
#: From which share of the memory, and of the connections, on somebody should look.
NEARLY: Final = 0.85
#: From so many replicas on one may be away where writes ask for one.
SPARE: Final = 2
#: What can be asked in place of a user who may not.
ASK_OPERATOR: Final = "look yourself, or ask as `operator` of deploy/redis/users.acl"

_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Server:
    """What a Redis, or RabbitMQ, said of itself.

    ``unreachable`` says why it said nothing; ``unreadable`` that it answers, but not to INFO.
    """

    info: Mapping[str, Any] = field(default_factory=dict)
    #: By how much this machine's clock is ahead, in seconds; None where it tells no time.
    skew_s: float | None = None
    #: The quickest of some round trips, in seconds.
    trip_s: float = 0.0
    #: How many messages wait, by queue; empty where it may not be asked.
    depths: Mapping[str, int] = field(default_factory=dict)
    unreachable: str = ""
    unreadable: str = ""


def check_cluster(url: str, masters: Mapping[str, Server], slots: int) -> Iterator[Finding]:
    """Check a cluster of records and events: its masters by URL, and how many slots they have.

    One that nobody tells of stands there by its own URL, without slots.
    """
    if slots:
        says = f"{broker_place(url)}: {len(masters)} masters have {slots} of {SLOTS} slots"
        if slots == SLOTS:
            yield good("cluster", says)
        else:
            yield bad("cluster", says, "look at CLUSTER INFO, and give every slot to a master")
    for one, server in masters.items():
        yield from check_records(one, server, OLDEST_OF_CLUSTER)


def check_records(url: str, server: Server, oldest: tuple[int, int] = OLDEST) -> Iterator[Finding]:
    """Check the Redis of records and events, or one of its cluster's."""
    if server.unreachable:
        yield _unreachable("redis", "REDIS_URL", url, server)
        return
    yield _version(url, server, oldest)
    yield _persistence(server)
    yield from _files(server)
    yield _eviction(server)
    yield _memory(server)
    yield from _connections(server)
    yield from _replicas(server)
    yield _clock(server)
    yield _latency(server)


def check_broker(url: str, server: Server, *, same: bool) -> Iterator[Finding]:
    """Check the server of Celery's queues; ``same`` where it is the Redis of the records."""
    if server.unreachable:
        if not same:
            yield _unreachable("broker", "ROUTER_WORKER_BROKER_URL", url, server)
        return
    yield good("broker", "the same server" if same else f"answers at {place(url)}")
    if not same and not is_amqp(url):
        # What it forgets is rung for again; what it refuses is not.
        yield _memory(server, "its memory")
    if server.depths:
        waiting = ", ".join(f"{depth} in {queue}" for queue, depth in server.depths.items())
        yield good("queues", f"waiting: {waiting}")


def place(url: str) -> str:
    """Write where a Redis or RabbitMQ is, without user and password."""
    return broker_place(url)


def _unreachable(check: str, variable: str, url: str, server: Server) -> Finding:
    says = f"{place(url)}: {server.unreachable}"
    return bad(check, says, f"look at {variable} and at the server")


def _version(url: str, server: Server, oldest: tuple[int, int]) -> Finding:
    check, where = "redis", f"answers at {place(url)}"
    version = str(server.info.get("redis_version", ""))
    if not version:
        return _unreadable(check, f"{where}; must be {_dotted(oldest)} or newer", server)
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < oldest:
        remedy = f"install Redis {_dotted(oldest)} or newer, or Valkey"
        return bad(check, f"version {version} {where}", remedy)
    if server.info.get("role") == "slave":
        says = f"{where}, but is a replica, which takes no writes"
        return bad(check, says, "let REDIS_URL name the primary")
    valkey = server.info.get("valkey_version")
    return good(check, f"{f'Valkey {valkey}' if valkey else f'Redis {version}'} {where}")


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _persistence(server: Server) -> Finding:
    check = "persistence"
    match server.info.get("aof_enabled"):
        case 1 if server.info.get("aof_last_write_status", "ok") != "ok":
            says = "the last write of the append-only file failed"
            return bad(check, says, "look at the disk of the server")
        case 1:
            return good(check, "appendonly yes")
        case 0:
            says = "appendonly no: a crash of Redis loses tasks that were accepted"
            return bad(check, says, "set appendonly yes in its configuration")
        case _:
            return _unreadable(check, "appendonly must be yes", server)


def _files(server: Server) -> Iterator[Finding]:
    """Tell of files that could not be written, and that nobody misses yet."""
    room = "look at its log, and at the room on its disk"
    if server.info.get("aof_last_bgrewrite_status", "ok") != "ok":
        says = "the last rewrite of the append-only file failed: the file only grows"
        yield advice("persistence", says, room)
    if server.info.get("rdb_last_bgsave_status", "ok") != "ok":
        says = "the last snapshot failed; where `save` is set, nothing is written until one goes"
        yield advice("persistence", says, room)


def _eviction(server: Server) -> Finding:
    check = "eviction"
    match server.info.get("maxmemory_policy"):
        case "noeviction":
            return good(check, "maxmemory-policy noeviction")
        case None:
            return _unreadable(check, "maxmemory-policy must be noeviction", server)
        case policy:
            says = f"maxmemory-policy {policy}: a full Redis would drop records of tasks"
            return bad(check, says, "set maxmemory-policy noeviction in its configuration")


def _memory(server: Server, whose: str = "") -> Finding:
    """Say how full it is; ``whose`` is another server's memory, which is told under its check."""
    check, begin = ("broker", f"{whose}: ") if whose else ("memory", "")
    used, most = _number(server, "used_memory"), _number(server, "maxmemory")
    if used is None or most is None:
        return _unreadable(check, f"{begin}there must be room below maxmemory", server)
    if most == 0:
        says = f"{begin}{_mib(used)}, and maxmemory is not set: Redis grows until it is killed"
        return advice(check, says, "set maxmemory below what its machine has")
    says = f"{begin}{_mib(used)} of {_mib(most)} ({used / most:.0%})"
    if used >= most:
        remedy = "raise maxmemory, or shorten result_ttl; dead letters may be dropped"
        return bad(check, f"{says}: it refuses what is written", remedy)
    if (machine := _number(server, "total_system_memory")) and most >= machine:
        says = f"{says}, and its machine has {_mib(machine)}: Redis grows until it is killed"
        return advice(check, says, "set maxmemory below what its machine has")
    if used >= NEARLY * most:
        return advice(check, f"{says}: full, it refuses", "raise maxmemory, or shorten result_ttl")
    return good(check, says)


def _connections(server: Server) -> Iterator[Finding]:
    """Say how many of its connections are in use; servers before 7 do not tell."""
    check = "connections"
    used, most = _number(server, "connected_clients"), _number(server, "maxclients")
    if used is None or not most:
        return
    says = f"{used} of {most}"
    if used >= NEARLY * most:
        remedy = "raise maxclients: each open stream of a subscriber is one"
        yield advice(check, f"{says}: beyond that, all are refused", remedy)
    else:
        yield good(check, says)


def _replicas(server: Server) -> Iterator[Finding]:
    """Check what stands beside a primary, where something does."""
    check = "replicas"
    replicas = _number(server, "connected_slaves") or 0
    # It is told only where min-replicas-to-write is set.
    near = _number(server, "min_slaves_good_slaves")
    if near == 0:
        says = "min-replicas-to-write is set, and no replica is near: writes are refused"
        yield bad(check, says, "look at the replicas, and at their way to the primary")
    elif replicas >= SPARE and near is None:
        says = f"{replicas}; one that is cut off takes writes which are lost in a failover"
        yield advice(check, says, "set min-replicas-to-write 1 in its configuration")
    elif replicas:
        yield good(check, str(replicas))


def _clock(server: Server) -> Finding:
    check = "clock"
    if server.skew_s is None:
        return _unreadable(check, "this machine's must be Redis's", server)
    ahead = "ahead of" if server.skew_s > 0 else "behind"
    says = f"this machine's is {abs(server.skew_s):.3f} s {ahead} Redis's"
    if abs(server.skew_s) < SKEW_S:
        return good(check, says)
    return bad(check, says, "let both machines keep time by NTP")


def _latency(server: Server) -> Finding:
    check, says = "latency", f"a round trip to Redis takes {server.trip_s * 1000:.1f} ms"
    if server.trip_s <= TRIP_S:
        return good(check, says)
    return advice(check, says, "run workers and Redis in one zone: chunks wait for round trips")


def _unreadable(check: str, rule: str, server: Server) -> Finding:
    why = server.unreadable or "its INFO lacks it"
    return unseen(check, rule, f"Redis does not tell ({why}): {ASK_OPERATOR}")


def _number(server: Server, name: str) -> int | None:
    value = server.info.get(name)
    return value if isinstance(value, int) else None


def _mib(size: int) -> str:
    return f"{size / _MIB:.0f} MiB"
