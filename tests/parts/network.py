"""The real network is off: this process may reach itself and its neighbours on loopback only.

An audit hook sees every connect, whichever library makes it (uvloop's own excepted: it opens its
sockets in C). It cannot be taken out again, which is what a test suite wants.
"""

import ipaddress
import sys
from typing import Any

_REACHES = frozenset({"socket.connect", "socket.sendto"})
_LOOKS_UP = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})


class NetworkOff(RuntimeError):
    """A test tried to leave the machine. No OSError: nobody shall retry it or swallow it."""


def switch_off() -> None:
    """Refuse, from now on, every connection and name look-up but those of this machine."""
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _REACHES:
        address = arguments[1]
        if isinstance(address, tuple) and isinstance(address[0], str | bytes):
            _check(address[0], numbers=False)
    elif event in _LOOKS_UP:
        _check(arguments[0], numbers=True)


def _check(host: str | bytes | None, *, numbers: bool) -> None:
    """Let loopback pass, and where only a look-up is asked for, every numeric address."""
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return
    try:
        address = ipaddress.ip_address(str(name).partition("%")[0])
    except ValueError:
        address = None
    if address is not None and (numbers or address.is_loopback):
        return
    message = f"a test tried to reach {name}; tests stay on this machine"
    raise NetworkOff(message)
