"""The questions that ``doctor`` asks: of the environment, of Redis, RabbitMQ and the router.

None changes anything, and none takes Redis more than a few milliseconds.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from api_contracts.client import servers
from api_contracts.client.brokers import BrokerAway, is_amqp, open_async_bells
from api_contracts.client.connection import Address, connection_options
from api_contracts.client.links import AsyncCluster
from api_contracts.errors import ErrorCode, StoreUnavailable
from api_contracts.names import Keys, Queue, State
from worker.cli.doctor.server import Server
from worker.cli.doctor.setup import SecretFile
from worker.cli.doctor.upstream import PROBE_PATH
from worker.credentials import Credentials, faults
from worker.environment import InvalidSettings, load, secret_files, secrets
from worker.errors import AttemptFailed, Failure
from worker.protocols.base import Call
from worker.router import Router
from worker.settings import Settings, variable
from worker.store import Store, rights
from worker.store.link import TIMEOUT_S, connect
from worker.store.rights import Tried
from worker.store.view import TASK_FIELDS, Mark, Reading, View

#: Longest wait for the router, in seconds.
ROUTER_S: Final = 5.0
#: Longest wait for a server of a cluster to tell of the others, in seconds.
REDIS_S: Final = 5.0
#: Calls to the router at once: a folder may hold hundreds of keys.
CALLS: Final = 8
#: Round trips to Redis of which the quickest counts: the others may have met a busy machine.
TRIPS: Final = 5
#: Tasks whose keys and signatures are looked at, of those that are open.
MARKS: Final = 100
#: Stands for the key where none is set: a header must have a value.
NO_KEY: Final = "none"

_STATE: Final = TASK_FIELDS.index("state")
_OPEN: Final = frozenset(state.encode() for state in State if not state.ended)


@dataclass(frozen=True, slots=True)
class Fleet:
    """What was read of workers and tasks, and how open tasks and dead letters are protected."""

    reading: Reading
    tasks: list[Mark]
    letters: list[Mark]


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


def read_files(folder: Path | None, keys: Iterable[str]) -> tuple[SecretFile, ...]:
    """Look who may read the files with secrets: those that variables name, and these keys'."""
    named = [*secret_files().items()]
    if folder is not None:
        named += [(variable("credentials_dir"), folder / name) for name in keys]
    return tuple(file for one in named if (file := _secret_file(*one)) is not None)


def _secret_file(named_by: str, path: Path) -> SecretFile | None:
    """Look at a file; one that cannot be read is told of elsewhere."""
    try:
        fixed = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
        return SecretFile(named_by, path, path.stat().st_mode & 0o777, fixed)
    except OSError:
        return None


async def ask_redis(url: str) -> Server:
    """Ask a Redis for its INFO, its clock and the depth of the queues, as far as it tells."""
    redis = connect(url)
    try:
        await redis.ping()
        trips = [await _trip_s(redis.ping()) for _ in range(TRIPS)]
        before = time.time()
        moment = await _told(redis.time())
        here = (before + time.time()) / 2
        depths = {str(queue): await _told(redis.llen(queue)) for queue in Queue}
        info = await _told(redis.info())
    except Store.errors as error:
        return Server(unreachable=str(error) or type(error).__name__)
    finally:
        await redis.aclose()
    return Server(
        info={} if isinstance(info, Exception) else info,
        skew_s=None if isinstance(moment, Exception) else here - _seconds(*moment),
        trip_s=min(trips),
        depths={name: depth for name, depth in depths.items() if isinstance(depth, int)},
        unreadable=str(info) if isinstance(info, Exception) else "",
    )


async def ask_broker(url: str) -> Server:
    """Ask the server of the queues where it is not that of the records."""
    if not is_amqp(url):
        return await ask_redis(url)
    bells = open_async_bells(url, TIMEOUT_S)
    try:
        return Server(depths={str(queue): await bells.waiting(queue) for queue in Queue})
    except BrokerAway as error:
        return Server(unreachable=str(error))
    finally:
        await bells.aclose()


