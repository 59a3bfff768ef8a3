"""All that a Redis holds, as one text: what is nowhere in it is in no record, log or message."""

from typing import Any

import redis as redis_library


def everything(redis: redis_library.Redis) -> str:
    """Return every key and value of the database, as one text."""
    dump: list[Any] = []
    for key in redis.scan_iter():
        kind = redis.type(key)
        dump.append((key, kind))
        if kind == b"hash":
            dump.append(redis.hgetall(key))
        elif kind == b"stream":
            dump.append(redis.xrange(key))
        elif kind == b"zset":
            dump.append(redis.zrange(key, 0, -1))
        elif kind == b"list":
            dump.append(redis.lrange(key, 0, -1))
        elif kind == b"set":
            dump.append(redis.smembers(key))
        else:
            dump.append(redis.get(key))
    return repr(dump)
