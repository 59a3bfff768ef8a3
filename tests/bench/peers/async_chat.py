"""What an asynchronous task does, as people write it: httpx, and one PUBLISH for each chunk.

One client for all tasks, as httpx's documentation has it. (A client for each call was measured
too: the same for streams, a third more CPU for short calls, two fifths less for 320 slow ones.)
"""

import logging
from typing import Any

import httpx
from redis.asyncio import Redis

from tests.bench.work import REDIS_OPTIONS, REDIS_URL, TIMEOUT_S, URL, setting

# A line for each call is not its task.
logging.getLogger("httpx").setLevel(logging.WARNING)


class Caller:
    """The clients that all tasks of a process share."""

    def __init__(self) -> None:
        """Make them; call from the loop that will use them."""
        limits = httpx.Limits(max_connections=None)
        self.http = httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits)
        self.redis = Redis.from_url(setting(REDIS_URL), **REDIS_OPTIONS)
        self._url = setting(URL)

    async def chat(self, channel: str, body: dict[str, Any]) -> None:
        """Call the router; publish each chunk as it comes, or the answer."""
        if not body.get("stream"):
            answer = (await self.http.post(self._url, json=body)).raise_for_status()
            await self.redis.publish(channel, answer.content)
            return
        async with self.http.stream("POST", self._url, json=body) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    await self.redis.publish(channel, line[6:])
