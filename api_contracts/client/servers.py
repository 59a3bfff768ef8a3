"""Where a Redis is, as its URL says it, and how clients of it are opened.

Four forms of URL:

- ``redis://[USER:PASSWORD@]HOST[:PORT][/DB]``, and ``rediss://…`` for TLS;
- ``sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/DB]?master_name=NAME``: the sentinels,
  by their usual port 26379 where none is said, and the name under which they watch the master.
- ``redis-cluster://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][?OPTIONS]``, and
  ``rediss-cluster://…`` for TLS: some servers of a cluster, which name the others. All are spoken
  to with the same user, password and options, which are those of ``redis://``. For records and
  events alone: a cluster keeps no queues of Celery's. :mod:`.slots` and :mod:`.links` speak to it.

User and password are the data servers'. Sentinels get none: they hold no data, and one that asks
for no password refuses whoever brings one.

A client of a ``sentinel://`` asks for the master whenever it connects. What a failover does to it,
tried with Valkey 9.1 and redis-py 8.1: a master that dies takes its connections along; one that is
demoted has them cut by the sentinels, channels too, 8 to 11 s later where it never died; and one
that was demoted by hand answers READONLY, which redis-py turns into a lost connection, in pipelines
and scripts as well. Then the next try must find the new master, which takes the classes below.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from redis import Redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio import Sentinel as AsyncSentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import MasterNotFoundError as AsyncMasterNotFoundError
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelConnectionPool
from redis.asyncio.sentinel import SentinelManagedConnection as AsyncSentinelManagedConnection
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
)

#: Port of a Redis, and of a sentinel, where none is said.
REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
#: Longest wait for one sentinel's answer, in seconds: it takes a millisecond, and while one is
#: silent, the next waits to be asked.
SENTINEL_TIMEOUT_S: Final = 1.0

_PLAIN: Final = ("redis", "rediss")
_FORM: Final = "sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/DB?master_name=NAME"
_CLUSTER_FORM: Final = "redis-cluster://USER:PASSWORD@HOST:PORT,HOST:PORT"
_WHERE: Final = (
    r"(?:(?P<user>[^:@/?#]*):(?P<password>[^@/?#]*)@)?"
    r"(?P<hosts>[^@/?#]+)(?:/(?P<db>[0-9]{0,4}))?(?:\?(?P<query>[^#]*))?"
)
_SENTINEL: Final = re.compile(f"sentinel://{_WHERE}")
_CLUSTER_SCHEMES: Final = ("redis-cluster://", "rediss-cluster://")
_CLUSTER: Final = re.compile(f"(?P<scheme>rediss?)-cluster://{_WHERE}")
#: Why a cluster will not do for the queues.
NO_CLUSTER: Final = "must name one Redis or its sentinels: a cluster keeps no queues of Celery's"
#: In place of redis-py's words, which are of 2,000 characters.
_NO_MASTER: Final = "no sentinel that answers names a living master {!r}"
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]+)(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Server:
    """What a URL says of a Redis. No secret is in its ``repr``, nor in its ``str``."""

    #: Where to ask: the server itself, the sentinels of its master, or some servers of a cluster.
    hosts: tuple[tuple[str, int], ...]
    #: The name under which sentinels watch the master; None where there are none.
    master_name: str | None = None
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    #: How a cluster's servers are spoken to, ``redis`` or ``rediss``; None where there is none.
    cluster: str | None = None
    #: The query of the URLs of a cluster's servers.
    options: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL. ValueError says what it must be, and quotes nothing of it."""
        if url.startswith("sentinel://"):
            return cls._sentinels(url)
        if is_cluster(url):
            return cls._of_cluster(url)
        try:
            parts = urlsplit(url)
            port = parts.port or REDIS_PORT
        except ValueError:
            message = "cannot be read; is the port a number, and is the password percent-encoded?"
            raise ValueError(message) from None
        if parts.scheme not in _PLAIN or not parts.hostname:
            message = "must begin with redis[s]://HOST, sentinel://HOST or redis[s]-cluster://HOST"
            raise ValueError(message)
        return cls(((parts.hostname, port),))

    @classmethod
    def _sentinels(cls, url: str) -> Self:
        said = _SENTINEL.fullmatch(url)
        if said is None:
            message = f"must read {_FORM}, with a percent-encoded password"
            raise ValueError(message)
        options = dict(parse_qsl(said["query"] or ""))
        master_name = options.pop("master_name", "")
        if not master_name:
            message = f"must name the master that its sentinels watch: {_FORM}"
            raise ValueError(message)
        if options:
            message = f"takes no option but master_name: {_FORM}"
            raise ValueError(message)
        return cls(
            hosts=tuple(_host(one, SENTINEL_PORT, _FORM) for one in said["hosts"].split(",")),
            master_name=master_name,
            db=int(said["db"] or 0),
            username=unquote(said["user"] or "") or None,
            password=unquote(said["password"] or "") or None,
        )

    @classmethod
    def _of_cluster(cls, url: str) -> Self:
        said = _CLUSTER.fullmatch(url)
        if said is None:
            message = f"must read {_CLUSTER_FORM}, with a percent-encoded password"
            raise ValueError(message)
        if int(said["db"] or 0):
            message = f"must name no database, since a cluster has one: {_CLUSTER_FORM}"
            raise ValueError(message)
        return cls(
            hosts=tuple(_host(one, REDIS_PORT, _CLUSTER_FORM) for one in said["hosts"].split(",")),
            username=unquote(said["user"] or "") or None,
            password=unquote(said["password"] or "") or None,
            cluster=said["scheme"],
            options=said["query"] or "",
        )

    def url_of(self, host: str, port: int) -> str:
        """Write the URL of one of a cluster's servers."""
        query = f"?{self.options}" if self.options else ""
        return f"{self.cluster}://{_who(self)}{_place(host, port)}/0{query}"

    def __str__(self) -> str:
        """Say where it is."""
        places = ", ".join(_place(host, port) for host, port in self.hosts)
        if self.cluster is not None:
            return f"the cluster of {places}"
        return places if self.master_name is None else f"{self.master_name} of sentinels {places}"


