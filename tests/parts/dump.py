"""All that a Redis holds, for whoever looks for what must not be there or must not change."""

from typing import Any

import redis as redis_library


def everything(redis: redis_library.Redis) -> bytes:
    """Return every key and every value on the server, one behind the other.

    What ends while this looks is left out: it holds nothing any more.
    """
    return b"\n".join(part for key in redis.scan_iter() for part in (key, *_values(redis, key)))


def as_it_is(redis: redis_library.Redis) -> dict[bytes, Any]:
    """Return what every key holds, in the server's own form: equal where nothing has changed."""
    return {key: redis.dump(key) for key in redis.scan_iter(count=1000)}


def _values(redis: redis_library.Redis, key: bytes) -> list[bytes]:
    asked: Any = redis
    match asked.type(key):
        case b"hash":
            return [part for pair in asked.hgetall(key).items() for part in pair]
        case b"stream":
            entries = asked.xrange(key)
            return [part for _, fields in entries for pair in fields.items() for part in pair]
        case b"zset":
            return list(asked.zrange(key, 0, -1))
        case b"list":
            return list(asked.lrange(key, 0, -1))
        case b"set":
            return list(asked.smembers(key))
        case b"string" | b"none":  # none: gone since the scan named it
            return [asked.get(key) or b""]
        case kind:
            message = f"{key!r} is a {kind!r}: this would find nothing in it"
            raise AssertionError(message)
