"""HTTP to what runs on this machine, whatever proxy the environment names."""

import itertools
import json
import os
import random
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, Final

#: Ports that the kernel gives to nobody: not to a connection, and not to whoever binds port 0.
_KEPT: Final = range(10_000, 20_000)

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _ports() -> Iterator[int]:
    """Yield the ports of this process, again and again; those that test beside it have others."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ours = _KEPT[process :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    # Somebody else may test on this machine too.
    begin = random.SystemRandom().randrange(len(ours))
    return itertools.cycle([*ours[begin:], *ours[:begin]])


_PORTS: Final = _ports()


def free_port() -> int:
    """Name a TCP port that nobody listens on, nor will until whoever asked does.

    One that the kernel names is not kept for him: it may be the next that somebody else is given.
    So it is with a port that is closed for a while.
    """
    return next(filter(_is_free, _PORTS))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def get(url: str, *, timeout: float = 5.0) -> tuple[int, str]:
    """GET a URL: its status, whichever it is, and its body. OSError where nobody answers."""
    return _ask(urllib.request.Request(url), timeout)


def post(url: str, body: Any, *, timeout: float = 5.0, **headers: str) -> tuple[int, str]:
    """POST a JSON body: as :func:`get`."""
    headers = {"content-type": "application/json", **headers}
    return _ask(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout)


def _ask(request: urllib.request.Request, timeout: float) -> tuple[int, str]:
    try:
        with _DIRECT.open(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()
