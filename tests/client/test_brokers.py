"""URLs of brokers: read, refused in words, and never told with their secrets."""

import subprocess
import sys
from typing import Any
from urllib.parse import quote

import pytest
from kombu import Connection

from api_contracts.client.brokers import amqp_address, broker_place, check_broker, is_amqp

#: A password that no output may have, and how it stands in a URL.
PASSWORD = "p@ss/w,rd:5;8?#"
CODED = quote(PASSWORD, "")
FORM = "amqp://USER:PASSWORD@HOST:PORT/VHOST (amqps:// for TLS), with a percent-encoded password"

#: A URL, what kombu makes of it, and how it is shown.
READ: list[tuple[str, dict[str, Any], str]] = [
    ("amqp://h", {"hostname": "h", "virtual_host": "/"}, "h:5672"),
    (
        f"amqp://u:{CODED}@h:7/%2Fv%20h",
        {
            "hostname": "h", "port": 7, "userid": "u", "password": PASSWORD, "virtual_host": "/v h",
        },
        "h:7",
    ),
    (f"amqps://u:{CODED}@h.org/v", {"password": PASSWORD, "virtual_host": "v"}, "h.org:5671"),
]  # fmt: skip


@pytest.mark.parametrize(("url", "says", "shown"), READ)
def test_a_url_of_rabbitmq_is_read(url: str, says: dict[str, Any], shown: str) -> None:
    check_broker(url)
    assert is_amqp(url)
    with Connection(**amqp_address(url), transport="pyamqp") as connection:
        assert {name: getattr(connection, name) for name in says} == says
    assert broker_place(url) == shown


def test_with_tls_certificate_and_host_name_are_always_checked() -> None:
    tls = amqp_address("amqps://h?ssl_ca_certs=/ca.pem")
    assert tls["ssl"] == {"cert_reqs": 2, "ca_certs": "/ca.pem", "server_hostname": None}
    assert amqp_address("amqps://h")["ssl"]["ca_certs"] is None
    assert amqp_address("amqp://h")["ssl"] is False


@pytest.mark.parametrize(
    ("url", "mistake"),
    [
        ("http://h", "must begin with redis[s]://HOST, sentinel://HOST or amqp[s]://HOST"),
        ("amqp://", f"must read {FORM}"),
        (f"amqp://u:{PASSWORD}@h", f"must read {FORM}"),
        ("amqp://h:x", f"must read {FORM}"),
        ("amqp://h:65536", f"must read {FORM}"),
        ("amqp://h/a/b", f"must read {FORM}"),
        ("amqp://a;amqp://b", f"must read {FORM}"),
        ("amqp://h?heartbeat=5", "takes no option but ssl_ca_certs, and that with amqps://"),
        ("amqp://h?ssl_ca_certs=/a", "takes no option but ssl_ca_certs, and that with amqps://"),
    ],
)
def test_what_is_no_url_is_refused_and_not_repeated(url: str, mistake: str) -> None:
    with pytest.raises(ValueError, match=r"must|takes") as refused:
        check_broker(url)
    assert str(refused.value) == mistake


@pytest.mark.parametrize("url", ["redis://h:7", "sentinel://h?master_name=m"])
def test_a_redis_is_a_broker_too(url: str) -> None:
    check_broker(url)
    assert not is_amqp(url)
    assert broker_place(url).endswith(("h:7", "h:26379"))


def test_a_producer_whose_queues_are_on_redis_loads_nothing_of_rabbitmq() -> None:
    script = """
import sys
from api_contracts.client import AsyncClient, Client
Client("redis://h", broker_url="redis://i")
loaded = {"amqp", "kombu"} & sys.modules.keys()
assert not loaded, loaded
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")
