"""Calls to the router over HTTP: the only importer of httpx.

httpx's requests and answers over aiohttp's transport. Measured: 400 streams of 25 chunks/s cost
31 µs of CPU a chunk, against 170–270 µs with httpx's own (h11). Nothing here retries, follows a
redirect (the key would go with it), or keeps a cookie (one tenant's would go out with another's).
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import aiohttp
import httpx
from aiohttp.connector import Connection
from httpx_aiohttp import AiohttpTransport

from api_contracts.errors import ErrorCode
from worker.credentials import Credentials
from worker.errors import AttemptFailed, Failure
from worker.protocols.base import Call

#: Idle connections are kept this long, in seconds: below the 60 s after which common load
#: balancers close theirs, so that a request does not meet a closing connection.
KEEP_ALIVE_S: Final = 50.0
#: What may wait to be read from one connection, in bytes: as much as uvloop reads in one go. With
#: aiohttp's own 64 KiB a stream that comes faster is paused and resumed at each of these.
READ_BYTES: Final = 256 * 1024
#: URLs that are kept read; native paths are the producers' to choose.
URLS: Final = 256

#: What goes wrong below a call, first match counts; the transport wraps aiohttp's errors in
#: httpx's, not always in the right one, so the cause is asked first.
FAILURES: Final[tuple[tuple[type[BaseException], ErrorCode, str], ...]] = (
    (aiohttp.ConnectionTimeoutError, ErrorCode.TIMEOUT, "no connection to the router in time"),
    (aiohttp.ServerTimeoutError, ErrorCode.TIMEOUT, "the router did not answer in time"),
    (aiohttp.ClientConnectorDNSError, ErrorCode.CONNECTION, "the router's name is unknown"),
    (ssl.SSLError, ErrorCode.CONNECTION, "TLS with the router failed"),
    (aiohttp.ClientSSLError, ErrorCode.CONNECTION, "TLS with the router failed"),
    (aiohttp.ClientConnectorError, ErrorCode.CONNECTION, "no connection to the router"),
    (aiohttp.ServerDisconnectedError, ErrorCode.CONNECTION, "the router closed the connection"),
    (aiohttp.ClientPayloadError, ErrorCode.TRUNCATED, "the answer ended in its middle"),
    (aiohttp.ClientConnectionError, ErrorCode.CONNECTION, "the connection broke"),
    (aiohttp.ClientResponseError, ErrorCode.MALFORMED, "the answer is no HTTP"),
    (aiohttp.ClientError, ErrorCode.CONNECTION, "the call failed"),
    (httpx.TimeoutException, ErrorCode.TIMEOUT, "the router did not answer in time"),
    (httpx.DecodingError, ErrorCode.MALFORMED, "the answer's compression is broken"),
    (httpx.HTTPError, ErrorCode.CONNECTION, "the call failed"),
    (OSError, ErrorCode.CONNECTION, "the connection broke"),
)

_CUT: Final = Failure(ErrorCode.TRUNCATED, "the answer ended in its middle")


def failure_of(error: BaseException, *, in_answer: bool) -> Failure | None:
    """Name what an exception of a call means; None where it is none of the network's.

    A connection that breaks inside an answer has truncated it.
    """
    for one in (error.__cause__, error):
        for kind, code, message in FAILURES:
            if isinstance(one, kind):
                return (
                    _CUT if in_answer and code is ErrorCode.CONNECTION else Failure(code, message)
                )
    return None


@contextmanager
def _translated(*, in_answer: bool) -> Iterator[None]:
    try:
        yield
    except AttemptFailed:
        raise
    except Exception as error:
        failure = failure_of(error, in_answer=in_answer)
        if failure is None:
            raise
        raise AttemptFailed(failure) from error


class Response:
    """An answer whose head has come."""

    def __init__(self, response: httpx.Response) -> None:
        """Wrap httpx's."""
        self._response = response
        self.status = response.status_code
        #: By lower-case name.
        self.headers: Mapping[str, str] = dict(response.headers)

    @property
    def content_type(self) -> str:
        """The media type without parameters, lower-case; empty where none was sent."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @contextmanager
    def reading(self) -> Iterator[AsyncIterable[bytes]]:
        """Give the pieces of the body as they come; AttemptFailed for what the network does.

        Nothing else in the block may raise an OSError: it would be taken for the network's.
        """
        with _translated(in_answer=True):
            yield self._coded() if "content-encoding" in self.headers else self._plain()

    async def read(self, limit: int) -> bytes:
        """Return the body; AttemptFailed(too_large) where it has more bytes."""
        parts = []
        size = 0
        with self.reading() as pieces:
            async for piece in pieces:
                size += len(piece)
                if size > limit:
                    message = f"the answer has more than {limit} bytes"
                    raise AttemptFailed(Failure(ErrorCode.TOO_LARGE, message, self.status))
                parts.append(piece)
        return b"".join(parts)

    async def beginning(self, limit: int) -> bytes:
        """Return what comes of the body, ``limit`` bytes at most.

        For a refusal: its status counts, however long its body is, and wherever it is cut.
        """
        begun = bytearray()
        with suppress(AttemptFailed), self.reading() as pieces:
            async for piece in pieces:
                begun += piece
                if len(begun) >= limit:
                    break
        return bytes(begun[:limit])

    def _plain(self) -> AsyncIterable[bytes]:
        """Return the body as aiohttp reads it: 12 µs a piece, not 15 with httpx's generators."""
        # Neither of the two has a name for it.
        body: Any = self._response.stream
        pieces: AsyncIterable[bytes] = body._aiohttp_response.content.iter_any()  # noqa: SLF001
        return pieces

    def _coded(self) -> AsyncIterable[bytes]:
        """Return the body without its compression."""
        return self._response.aiter_bytes()


