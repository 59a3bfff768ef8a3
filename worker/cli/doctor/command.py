"""``doctor``: asks everybody, and writes what was found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict
from urllib.parse import urlsplit

import click

from api_contracts.client.servers import is_cluster
from api_contracts.names import Keys
from worker.cli import parameters
from worker.cli.doctor import fleet, probes, secrecy, server, setup, upstream, watching, web
from worker.cli.doctor.finding import Finding
from worker.cli.doctor.probes import NO_KEY, Fleet
from worker.cli.exits import Exit
from worker.cli.terminal import Screen, one_line
from worker.cli.top.model import overview
from worker.environment import traced
from worker.settings import Settings


def _checked(_: click.Context, __: click.Parameter, url: str | None) -> str | None:
    """Check a URL that was given; it may carry a user and a password, and is not repeated."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        readable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        readable = False
    if not readable:
        message = "it must be http://HOST:PORT or https://HOST:PORT"
        raise click.BadParameter(message)
    return url


@click.command()
@click.option(
    "--prometheus",
    metavar="URL",
    callback=_checked,
    help="Ask this Prometheus too: whether it scrapes all workers, and what its alerts say.",
)
@parameters.as_json
def doctor(*, prometheus: str | None, as_json: bool) -> None:
    """Check the whole system, before a worker runs and while some do.

    Each line is ok, an advice (it works, and may not always), or WRONG, with what to do; ? is what
    cannot be looked at from here. Nothing is changed. The router is asked for its list of models,
    which costs nothing.
    """
    settings, mistakes = probes.read_settings()
    findings = [*setup.check_settings(mistakes)]
    if settings is not None:
        findings += asyncio.run(_examine(settings, prometheus))
    screen = Screen()
    for finding in findings:
        screen.line(json.dumps(asdict(finding)) if as_json else "\n".join(_lines(finding)))
    if any(finding.ok is False for finding in findings):
        raise SystemExit(Exit.FAILED)


async def _examine(settings: Settings, prometheus: str | None) -> list[Finding]:
    """Ask everybody at once."""
    router = asyncio.create_task(_ask_router(settings))
    around = asyncio.create_task(_ask_around(settings))
    watcher = asyncio.create_task(web.ask_prometheus(prometheus)) if prometheus else None
    of_redis, living = await _ask_redis(settings)
    of_files, of_router = await router
    of_watcher = [*watching.check_prometheus(await watcher, living)] if watcher else []
    ways = setup.check_ways(settings)
    return [*of_files, *ways, *of_redis, *of_router, *await around, *of_watcher]


async def _ask_router(settings: Settings) -> tuple[list[Finding], list[Finding]]:
    """Try every key: what is to be said of their files, and of the router."""
    folder = settings.credentials_dir
    keys: dict[str, str] | str = {} if folder is None else probes.read_keys(folder)
    usable = [name for name, fault in keys.items() if not fault] if isinstance(keys, dict) else []
    own, others = await asyncio.gather(
        probes.ask_router(settings), probes.try_keys(settings, usable)
    )
    files = [*setup.check_files(probes.read_files(folder, usable))]
    if folder is not None:
        files += setup.check_credentials(folder, keys, upstream.judged(others))
    key_set = settings.api_key.get_secret_value() != NO_KEY
    return files, [upstream.check_router(settings.base_url, own, key_set=key_set)]


async def _ask_redis(settings: Settings) -> tuple[list[Finding], int | None]:
    """Ask Redis, and the broker where it is another: findings, and how many workers live."""
    url = settings.redis_url.get_secret_value()
    broker_url = settings.broker_url.get_secret_value()
    same, keys = url == broker_url, Keys(settings.prefix, sharded=is_cluster(url))
    queues = asyncio.create_task(probes.ask_broker(broker_url))
    if is_cluster(url):
        records, slots = await probes.ask_cluster(url)
        findings = [*server.check_cluster(url, records, slots)]
    else:
        records = {url: await (queues if same else probes.ask_redis(url))}
        findings = [*server.check_records(url, records[url])]
    findings += server.check_broker(broker_url, await queues, same=same)
    if any(one.unreachable for one in (*records.values(), await queues)):
        return findings, None
    findings += secrecy.check_rights(await probes.try_rights([*records], broker_url, keys))
    found = await probes.read_fleet(url, broker_url, keys)
    if isinstance(found, str):
        return [*findings, fleet.unreadable(found)], None
    seen = overview(found.reading)
    findings += _of_tasks(settings, found)
    findings += fleet.check_fleet(found.reading, seen)
    return findings, sum(worker.alive for worker in seen.workers)


def _of_tasks(settings: Settings, found: Fleet) -> Iterator[Finding]:
    """Hold keys and prices against the tasks on record."""
    known = settings.protection
    yield from secrecy.check_encryption(known.keyring, found.tasks, found.letters)
    yield from secrecy.check_signatures(known.signatures, found.tasks)
    yield from fleet.check_prices(settings.prices, found.reading)


async def _ask_around(settings: Settings) -> list[Finding]:
    """Ask the worker's port on this machine, and the collector of traces where there is one."""
    findings: list[Finding] = []
    if settings.port:
        place = web.port_place(settings.host, settings.port)
        findings.append(watching.check_port(place, await web.ask_port(place)))
    if traced():
        findings.append(watching.check_traces(await web.ask_collector()))
    return findings


def _lines(finding: Finding) -> Iterator[str]:
    yield f"{finding.mark:<6} {finding.check:<12} {one_line(finding.says)}"
    if finding.do:
        yield f"{'':<6} {'':<12} -> {one_line(finding.do)}"
