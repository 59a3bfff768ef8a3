"""Where Celery's queues are, as the broker's URL says it: a Redis, as :mod:`.servers`, or RabbitMQ.

RabbitMQ's, or that of another server that speaks AMQP 0-9-1, is
``amqp://[USER:PASSWORD@]HOST[:PORT][/VHOST]``, and ``amqps://…`` for TLS, with
``?ssl_ca_certs=PATH`` where the authorities of the system do not know its certificate. Certificate
and host name are always checked.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from api_contracts.client.servers import NO_CLUSTER, Server, is_cluster

if TYPE_CHECKING:
    from api_contracts.client.rabbitmq import AsyncBells, Bells

_SCHEMES: Final = ("amqp://", "amqps://")
_FORM: Final = "amqp://USER:PASSWORD@HOST:PORT/VHOST"
_AMQP: Final = re.compile(
    r"(?P<address>amqp(?P<tls>s?)://(?:[^:@/?#;]*(?::[^@/?#;:]*)?@)?"
    r"(?P<host>[^:@/?#;\[\]\s]+)(?::(?P<port>[0-9]{1,5}))?(?:/[^/?#;]*)?)"
    r"(?:\?(?P<query>[^#]*))?"
)
#: Ports of AMQP, plain and with TLS, where none is said.
_PORTS: Final = {"": 5672, "s": 5671}


class BrokerAway(ConnectionError):
    """The server of the queues cannot be used; the text says why."""


def is_amqp(url: str) -> bool:
    """Tell whether a broker's URL names RabbitMQ."""
    return url.startswith(_SCHEMES)


def check_broker(url: str) -> None:
    """Raise ValueError where a URL names no broker; it quotes nothing of it."""
    if is_amqp(url):
        amqp_address(url)
    elif is_cluster(url):
        raise ValueError(NO_CLUSTER)
    elif url.startswith(("redis://", "rediss://", "sentinel://")):
        Server.parse(url)
    else:
        message = "must begin with redis[s]://HOST, sentinel://HOST or amqp[s]://HOST"
        raise ValueError(message)


def broker_place(url: str) -> str:
    """Write where a broker is, without user and password."""
    said = _AMQP.fullmatch(url)
    return f"{said['host']}:{_port(said)}" if said else str(Server.parse(url))


def amqp_address(url: str) -> dict[str, Any]:
    """Write a URL as arguments of a kombu connection: ``hostname`` and ``ssl``.

    ValueError where it is none.
    """
    said = _AMQP.fullmatch(url)
    if said is None or not 0 < _port(said) < 2**16:
        message = f"must read {_FORM} (amqps:// for TLS), with a percent-encoded password"
        raise ValueError(message)
    options = dict(parse_qsl(said["query"] or ""))
    authorities = options.pop("ssl_ca_certs", None)
    if options or (authorities and not said["tls"]):
        message = "takes no option but ssl_ca_certs, and that with amqps://"
        raise ValueError(message)
    # kombu puts the host's name in the place of None; without the key, py-amqp does not check it.
    tls = {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": authorities, "server_hostname": None}
    return {"hostname": said["address"], "ssl": tls if said["tls"] else False}


def open_bells(url: str, timeout_s: float) -> Bells:
    """Prepare to ring doorbells on RabbitMQ; nothing is connected yet."""
    # kombu and py-amqp, which take 20 ms: who has Redis alone does not load them.
    from api_contracts.client.rabbitmq import Bells  # noqa: PLC0415

    return Bells(url, timeout_s)


def open_async_bells(url: str, timeout_s: float) -> AsyncBells:
    """Prepare the same for asyncio; call from the loop that will use it."""
    from api_contracts.client.rabbitmq import AsyncBells  # noqa: PLC0415 - as above

    return AsyncBells(url, timeout_s)


def _port(said: re.Match[str]) -> int:
    return int(said["port"] or _PORTS[said["tls"]])