async def ask_cluster(url: str) -> tuple[dict[str, Server], int]:
    """Ask the masters of a cluster, by their URLs; and tell how many slots have one.

    Where nobody tells of them, why that is stands under the cluster's own URL.
    """
    named = servers.Server.parse(url)
    cluster = AsyncCluster(named, **connection_options(REDIS_S))
    try:
        await cluster.refresh()
    except Store.errors as error:
        return {url: Server(unreachable=str(error) or type(error).__name__)}, 0
    finally:
        await cluster.aclose()
    urls = [named.url_of(*place) for place in cluster.routes.places]
    told = await asyncio.gather(*map(ask_redis, urls))
    slots = sum(owner is not None for owner in cluster.routes.owners)
    return dict(zip(urls, told, strict=True)), slots


async def try_rights(urls: Sequence[str], broker_url: str, keys: Keys) -> Tried:
    """Find out what a worker does that the users of these URLs may not.

    Those of the records are several where they are a cluster's: each of them knows its users.
    """
    work = {url: rights.of_records(keys) for url in urls}
    if not is_amqp(broker_url):
        work[broker_url] = [*work.get(broker_url, ()), *rights.of_queues()]
    try:
        found = [await rights.tried(url, commands) for url, commands in work.items()]
    except Store.errors as error:
        return Tried(untried=str(error) or type(error).__name__)
    return Tried(
        refused=tuple(dict.fromkeys(name for one in found for name in one.refused)),
        unknown=tuple(dict.fromkeys(name for one in found for name in one.unknown)),
        untried=next((one.untried for one in found if one.untried), ""),
    )


async def read_fleet(url: str, broker_url: str, keys: Keys) -> Fleet | str:
    """Read what ``top`` shows, and how tasks are protected; or say why that cannot be had."""
    view = View(Address(url, broker_url, keys))
    try:
        reading = await view.read()
        ids = [one for one, fields in reading.tasks.items() if fields[_STATE] in _OPEN]
        tasks = await view.marks(ids[:MARKS])
        letters = await view.marks(letter.id for letter in reading.letters)
    except StoreUnavailable as error:
        return str(error.__cause__ or error)
    finally:
        await view.close()
    return Fleet(reading, tasks, letters)


async def ask_router(settings: Settings) -> int | Failure:
    """Send the router a harmless GET: the status of its answer, or why there was none."""
    return (await _asked(settings, [None]))[None]


async def try_keys(settings: Settings, names: Iterable[str]) -> dict[str, int | Failure]:
    """Send the same with each of these keys, which tasks may name."""
    answers = await _asked(settings, names)
    return {name: answer for name, answer in answers.items() if name is not None}


async def _asked(
    settings: Settings, names: Iterable[str | None]
) -> dict[str | None, int | Failure]:
    """Ask the router once with each of these keys; None is the own one."""
    own = settings.api_key.get_secret_value()
    credentials = Credentials(own, settings.credentials_dir)
    router = Router(settings.base_url, credentials, settings.connect_s)
    turn = asyncio.Semaphore(CALLS)

    async def ask(name: str | None) -> int | Failure:
        async with turn:
            return await _answer(router, name)

    names = list(names)
    try:
        answers = await asyncio.gather(*map(ask, names))
    finally:
        await router.close()
    return dict(zip(names, answers, strict=True))


async def _answer(router: Router, name: str | None) -> int | Failure:
    call = Call("GET", PROBE_PATH, {"accept": "application/json"}, b"", stream=False)
    try:
        async with asyncio.timeout(ROUTER_S), router.send(router.authorized(call, name)) as answer:
            return answer.status
    except AttemptFailed as error:
        return error.failure
    except TimeoutError:
        return Failure(ErrorCode.TIMEOUT, f"no answer within {ROUTER_S:g} s")


async def _told(asked: Any) -> Any:
    """Wait for an answer; an error is one as well: others may be answered all the same."""
    try:
        return await asked
    except Store.errors as error:
        return error


async def _trip_s(asked: Any) -> float:
    began = time.perf_counter()
    await asked
    return time.perf_counter() - began


def _seconds(seconds: int, microseconds: int) -> float:
    return seconds + microseconds / 1_000_000
