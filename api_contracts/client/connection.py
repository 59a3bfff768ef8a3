"""Where Redis is, how it is spoken to, and what is said when it does not answer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import hiredis
from redis.backoff import ConstantBackoff
from redis.exceptions import AskError, AuthenticationError, DataError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from api_contracts.client.brokers import check_broker
from api_contracts.client.secret import secret_of
from api_contracts.client.servers import NO_CLUSTER, Server, is_cluster
from api_contracts.client.slots import LOST, Elsewhere, is_elsewhere
from api_contracts.errors import StoreUnavailable
from api_contracts.names import DEFAULT_PREFIX, Keys

#: Redis of a developer's machine.
DEFAULT_URL = "redis://127.0.0.1:6379/0"
#: Longest wait for one answer of Redis, in seconds. Well above its slowest healthy answer (a
#: 32 MiB body takes 0.1 s), well below a web request's patience.
TIMEOUT_S = 5.0
#: Most connections of one client: one for each open stream. redis-py's own limit is 100, at which
#: it raises; here the number of open files is what bounds.
CONNECTIONS = 1_000_000
#: How long a subscriber goes without reading the log, in seconds: a channel that has silently
#: lost its connection costs a reader no more than this.
SILENCE_S = 5.0
#: How long a subscriber tries to come back to a Redis that has gone, in seconds.
RECONNECT_S = 60.0
#: Pause between its tries, in seconds.
RECONNECT_PAUSE_S = 0.5
#: Entries of a log read at once: one round trip for almost every stream, and no reply larger
#: than 32 MiB (512 events of 64 KiB).
PAGE = 512

#: One more try, at once: for a pooled connection that the server has closed meanwhile. Not after
#: a silence, which would only be kept twice.
TRIES = 1
TRIED_AGAIN = (RedisConnectionError,)
BACKOFF = ConstantBackoff(0.05)


@dataclass(frozen=True, slots=True)
class Address:
    """Both servers and the prefix; what is not given comes from the environment.

    ``REDIS_URL``, ``ROUTER_WORKER_BROKER_URL`` and ``ROUTER_WORKER_PREFIX``, as for the workers.
    The URLs may stand in files, as :mod:`.secret` has it.
    """

    url: str
    broker_url: str
    keys: Keys

    @classmethod
    def of(cls, url: str | None, broker_url: str | None, prefix: str | None) -> Address:
        """Fill in what is None.

        ValueError where a URL is none, or cannot be had from its file; it quotes nothing of it.
        """
        url = _url("REDIS_URL", url, Server.parse) or DEFAULT_URL
        broker_url = _url("ROUTER_WORKER_BROKER_URL", broker_url, check_broker) or url
        prefix = prefix or os.environ.get("ROUTER_WORKER_PREFIX") or DEFAULT_PREFIX
        if is_cluster(broker_url):
            message = f"ROUTER_WORKER_BROKER_URL {NO_CLUSTER}"
            raise ValueError(message)
        return cls(url, broker_url, Keys(prefix, sharded=is_cluster(url)))

    def __repr__(self) -> str:
        """Show neither URL: a password may stand in them."""
        return f"Address({self.keys.prefix!r})"


def _url(variable: str, given: str | None, check: Callable[[str], object]) -> str | None:
    """Return a URL that was given, or else the environment's, if there is one."""
    try:
        url = given or secret_of(variable, os.environ)
        if url:
            check(url)
    except ValueError as error:
        message = f"{variable} {error}"
        raise ValueError(message) from None
    return url


def connection_options(timeout_s: float) -> dict[str, Any]:
    """Return what both kinds of client pass to redis-py: every wait is bounded."""
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "socket_keepalive": True,
        "health_check_interval": 30,
    }


class Packer:
    """Writes commands for redis-py, in 1.6 µs each.

    Its own takes 3.8, most of them to look for what no command of ours has.
    """

    def pack(self, name: str, *arguments: Any) -> list[bytes]:
        """Write a command. A name may have two words. DataError where an argument is no value."""
        return [packed((*name.split(), *arguments))]


def packed(command: tuple[Any, ...]) -> bytes:
    """Write a command, word by word. DataError where one of them is no value."""
    try:
        words: bytes = hiredis.pack_command(command)
    except TypeError as error:
        raise DataError(str(error)) from None
    return words


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn what redis-py raises into StoreUnavailable, in words that say what to do."""
    try:
        yield
    except RedisTimeoutError as error:
        message = f"Redis did not answer in time ({error}); look at its load and at the network"
        raise StoreUnavailable(message) from error
    except RedisError as error:
        where = "look at REDIS_URL (of the broker: ROUTER_WORKER_BROKER_URL) and at the server"
        message = f"Redis cannot be used ({error}); {where}"
        raise StoreUnavailable(message) from error


@contextmanager
def cancellable() -> Iterator[None]:
    """Let no cancellation get lost in the block.

    redis-py sends through ``asyncio.wait_for``, which up to Python 3.11 returns what it waited for
    where a cancellation comes at the same moment, and forgets that
    (https://github.com/python/cpython/issues/86296).
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError


class Patience:
    """How long a subscriber waits for a Redis that has gone."""

    def __init__(self) -> None:
        """Begin with a connection that works."""
        self._lost_at: float | None = None

    def restore(self) -> None:
        """Note that Redis answered."""
        self._lost_at = None

    def pause(self, error: RedisError, now: float) -> float:
        """Return how long to wait before the next try, in seconds.

        StoreUnavailable after :data:`RECONNECT_S` of failing, or at once where a new connection
        would not help.
        """
        if self._lost_at is None:
            self._lost_at = now
        lost = isinstance(error, LOST) or is_elsewhere(error)
        refused = isinstance(error, AuthenticationError)
        if refused or not lost or now - self._lost_at > RECONNECT_S:
            with clear_errors():
                raise error
        at_once = now == self._lost_at and isinstance(error, (AskError, Elsewhere))
        return 0.0 if at_once else RECONNECT_PAUSE_S


class Until:
    """A moment to wait until; never, without a time-out."""

    def __init__(self, timeout_s: float | None) -> None:
        """Begin to count now."""
        self._end = None if timeout_s is None else time.monotonic() + timeout_s

    @property
    def past(self) -> bool:
        """Whether it is over."""
        return self._end is not None and time.monotonic() >= self._end

    def wait(self, longest_s: float) -> float:
        """Return how long to wait now: so long at most, and not beyond the end."""
        if self._end is None:
            return longest_s
        return max(0.0, min(longest_s, self._end - time.monotonic()))


def event_of(message: Mapping[str, Any] | None) -> bytes | None:
    """Take an event out of what a channel said; None for silence, and where it says it is open."""
    if message is None or message["type"] not in {"message", "smessage"}:
        return None
    event: bytes = message["data"]
    return event
