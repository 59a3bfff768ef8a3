"""Redis twice: a real Valkey, and fakeredis, so that one suite runs against both."""

from dataclasses import dataclass, field
from typing import Literal

import fakeredis
import redis
import redis.asyncio


@dataclass(frozen=True)
class RedisBackend:
    """One empty server; every client made from it, sync or async, sees the same data.

    Clients return bytes, as ours do. Whoever makes one closes it.
    """

    name: Literal["valkey", "fakeredis"]
    url: str = ""
    _fake: fakeredis.FakeServer = field(default_factory=fakeredis.FakeServer)

    def client(self) -> redis.Redis:
        if self.name == "fakeredis":
            return fakeredis.FakeRedis(server=self._fake)
        return redis.Redis.from_url(self.url)

    def async_client(self) -> redis.asyncio.Redis:
        if self.name == "fakeredis":
            return fakeredis.FakeAsyncRedis(server=self._fake)
        return redis.asyncio.Redis.from_url(self.url)
