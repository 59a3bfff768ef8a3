"""The questions that ``doctor`` asks over HTTP, but for the router's: each changes nothing."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from worker.cli.doctor.watching import (
    UP,
    VERSIONS,
    Page,
    Watcher,
    read_rules,
    read_samples,
)

#: Longest wait for an answer, in seconds.
ANSWER_S: Final = 5.0
#: Longest answer that is read, in bytes: the rules of a Prometheus that has thousands.
LIMIT: Final = 16 * 1024 * 1024
#: Longest try to export nothing, in seconds: a collector that is there answers at once.
EXPORT_S: Final = 2.0

#: Where somebody connects who is on the same machine, by the address that a port was opened on.
_HERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # nosec B104 # noqa: S104 - nothing is opened


def port_place(host: str, port: int) -> str:
    """Name where a worker with these settings listens, as seen from its machine."""
    return _written(_HERE.get(host, host), port)


async def ask_port(place: str) -> Page | str | None:
    """Ask for ``/readyz``: the answer, None where nobody listens, else why there is none."""
    try:
        async with _session() as session:
            return await _get(session, f"http://{place}/readyz")
    except aiohttp.ClientConnectorError:
        return None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return _why(error)


async def ask_prometheus(url: str) -> Watcher:
    """Ask a Prometheus which workers it scrapes, for their versions, and for its rules."""
    parts = urlsplit(url)
    place, api = _written(parts.hostname or "", parts.port), f"{url.rstrip('/')}/api/v1"
    try:
        async with _session() as session:
            up = read_samples(await _get(session, f"{api}/query", query=UP))
            versions = read_samples(await _get(session, f"{api}/query", query=VERSIONS))
            rules = read_rules(await _get(session, f"{api}/rules", type="alert"))
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Watcher(place, unreachable=_why(error))
    return Watcher(
        place,
        up={one.metric.get("instance", "?"): one.value[1] == "1" for one in up},
        versions=[one.metric.get("version", "?") for one in versions],
        rules=rules,
    )


async def ask_collector() -> str | None:
    """Export nothing to where traces go, as workers do; say what went wrong, None where it went."""
    try:
        from worker.tracing import try_export  # noqa: PLC0415 - an extra, which need not be there
    except ImportError as error:
        return f"there is no {error.name}; pip install 'router-worker[otel]'"
    try:
        return await asyncio.to_thread(try_export, EXPORT_S)
    except ValueError as error:
        return f"OpenTelemetry cannot read its variables ({type(error).__name__})"


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=ANSWER_S), cookie_jar=aiohttp.DummyCookieJar()
    )


async def _get(session: aiohttp.ClientSession, url: str, **query: str) -> Page:
    """GET a page; ValueError where it is too long."""
    body = bytearray()
    async with session.get(url, params=query, allow_redirects=False) as answer:
        async for piece in answer.content.iter_any():
            body += piece
            if len(body) > LIMIT:
                message = f"its answer has more than {LIMIT} bytes"
                raise ValueError(message)
        return Page(answer.status, answer.headers.get("server", ""), bytes(body))


def _why(error: Exception) -> str:
    """Say why there is no answer; an error that names a URL is known by its class alone."""
    if isinstance(error, TimeoutError):
        return f"no answer within {ANSWER_S:g} s"
    if isinstance(error, aiohttp.InvalidURL):
        return "its URL cannot be read"
    return str(error) or type(error).__name__


def _written(host: str, port: int | None) -> str:
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"
