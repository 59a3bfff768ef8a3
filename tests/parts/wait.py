"""Waiting for a condition, never for a time."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds between two looks. Short against what is waited for, long against a look.
_POLL_S = 0.02


def until(look: Callable[[], T], what: str, *, within: float = 10.0) -> T:
    """Call ``look`` until it returns something true, and return that.

    AssertionError, naming ``what`` and the last thing seen, after ``within`` seconds.
    """
    deadline = time.monotonic() + within
    while True:
        # Before the look: what has come while this process stood still is seen.
        last = time.monotonic() > deadline
        seen = look()
        if seen:
            return seen
        if last:
            message = f"{what}: not within {within:g} s; last seen: {seen!r}"
            raise AssertionError(message)
        time.sleep(_POLL_S)


async def until_async(look: Callable[[], T], what: str, *, within: float = 10.0) -> T:
    """As :func:`until`, while the event loop goes on."""
    return await asyncio.to_thread(until, look, what, within=within)