def is_cluster(url: str) -> bool:
    """Tell whether a URL names a cluster."""
    return url.startswith(_CLUSTER_SCHEMES)


def open_sync(url: str, **options: Any) -> Redis:
    """Make a client; nothing is connected yet. ``options`` are redis-py's for a connection pool.

    ValueError where the URL is none, or a cluster's.
    """
    server = _one_server(url)
    if server.master_name is None:
        return Redis.from_url(url, **options)
    sentinels = _Sentinels(server.hosts, sentinel_kwargs=_sentinel_options(Retry))  # type: ignore[no-untyped-call]
    pool = _SentinelPool(  # type: ignore[no-untyped-call]
        server.master_name,
        sentinels,
        connection_class=SentinelConnection,
        **options,
        **_data_options(server),
    )
    return Redis.from_pool(pool)


def open_async(url: str, *, wait_s: float | None = None, **options: Any) -> AsyncRedis:
    """Make a client for asyncio, as :func:`open_sync`.

    With ``wait_s``, who finds ``max_connections`` in use waits so long for one, in seconds, which
    costs 15 µs a call. Without, he gets an error; a client of sentinels waits without limit.
    """
    server = _one_server(url)
    if server.master_name is None and wait_s is None:
        return AsyncRedis.from_url(url, **options)
    if server.master_name is None:
        return AsyncRedis.from_pool(BlockingConnectionPool.from_url(url, timeout=wait_s, **options))
    sentinels = _AsyncSentinels(server.hosts, sentinel_kwargs=_sentinel_options(AsyncRetry))  # type: ignore[no-untyped-call]
    pool = _AsyncSentinelPool(
        service_name=server.master_name,
        sentinel_manager=sentinels,
        connection_class=_AsyncConnection,
        timeout=wait_s,
        **options,
        **_data_options(server),
    )
    return AsyncRedis.from_pool(pool)


def kombu_address(url: str) -> tuple[str, dict[str, Any]]:
    """Write a URL as kombu takes it, with the transport options that belong to it.

    kombu wants a URL for each sentinel. It takes user, password and database from the one that
    it tries, so all have them. ValueError where the URL is none.
    """
    server = _one_server(url)
    if server.master_name is None:
        return _checking(url), {}
    written = ";".join(
        f"sentinel://{_who(server)}{_place(host, port)}/{server.db}" for host, port in server.hosts
    )
    options = {"master_name": server.master_name, "sentinel_kwargs": _sentinel_options(Retry)}
    return written, options


