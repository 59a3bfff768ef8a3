"""What ``doctor`` makes of the answers to its questions. Pure: facts go in, findings come out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from api_contracts.client import servers
from worker.errors import Failure

#: Oldest Redis that will do: XRANGE with an exclusive start came with it.
OLDEST: Final = (6, 2)
#: Most by which this machine's clock may differ from Redis's, in seconds. Leases and retries are
#: timed by both; they are counted in seconds.
SKEW_S: Final = 1.0
#: What is asked of the router: harmless, and free.
PROBE_PATH: Final = "/v1/models"

_LOOK_AT_ROUTER: Final = "look at ROUTER_WORKER_BASE_URL, the network and its firewalls"
_KEY_REFUSED: Final = frozenset({401, 403})
_REFUSED: Final = ("it does not take the key", "set YOUROUTER_API_KEY to a valid one")
#: What a status of the router, or a class of them, means, and the remedy where there must be one.
_STATUSES: Final[dict[int, tuple[str, str]]] = {
    401: _REFUSED,
    403: _REFUSED,
    402: ("the account cannot pay", "top it up"),
    429: ("it is there, and at its rate limit now", ""),
    1: ("that is no answer", _LOOK_AT_ROUTER),
    2: ("it is there", ""),
    3: ("it points elsewhere", "set ROUTER_WORKER_BASE_URL to that; redirects are not followed"),
    4: ("it is there; the key was not judged", ""),
    5: ("it is in trouble", "try again later"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: ``ok`` is None where it cannot be known; ``do`` is the remedy."""

    check: str
    ok: bool | None
    says: str
    do: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """What a Redis said of itself.

    ``unreachable`` says why it said nothing; ``unreadable`` that it answers, but not to INFO.
    """

    info: Mapping[str, Any] = field(default_factory=dict)
    skew_s: float = 0.0
    depths: Mapping[str, int] = field(default_factory=dict)
    unreachable: str = ""
    unreadable: str = ""


def good(check: str, says: str) -> Finding:
    """Say that all is well."""
    return Finding(check, ok=True, says=says)


def bad(check: str, says: str, do: str) -> Finding:
    """Say that something is wrong, and what to do."""
    return Finding(check, ok=False, says=says, do=do)


def check_settings(mistakes: tuple[str, ...]) -> Iterator[Finding]:
    """Give each mistake in the environment its line."""
    if not mistakes:
        yield good("settings", "complete")
    for mistake in mistakes:
        yield bad("settings", mistake, "correct this variable")


def check_records(url: str, server: Server) -> Iterator[Finding]:
    """Check the Redis of records and events."""
    if server.unreachable:
        yield _unreachable("redis", "REDIS_URL", url, server)
        return
    yield _version(url, server)
    yield _persistence(server)
    yield _eviction(server)
    yield _clock(server)


def check_broker(url: str, server: Server, *, same: bool) -> Iterator[Finding]:
    """Check the Redis of Celery's queues; ``same`` where it is that of the records."""
    if server.unreachable:
        if not same:
            yield _unreachable("broker", "ROUTER_WORKER_BROKER_URL", url, server)
        return
    yield good("broker", "the same server" if same else f"answers at {place(url)}")
    waiting = ", ".join(f"{depth} in {queue}" for queue, depth in server.depths.items())
    yield good("queues", f"waiting: {waiting}")


def check_credentials(folder: Path, keys: Mapping[str, str] | str) -> Iterator[Finding]:
    """Check the keys that tasks may name: what is wrong with each, or with the folder."""
    check = "credentials"
    if isinstance(keys, str):
        yield bad(check, f"{folder}: {keys}", "look at ROUTER_WORKER_CREDENTIALS_DIR")
        return
    for name, fault in keys.items():
        if fault:
            yield bad(check, f"{folder / name}: {fault}", "put a key there, or take the file away")
    usable = [name for name, fault in keys.items() if not fault]
    yield good(check, f"{folder} has {', '.join(usable) or 'none'}")


def check_router(base_url: str, answer: int | Failure, *, key_set: bool) -> Finding:
    """Say what the router's answer to a harmless GET means."""
    if isinstance(answer, Failure):
        return bad("router", f"{base_url}: {answer.message}", _LOOK_AT_ROUTER)
    if answer in _KEY_REFUSED and not key_set:
        meaning, remedy = "it is there, and wants a key", ""
    else:
        meaning, remedy = _STATUSES.get(answer) or _STATUSES[answer // 100]
    says = f"{base_url} answers HTTP {answer} to GET {PROBE_PATH}: {meaning}"
    return bad("router", says, remedy) if remedy else good("router", says)


def place(url: str) -> str:
    """Write where a Redis is, without user and password."""
    return str(servers.Server.parse(url))


def _unreachable(check: str, variable: str, url: str, server: Server) -> Finding:
    says = f"{place(url)}: {server.unreachable}"
    return bad(check, says, f"look at {variable} and at the server")


def _version(url: str, server: Server) -> Finding:
    check, where = "redis", f"answers at {place(url)}"
    version = str(server.info.get("redis_version", ""))
    if not version:
        return _unreadable(check, f"{where}; must be 6.2 or newer", server)
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        return bad(check, f"version {version} {where}", "install Redis 6.2 or newer, or Valkey")
    if server.info.get("role") == "slave":
        says = f"{where}, but is a replica, which takes no writes"
        return bad(check, says, "let REDIS_URL name the primary")
    valkey = server.info.get("valkey_version")
    return good(check, f"{f'Valkey {valkey}' if valkey else f'Redis {version}'} {where}")


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


def _clock(server: Server) -> Finding:
    ahead = "ahead of" if server.skew_s > 0 else "behind"
    says = f"this machine's is {abs(server.skew_s):.3f} s {ahead} Redis's"
    if abs(server.skew_s) < SKEW_S:
        return good("clock", says)
    return bad("clock", says, "let both machines keep time by NTP")


def _unreadable(check: str, rule: str, server: Server) -> Finding:
    why = server.unreadable or "its INFO lacks it"
    return Finding(check, ok=None, says=rule, do=f"Redis does not tell ({why}): look yourself")
