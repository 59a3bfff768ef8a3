"""A bare httpx call: what one costs, one after the other, without a queue or a PUBLISH."""

import json

import httpx
from redis import Redis

from tests.bench.peers.limit import PLANS
from tests.bench.work import REDIS_OPTIONS, REDIS_URL, URL, setting


def main() -> None:
    """Make the calls of each plan."""
    with Redis.from_url(setting(REDIS_URL), **REDIS_OPTIONS) as redis, httpx.Client() as http:
        while plan := redis.blpop([PLANS]):
            for _, body in json.loads(plan[1]):
                http.post(setting(URL), json=body).raise_for_status()


if __name__ == "__main__":
    main()