def _checking(url: str) -> str:
    """Let kombu check certificates, as redis-py does by itself.

    Without an option for TLS in the URL, it would speak plainly or check nothing.
    """
    parts = urlsplit(url)
    if parts.scheme != "rediss" or "ssl_cert_reqs" in dict(parse_qsl(parts.query)):
        return url
    query = "&".join(filter(None, (parts.query, "ssl_cert_reqs=required")))
    return urlunsplit(parts._replace(query=query))


class _Sentinels(Sentinel):
    """redis-py's, safe for several askers at once.

    It moves the sentinel that answered to the front of its list, in place. Two that do so at the
    same time, as after every failover, overwrite another's place: it is never asked again. Here
    each asker has a list of its own, and leaves it whole.
    """

    def discover_master(self, service_name: str) -> tuple[str, int]:
        asker = copy.copy(self)
        asker.sentinels = list(self.sentinels)
        try:
            found: tuple[str, int] = Sentinel.discover_master(asker, service_name)  # type: ignore[no-untyped-call]
        except MasterNotFoundError as error:
            raise MasterNotFoundError(_NO_MASTER.format(service_name)) from error
        self.sentinels = asker.sentinels
        return found


class _AsyncSentinels(AsyncSentinel):
    """The same for asyncio."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        asker = copy.copy(self)
        asker.sentinels = list(self.sentinels)
        try:
            found: tuple[str, int] = await AsyncSentinel.discover_master(asker, service_name)
        except AsyncMasterNotFoundError as error:
            raise AsyncMasterNotFoundError(_NO_MASTER.format(service_name)) from error
        self.sentinels = asker.sentinels
        return found


class SentinelConnection(SentinelManagedConnection):
    """redis-py's, mended in two places.

    It asks the sentinels whenever it connects, not only when it is taken from the pool: lost while
    it is used, and tried again, redis-py's would go back to where it was
    (https://github.com/redis/redis-py/issues/3874). And it is closed where no answer came in time,
    as redis-py's own are but for this one: left open, it would stay with a master that hangs, and
    take a late answer for that to the next command.
    """

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's own
        """Send; connect first where that is to be done."""
        if not self.is_connected:
            self.connect()  # type: ignore[no-untyped-call]
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]

    def read_response(self, disable_decoding: bool = False, **options: Any) -> Any:  # noqa: FBT001, FBT002 - redis-py's own
        """Read a reply; close where none came."""
        return super().read_response(disable_decoding, **{"disconnect_on_error": True, **options})


class _AsyncConnection(AsyncSentinelManagedConnection):
    """The same for asyncio, where redis-py closes by itself."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's own
        if not self.is_connected:
            await self.connect()  # type: ignore[no-untyped-call]
        await super().send_packed_command(command, check_health)


class _SentinelPool(SentinelConnectionPool):
    """redis-py's, which closes the connections to the sentinels too."""

    def close(self) -> None:
        super().close()
        self.sentinel_manager.close()


class _AsyncSentinelPool(BlockingConnectionPool, AsyncSentinelConnectionPool):
    """The same for asyncio; it waits for a free connection."""

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


def _sentinel_options(retry: type[Retry | AsyncRetry]) -> dict[str, Any]:
    """Return how a sentinel is spoken to: once; whoever is silent, the next one is asked."""
    return {
        "socket_timeout": SENTINEL_TIMEOUT_S,
        "socket_connect_timeout": SENTINEL_TIMEOUT_S,
        "socket_keepalive": True,
        "retry": retry(NoBackoff(), 0),
    }


def _one_server(url: str) -> Server:
    if is_cluster(url):
        raise ValueError(NO_CLUSTER)
    return Server.parse(url)


def _who(server: Server) -> str:
    """Write user and password as a URL has them."""
    user, password = (quote(part or "", "") for part in (server.username, server.password))
    return f"{user}:{password}@" if user or password else ""


def _data_options(server: Server) -> dict[str, Any]:
    return {"db": server.db, "username": server.username, "password": server.password}


def _host(written: str, usual_port: int, form: str) -> tuple[str, int]:
    said = _HOST.fullmatch(written)
    port = int(said[2] or usual_port) if said else 0
    if said is None or not 0 < port < 2**16:
        what = "sentinel" if form == _FORM else "server"
        message = f"must name each {what} as HOST or HOST:PORT: {form}"
        raise ValueError(message)
    return said[1].strip("[]"), port


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
