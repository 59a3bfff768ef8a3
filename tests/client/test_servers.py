"""URLs of Redis and of sentinels: read, refused in words, and never told with their secrets."""

from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import pytest
from kombu import Connection
from redis import Redis
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelConnectionPool
from redis.sentinel import SentinelConnectionPool

from api_contracts.client import AsyncClient, Client, servers
from api_contracts.client.connection import Address
from api_contracts.client.servers import Server, kombu_address, open_async, open_sync
from tests.parts.sentinels import Sentinels

#: A password that no output may have, and how it stands in a URL.
PASSWORD = "p@ss/w,rd:5;8?#"
CODED = quote(PASSWORD, "")

READ: list[tuple[str, dict[str, Any], str]] = [
    ("redis://h", {"hosts": (("h", 6379),)}, "h:6379"),
    (f"rediss://u:{CODED}@h:7/3?ssl_cert_reqs=none", {"hosts": (("h", 7),)}, "h:7"),
    ("redis://[::1]:7/0", {"hosts": (("::1", 7),)}, "[::1]:7"),
    (
        "sentinel://h?master_name=m",
        {"hosts": (("h", 26379),), "master_name": "m"},
        "m of sentinels h:26379",
    ),
    (
        f"sentinel://u:{CODED}@a:1,b,[::1]:3/2?master_name=m%20%26",
        {
            "hosts": (("a", 1), ("b", 26379), ("::1", 3)),
            "master_name": "m &",
            "db": 2,
            "username": "u",
            "password": PASSWORD,
        },
        "m & of sentinels a:1, b:26379, [::1]:3",
    ),
    (
        f"sentinel://:{CODED}@h/?master_name=m",
        {"hosts": (("h", 26379),), "master_name": "m", "password": PASSWORD},
        "m of sentinels h:26379",
    ),
    (
        f"redis-cluster://u:{CODED}@a:1,b,[::1]:3/0",
        {
            "hosts": (("a", 1), ("b", 6379), ("::1", 3)),
            "username": "u",
            "password": PASSWORD,
            "cluster": "redis",
        },
        "the cluster of a:1, b:6379, [::1]:3",
    ),
    (
        "rediss-cluster://h?ssl_ca_certs=/ca.pem",
        {"hosts": (("h", 6379),), "cluster": "rediss", "options": "ssl_ca_certs=/ca.pem"},
        "the cluster of h:6379",
    ),
]


@pytest.mark.parametrize(("url", "says", "shown"), READ)
def test_a_url_is_read(url: str, says: dict[str, Any], shown: str) -> None:
    server = Server.parse(url)
    nothing = {
        "master_name": None,
        "db": 0,
        "username": None,
        "password": None,
        "cluster": None,
        "options": "",
    }
    assert asdict(server) == nothing | says
    assert str(server) == shown
    assert PASSWORD not in repr(server)


FORM = "sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/DB?master_name=NAME"
BEGIN = "must begin with redis[s]://HOST, sentinel://HOST or redis[s]-cluster://HOST"
READABLE = "cannot be read; is the port a number, and is the password percent-encoded?"
REFUSED = [
    ("", BEGIN),
    ("hush:6379", BEGIN),
    ("redis://", BEGIN),
    ("unix:///hush", BEGIN),
    ("http://hush", BEGIN),
    ("redis://u:hush/x@h", READABLE),
    ("redis://h:hush", READABLE),
    ("redis://[hush", READABLE),
    ("sentinel://", f"must read {FORM}, with a percent-encoded password"),
    ("sentinel://u:hu/sh@h/0?master_name=m", f"must read {FORM}, with a percent-encoded password"),
    ("sentinel://u:hu@sh@h/0?master_name=m", f"must read {FORM}, with a percent-encoded password"),
    ("sentinel://u:hush@/0?master_name=m", f"must read {FORM}, with a percent-encoded password"),
    ("sentinel://hush@h/0?master_name=m", f"must read {FORM}, with a percent-encoded password"),
    ("sentinel://h/hush?master_name=m", f"must read {FORM}, with a percent-encoded password"),
    ("sentinel://h/0?master_name=m#hush", f"must read {FORM}, with a percent-encoded password"),
    ("sentinel://h/0", f"must name the master that its sentinels watch: {FORM}"),
    ("sentinel://h/0?master_name=", f"must name the master that its sentinels watch: {FORM}"),
    ("sentinel://h/0?master_name=m&hush=1", f"takes no option but master_name: {FORM}"),
    ("sentinel://h:hush?master_name=m", f"must name each sentinel as HOST or HOST:PORT: {FORM}"),
    ("sentinel://h:0?master_name=m", f"must name each sentinel as HOST or HOST:PORT: {FORM}"),
    ("sentinel://h:65536?master_name=m", f"must name each sentinel as HOST or HOST:PORT: {FORM}"),
    ("sentinel://a,?master_name=m", f"must name each sentinel as HOST or HOST:PORT: {FORM}"),
]


@pytest.mark.parametrize(("url", "says"), REFUSED)
def test_a_url_that_is_none_is_refused_in_words_that_quote_nothing(url: str, says: str) -> None:
    for read in (Server.parse, open_sync, open_async, kombu_address):
        with pytest.raises(ValueError, match=r"^(must|cannot|takes) ") as caught:
            read(url)
        assert str(caught.value) == says
        assert caught.value.__cause__ is None


