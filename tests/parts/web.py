"""HTTP to what runs on this machine, whatever proxy the environment names."""

import json
import socket
import urllib.error
import urllib.request
from typing import Any

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    """Let the kernel name a TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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
