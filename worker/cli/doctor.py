"""``doctor``: whatever would keep a worker from its work, each with its remedy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

import click

from worker.cli import checks, parameters
from worker.cli.checks import Finding
from worker.cli.exits import Exit
from worker.cli.probes import NO_KEY, ask_redis, ask_router, read_keys, read_settings
from worker.cli.terminal import Screen, one_line
from worker.settings import Settings

#: How a finding begins, by its ``ok``.
_MARKS: Final = {True: "ok", False: "WRONG", None: "?"}


@click.command()
@parameters.as_json
def doctor(*, as_json: bool) -> None:
    """Check settings, Redis and router, before a worker runs.

    Each line is ok, or says what to do; ? is what cannot be read from here. The router is asked
    for its list of models, which costs nothing.
    """
    settings, mistakes = read_settings()
    findings = [*checks.check_settings(mistakes)]
    if settings is not None and (folder := settings.credentials_dir) is not None:
        findings += checks.check_credentials(folder, read_keys(folder))
    if settings is not None:
        findings += asyncio.run(_examine(settings))
    screen = Screen()
    for finding in findings:
        screen.line(json.dumps(asdict(finding)) if as_json else "\n".join(_lines(finding)))
    if any(finding.ok is False for finding in findings):
        raise SystemExit(Exit.FAILED)


async def _examine(settings: Settings) -> list[Finding]:
    """Ask everybody at once."""
    url = settings.redis_url.get_secret_value()
    broker_url = settings.broker_url.get_secret_value()
    same = url == broker_url
    urls = (url,) if same else (url, broker_url)
    router = asyncio.create_task(ask_router(settings))
    servers = await asyncio.gather(*(ask_redis(one) for one in urls))
    key_set = settings.api_key.get_secret_value() != NO_KEY
    return [
        *checks.check_records(url, servers[0]),
        *checks.check_broker(broker_url, servers[-1], same=same),
        checks.check_router(settings.base_url, await router, key_set=key_set),
    ]


def _lines(finding: Finding) -> Iterator[str]:
    yield f"{_MARKS[finding.ok]:<6} {finding.check:<12} {one_line(finding.says)}"
    if finding.do:
        yield f"{'':<6} {'':<12} -> {one_line(finding.do)}"
