"""``watch``, ``result`` and ``status``: what has become of a task. They change nothing."""

from __future__ import annotations

import asyncio
import time

import click

from worker.cli import parameters, words
from worker.cli.answers import readable
from worker.cli.failures import Command, connected
from worker.cli.follow import Follower
from worker.cli.terminal import Screen


@click.command(cls=Command)
@parameters.task_id
@click.option(
    "--after",
    callback=parameters.after,
    metavar="EVENT",
    help="Begin behind this event, such as 1-17, instead of at the first.",
)
@parameters.timeout
@parameters.as_json
def watch(*, task_id: str, after: str | None, timeout_s: float | None, as_json: bool) -> None:
    """Follow a task to its end.

    Its text is written while it comes. Ctrl-C ends the watching, not the task.
    """
    follower = Follower(as_json=as_json, timeout_s=timeout_s)

    async def work() -> None:
        async with connected() as client:
            await follower.follow(client, task_id, after)

    follower.run(work())


@click.command(cls=Command)
@parameters.task_id
@parameters.timeout
@parameters.as_json
def result(*, task_id: str, timeout_s: float | None, as_json: bool) -> None:
    """Wait for a task's result, and write it.

    With --timeout 0, only look whether there is one.
    """
    follower = Follower(as_json=as_json, timeout_s=None)

    async def fetch() -> None:
        async with connected() as client:
            follower.expect(task_id)
            found = await client.result(task_id, timeout_s)
        screen = Screen()
        if as_json:
            screen.line(found.model_dump_json(exclude_unset=True))
            return
        screen.write(readable(found.response))
        screen.end_line()
        screen.note(words.summary(found))

    follower.run(fetch())


@click.command(cls=Command)
@parameters.task_id
@parameters.as_json
def status(*, task_id: str, as_json: bool) -> None:
    """Say how a task stands."""

    async def ask() -> None:
        async with connected() as client:
            found = await client.status(task_id)
        screen = Screen()
        if as_json:
            screen.line(found.model_dump_json(exclude_unset=True))
            return
        for name, said in words.report(found, int(time.time() * 1000)):
            screen.line(f"{name:<8} {said}")

    asyncio.run(ask())