CLUSTER_FORM = "redis-cluster://USER:PASSWORD@HOST:PORT,HOST:PORT"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis-cluster://", f"must read {CLUSTER_FORM}, with a percent-encoded password"),
        ("rediss-cluster://hush@h", f"must read {CLUSTER_FORM}, with a percent-encoded password"),
        ("redis-cluster://h:hush", f"must name each server as HOST or HOST:PORT: {CLUSTER_FORM}"),
        ("redis-cluster://a,", f"must name each server as HOST or HOST:PORT: {CLUSTER_FORM}"),
        ("redis-cluster://h/1", f"must name no database, since a cluster has one: {CLUSTER_FORM}"),
    ],
)
def test_a_cluster_s_url_that_is_none_is_refused_in_words_that_quote_nothing(
    url: str, says: str
) -> None:
    with pytest.raises(ValueError, match=r"^must ") as caught:
        Server.parse(url)
    assert str(caught.value) == says
    assert caught.value.__cause__ is None


def test_the_servers_of_a_cluster_are_spoken_to_as_its_url_says() -> None:
    server = Server.parse(f"rediss-cluster://u:{CODED}@a:1?ssl_ca_certs=/ca.pem")
    url = server.url_of("::1", 7)
    assert url == f"rediss://u:{CODED}@[::1]:7/0?ssl_ca_certs=/ca.pem"
    with open_sync(url) as client:
        options = client.connection_pool.connection_kwargs
        assert (options["username"], options["password"]) == ("u", PASSWORD)
        assert (options["host"], options["port"]) == ("::1", 7)
        assert options["ssl_ca_certs"] == "/ca.pem"
    assert Server.parse("redis-cluster://a:1,b").url_of("c", 2) == "redis://c:2/0"


def test_a_cluster_is_for_records_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever needs one server is told so, and which variable is to name it."""
    monkeypatch.delenv("ROUTER_WORKER_BROKER_URL", raising=False)
    url = "redis-cluster://h"
    for read in (open_sync, open_async, kombu_address):
        with pytest.raises(ValueError, match=r"^must name one Redis or its sentinels: a cluster"):
            read(url)
    for broker_url in (None, url):
        with pytest.raises(ValueError, match=r"^ROUTER_WORKER_BROKER_URL must name one Redis or"):
            Address.of(url, broker_url, None)
    address = Address.of(url, "redis://queues", None)
    assert (address.url, address.broker_url) == (url, "redis://queues")
    assert address.keys.sharded
    assert not Address.of("redis://h", None, None).keys.sharded


@pytest.mark.parametrize("client", [Client, AsyncClient, Address.of])
def test_a_client_names_the_variable_of_a_url_that_is_none(client: Any) -> None:
    """Or the parameter beside it."""
    more = {"prefix": None}
    with pytest.raises(ValueError, match=r"^REDIS_URL must begin with redis\[s\]://"):
        client(url="hush", broker_url=None, **more)
    with pytest.raises(
        ValueError, match=r"^ROUTER_WORKER_BROKER_URL must begin with redis\[s\]://"
    ):
        client(url="redis://h", broker_url="hush", **more)


async def test_the_data_servers_get_the_credentials_and_the_sentinels_none() -> None:
    url = f"sentinel://u:{CODED}@a:1,b/2?master_name=m"
    async with open_async(url) as asyncs:
        with open_sync(url) as client:
            for pool in (client.connection_pool, asyncs.connection_pool):
                assert isinstance(pool, SentinelConnectionPool | AsyncSentinelConnectionPool)
                options = pool.connection_kwargs
                assert (options["username"], options["password"]) == ("u", PASSWORD)
                assert (options["db"], pool.service_name) == (2, "m")
                for sentinel in pool.sentinel_manager.sentinels:
                    asked = sentinel.connection_pool.connection_kwargs
                    assert (asked["username"], asked["password"], asked["db"]) == (None, None, 0)
                    assert asked["socket_timeout"] == servers.SENTINEL_TIMEOUT_S
                assert PASSWORD not in repr(pool)


def test_kombu_gets_a_url_for_each_sentinel() -> None:
    url, options = kombu_address(f"sentinel://u:{CODED}@a:1,[::1]/2?master_name=m")
    assert url == f"sentinel://u:{CODED}@a:1/2;sentinel://u:{CODED}@[::1]:26379/2"
    assert options["master_name"] == "m"
    assert options["sentinel_kwargs"]["socket_timeout"] == servers.SENTINEL_TIMEOUT_S
    assert kombu_address("sentinel://a?master_name=m")[0] == "sentinel://a:26379/0"
    assert kombu_address("sentinel://:x@a?master_name=m")[0] == "sentinel://:x@a:26379/0"
    plain = f"redis://u:{CODED}@h:7/3"
    assert kombu_address(plain) == (plain, {})


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("rediss://h", "?ssl_cert_reqs=required"),
        ("rediss://h:7/3?ssl_ca_certs=/ca.pem", "&ssl_cert_reqs=required"),
        ("rediss://h?ssl_cert_reqs=none", ""),
    ],
)
def test_kombu_checks_certificates_unless_it_is_told_not_to(url: str, says: str) -> None:
    assert kombu_address(url) == (url + says, {})


def test_kombu_finds_the_master_by_it(sentinels: Sentinels) -> None:
    url, options = kombu_address(sentinels.url)
    with Connection(url, transport_options=options) as connection:
        connection.SimpleQueue("errands").put("hello")
    with Redis.from_url(sentinels.master.url) as master:
        assert master.llen("errands") == 1
