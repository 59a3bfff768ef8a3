"""HTTP to what runs on this machine, whatever proxy the environment names."""

import itertools
import json
import random
import socket
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

#: Ports that the kernel gives to nobody: not to a connection, and not to whoever binds port 0.
_KEPT: Final = range(10_000, 32_000)
#: Ports that are held at once: enough for those that are listened on soon.
_HELD: Final = 64
_held: Final[deque[socket.socket]] = deque()


def _ports() -> Iterator[int]:
    """Yield the ports, again and again; where it begins is chance: others test here as well."""
    begin = random.SystemRandom().randrange(len(_KEPT))
    return itertools.cycle([*_KEPT[begin:], *_KEPT[:begin]])


_PORTS: Final = _ports()


def free_port() -> int:
    """Name a TCP port that nobody listens on, nor will until whoever asked does.

    One that the kernel names is not kept for him: it may be the next that somebody else is given.
    So it is with a port that is closed for a while.
    """
    return next(filter(_is_free, _PORTS))


def _is_free(port: int) -> bool:
    """Tell whether a port is free, and hold it if it is, so that no other process names it."""
    # Held over UDP, which nothing here speaks: what it is named for can listen.
    hold = socket.socket(type=socket.SOCK_DGRAM)
    try:
        hold.bind(("127.0.0.1", port))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        hold.close()
        return False
    _held.append(hold)
    if len(_held) > _HELD:
        _held.popleft().close()
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
