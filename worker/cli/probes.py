"""The questions that ``doctor`` asks: of the environment, of Redis and of the router."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from api_contracts.errors import ErrorCode
from api_contracts.names import Queue
from worker.cli.checks import PROBE_PATH, Server
from worker.credentials import Credentials, faults
from worker.environment import InvalidSettings, load, secrets
from worker.errors import AttemptFailed, Failure
from worker.protocols.base import Call
from worker.router import Router
from worker.settings import Settings, variable
from worker.store import Store
from worker.store.link import connect

#: Longest wait for the router, in seconds.
ROUTER_S: Final = 5.0
#: Stands for the key where none is set: a header must have a value.
NO_KEY: Final = "none"


def read_settings() -> tuple[Settings | None, tuple[str, ...]]:
    """Read the environment: the settings as far as they can be used, and what is wrong.

    A missing key, and a variable that nobody knows, leave the others usable.
    """
    try:
        return load(), ()
    except InvalidSettings as error:
        mistakes = error.mistakes
    without_key: dict[str, Any] = {variable("api_key"): SecretStr(NO_KEY)}
    for given in ({}, without_key):
        try:
            return Settings(**(secrets() | given)), mistakes
        except ValidationError:
            continue
    return None, mistakes


def read_keys(folder: Path) -> dict[str, str] | str:
    """Look through the keys that tasks may name: what is wrong with each, or with the folder."""
    try:
        return faults(folder)
    except OSError as error:
        return error.strerror or type(error).__name__


async def ask_redis(url: str) -> Server:
    """Ask a Redis for its INFO, its clock and the depth of the queues."""
    redis = connect(url)
    try:
        before = time.time()
        seconds, microseconds = await redis.time()
        skew_s = (before + time.time()) / 2 - (seconds + microseconds / 1_000_000)
        depths = {str(queue): await redis.llen(queue) for queue in Queue}
        try:
            info, unreadable = await redis.info(), ""
        except Store.errors as error:  # a managed server may refuse INFO
            info, unreadable = {}, str(error)
    except Store.errors as error:
        return Server(unreachable=str(error) or type(error).__name__)
    finally:
        await redis.aclose()
    return Server(info, skew_s, depths, unreadable=unreadable)


async def ask_router(settings: Settings) -> int | Failure:
    """Send the router a harmless GET: the status of its answer, or why there was none."""
    credentials = Credentials(settings.api_key.get_secret_value(), folder=None)
    router = Router(settings.base_url, credentials, settings.connect_s)
    call = router.authorized(
        Call("GET", PROBE_PATH, {"accept": "application/json"}, b"", stream=False)
    )
    try:
        async with asyncio.timeout(ROUTER_S), router.send(call) as answer:
            return answer.status
    except AttemptFailed as error:
        return error.failure
    except TimeoutError:
        return Failure(ErrorCode.TIMEOUT, f"no answer within {ROUTER_S:g} s")
    finally:
        await router.close()