class Router:
    """The router under one base URL."""

    def __init__(self, base_url: str, credentials: Credentials, connect_s: float) -> None:
        """Prepare; call from the loop that will use it."""
        self._base_url = base_url.rstrip("/")
        self._credentials = credentials
        self._transport = AiohttpTransport(client=_session)
        self._headers = {
            "accept-encoding": "identity",
            "user-agent": "router-worker",
        }
        # Only the connection: how long an answer may take is the executor's to say.
        timeout = httpx.Timeout(None, connect=connect_s)
        self._extensions = {"timeout": timeout.as_dict()}
        self._url = lru_cache(URLS)(lambda path: httpx.URL(self._base_url + path))

    def authorized(self, call: Call, credential: str | None = None) -> Call:
        """Put the key of this name into a call; None is the worker's own.

        InvalidTask where there is none of that name, AttemptFailed where it cannot be used.
        """
        key = self._credentials.key(credential)
        return replace(call, headers={**call.headers, "authorization": f"Bearer {key}"})

    @asynccontextmanager
    async def send(self, call: Call) -> AsyncIterator[Response]:
        """Send a call; leaving the block closes its connection unless the answer was read.

        AttemptFailed for everything that the network does.
        """
        # httpx's client would merge URL, headers, cookies and parameters, and look for redirects,
        # cookies and authentication in the answer: 300 µs a call, against 215.
        url = self._url(call.path)
        headers = self._headers | {name.lower(): value for name, value in call.headers.items()}
        # httpx would add these two, and guess how the text is encoded: 25 µs.
        headers["host"] = url.netloc.decode()
        if call.body:
            headers["content-length"] = str(len(call.body))
        request = httpx.Request(
            call.method, url, headers=headers, content=call.body, extensions=self._extensions
        )
        request.headers.encoding = "ascii"
        with _translated(in_answer=False):
            response = await self._transport.handle_async_request(request)
        try:
            yield Response(response)
        finally:
            await response.aclose()

    def without_keys(self, failure: Failure) -> Failure:
        """Take every key out of a failure's words: some servers repeat one that they refuse."""
        return replace(
            failure,
            message=self._credentials.hidden(failure.message),
            provider_code=self.hide_keys(failure.provider_code),
            request_id=self.hide_keys(failure.request_id),
        )

    def hide_keys(self, text: str | None) -> str | None:
        """Take every key out of a text that an answer has, if it has it."""
        return text and self._credentials.hidden(text)

    @property
    def connections(self) -> dict[str, int]:
        """How many connections are used by a call, and how many are kept for the next."""
        session = self._transport.client
        if not isinstance(session, aiohttp.ClientSession) or session.connector is None:
            return {"used": 0, "idle": 0}
        connector = session.connector
        # aiohttp has no name for either.
        idle = sum(map(len, connector._conns.values()))  # noqa: SLF001
        return {"used": len(connector._acquired), "idle": idle}  # noqa: SLF001

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.aclose()


class _Answer(aiohttp.ClientResponse):
    """aiohttp's response without its reason phrase.

    That need not be UTF-8, which httpx-aiohttp makes of it, and nobody reads it.
    """

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Read the head."""
        await super().start(connection)
        self.reason = None
        return self


def _session() -> aiohttp.ClientSession:
    # As many connections as tasks: the number of tasks is bounded by the slots.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=READ_BYTES,
        response_class=_Answer,
    )  # fmt: skip
