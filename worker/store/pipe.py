"""One connection on which commands go out and replies come back, many at a time.

redis-py's own pipeline packs each command in Python and awaits each reply by itself: 132 µs of CPU
time for one command, 1,050 for 50. With hiredis's packer, and all that has come parsed at once, it
is 35 and 107. redis-py still makes the connection: address, password, TLS, database, sentinels.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Final

import hiredis
from redis._parsers.base import BaseParser
from redis.asyncio import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

#: Bytes read at once.
_BLOCK: Final = 256 * 1024
#: What the reader says where no reply is whole.
_MORE: Final = object()
#: What servers before 7 put before the words with which a command in a script was refused.
_IN_SCRIPT: Final = re.compile(
    r"ERR Error running script \(call to \w+\): (@user_script: ?\d+: )+-?"
)


class Pipe:
    """A connection of a pool, for one user, who waits for his replies before he sends more."""

    def __init__(self, pool: ConnectionPool, timeout_s: float) -> None:
        """Prepare; ``timeout_s`` bounds each wait for the server."""
        self._pool = pool
        self._timeout_s = timeout_s
        self._connection: Any = None
        self._reader = self._new_reader()

    async def send(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands; return their replies, errors of single commands among them.

        Raises what redis-py does where the server cannot be reached or falls silent; the
        connection is made anew then.
        """
        try:
            connection = await self._connected()
            packed = [_packed(command) for command in commands]
            written = [one for one in packed if isinstance(one, bytes)]
            connection._writer.write(b"".join(written))  # noqa: SLF001
            replies = iter(await self._replies(connection, len(written)))
            return [next(replies) if isinstance(one, bytes) else one for one in packed]
        except TimeoutError:
            await self.disconnect()
            message = f"no answer within {self._timeout_s:g} s"
            raise RedisTimeoutError(message) from None
        except BaseException:
            await self.disconnect()
            raise

    async def disconnect(self) -> None:
        """Close the connection; the next use makes it anew."""
        if self._connection is not None:
            writer = self._connection._writer  # noqa: SLF001
            await self._connection.disconnect(nowait=True)
            if writer is not None:
                # TLS would wait for the server's farewell, and outlive a program that ends here.
                writer.transport.abort()

    async def _connected(self) -> Any:
        if self._connection is None:
            self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            self._reader = self._new_reader()
        elif not self._connection.is_connected:
            await self._connection.connect()
            self._reader = self._new_reader()
        return self._connection

    async def _replies(self, connection: Any, count: int) -> list[Any]:
        stream, reader = connection._reader, self._reader  # noqa: SLF001 - redis-py gives no name
        replies: list[Any] = []
        while len(replies) < count:
            reply = reader.gets()
            if reply is _MORE:
                async with asyncio.timeout(self._timeout_s):
                    await connection._writer.drain()  # noqa: SLF001
                    data = await stream.read(_BLOCK)
                if not data:
                    message = "Redis closed the connection"
                    raise RedisConnectionError(message)
                reader.feed(data)
            elif isinstance(reply, RedisConnectionError):
                # LOADING, for one: what follows is no better.
                raise reply
            elif not isinstance(reply, hiredis.PushNotification):
                replies.append(reply)
        return replies

    def _new_reader(self) -> hiredis.Reader:
        """Make what parses replies; nothing of another connection may be left in it."""
        return hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=read_error,
            notEnoughData=_MORE,
        )


def _packed(command: tuple[Any, ...]) -> bytes | Exception:
    """Pack a command; where it cannot be, as with half a character, that is its reply."""
    try:
        packed: bytes = hiredis.pack_command(command)
    except (TypeError, UnicodeEncodeError) as error:
        return error
    return packed


def read_error(text: str) -> Exception:
    """Make redis-py's exception of what a server refuses with, in a script as outside."""
    text = _IN_SCRIPT.sub("", text, 1)
    error: Exception = BaseParser.parse_error(text)  # type: ignore[no-untyped-call]
    return error
