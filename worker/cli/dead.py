"""``dead``: what came to nothing, for an operator to look at, to replay or to drop."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import click

from api_contracts.client import AsyncClient
from api_contracts.errors import ErrorCode, NotDead, TaskNotFound
from api_contracts.requests import CELERY_TASKS
from api_contracts.results import DeadLetter
from worker.cli import letters, parameters
from worker.cli.exits import Exit, Stopped
from worker.cli.failures import Command, connected, words
from worker.cli.parameters import Function
from worker.cli.terminal import Screen

#: Letters that are listed unless more are asked for: a screen.
LIMIT: Final = 20

_letter_id: Final = click.argument("letter_id", metavar="ID")


@click.group()
def dead() -> None:
    """List, show, replay or drop dead letters.

    A dead letter is a task that failed where it may help to try again once the cause is gone, or
    a message on a queue that was none. It is kept for a week.
    """


@dead.command("list", cls=Command)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=LIMIT,
    show_default=True,
    help="Most letters to list.",
)
@parameters.as_json
def list_(*, limit: int, as_json: bool) -> None:
    """List dead letters, the newest first."""

    async def ask() -> list[DeadLetter]:
        async with connected() as client:
            return await client.dead_letters(limit + 1)

    found, now_ms, screen = asyncio.run(ask()), _now_ms(), Screen()
    for letter in found[:limit]:
        screen.line(letter.model_dump_json() if as_json else letters.line(letter, now_ms))
    if not found:
        screen.note("there is no dead letter")
    elif len(found) > limit:
        screen.note("there are more: --limit")


@dead.command(cls=Command)
@_letter_id
@click.option(
    "--request", "body", is_flag=True, help="Write its body: the request, or the message."
)
@parameters.as_json
def show(*, letter_id: str, body: bool, as_json: bool) -> None:
    """Say all of a dead letter, but its body.

    With --request its body is written instead; with --json as well.
    """

    async def ask() -> tuple[DeadLetter, str]:
        async with connected() as client:
            letter = await client.dead_letter(letter_id)
            kept = await client.dead_letter_body(letter_id) if body else b""
            return letter, kept.decode(errors="replace")

    letter, text = asyncio.run(ask())
    screen = Screen()
    if as_json:
        said = letter.model_dump(mode="json") | ({"body": text} if body else {})
        screen.line(json.dumps(said))
    elif body:
        screen.line(text)
    else:
        for line in letters.report(letter, _now_ms()):
            screen.line(line)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Which letters are meant, and how to go about it."""

    ids: tuple[str, ...]
    code: str | None
    ask_first: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class _Deed:
    """What is done to each letter that was chosen."""

    verb: str
    done: str
    act: Callable[[AsyncClient, str], Awaitable[None]]
    #: Kinds that ``--all`` means; None for all.
    kinds: frozenset[str] | None = None


def _choosing(function: Function) -> Function:
    """Give a command the arguments that choose letters, as one argument ``chosen``."""

    @click.argument("ids", metavar="[ID]...", nargs=-1)
    @click.option("--all", "everything", is_flag=True, help="Mean all of them.")
    @click.option(
        "--code",
        type=click.Choice([code.value for code in ErrorCode]),
        metavar="CODE",
        help="With --all: mean those that died of this error.",
    )
    @click.option("--yes", is_flag=True, help="With --all: do not ask first.")
    @parameters.as_json
    @functools.wraps(function)
    def command(
        *, ids: tuple[str, ...], everything: bool, code: str | None, yes: bool, as_json: bool
    ) -> None:
        if everything is bool(ids):
            message = "give either IDs or --all"
            raise click.UsageError(message)
        if (code or yes) and not everything:
            message = "--code and --yes go with --all"
            raise click.UsageError(message)
        function(chosen=_Chosen(ids, code, ask_first=not yes, as_json=as_json))

    return command


@dead.command(cls=Command)
@_choosing
def replay(*, chosen: _Chosen) -> None:
    """Queue dead letters again, each under its own id.

    They get their retries anew and no deadline; what was stays in their history. --all means
    tasks: a message that was none cannot be replayed.
    """
    _deal(_Deed("replay", "replayed", AsyncClient.replay, frozenset(CELERY_TASKS)), chosen)


@dead.command(cls=Command)
@_choosing
def drop(*, chosen: _Chosen) -> None:
    """Let go of dead letters, for good.

    The request is deleted; how the task ended can be seen for as long as any other's ending.
    """
    _deal(_Deed("drop", "dropped", AsyncClient.drop), chosen)


def _deal(deed: _Deed, chosen: _Chosen) -> None:
    """Do it to each letter; Stopped at the end where that could not be done to some."""
    ids = chosen.ids or asyncio.run(_find(deed, chosen.code))
    if not chosen.ids and chosen.ask_first and ids:
        _ask(deed, len(ids))
    failed = asyncio.run(_act(deed, ids, as_json=chosen.as_json))
    if not ids:
        Screen().note(f"there is nothing to {deed.verb}")
    if failed:
        message = f"{failed} of {len(ids)} dead letters could not be {deed.done}"
        raise Stopped(message, Exit.FAILED)


async def _find(deed: _Deed, code: str | None) -> tuple[str, ...]:
    """Return the ids of all letters that are meant, the newest first."""
    found: list[str] = []
    last = None
    async with connected() as client:
        while page := await client.dead_letters(before=last):
            last = page[-1]
            found += [
                letter.id
                for letter in page
                if deed.kinds is None or letter.kind in deed.kinds
                if code is None or (letter.error is not None and letter.error.code == code)
            ]
    return tuple(found)


async def _act(deed: _Deed, ids: tuple[str, ...], *, as_json: bool) -> int:
    """Do it to one after the other; return how many it could not be done to."""
    screen, failed = Screen(), 0
    async with connected() as client:
        for letter_id in ids:
            try:
                await deed.act(client, letter_id)
            except (NotDead, TaskNotFound) as error:
                if len(ids) == 1:
                    raise
                screen.note(words(error))
                failed += 1
            else:
                screen.line(json.dumps({"task_id": letter_id}) if as_json else letter_id)
    return failed


def _ask(deed: _Deed, count: int) -> None:
    """Ask whether to go on; Stopped where the answer is no, or nobody is there to answer."""
    letters_ = "dead letter" if count == 1 else "dead letters"
    try:
        agreed = click.confirm(f"{deed.verb.capitalize()} {count} {letters_}?", err=True)
    except click.Abort:
        agreed = False
        click.echo(err=True)
    if not agreed:
        message = f"nothing was {deed.done}; --yes goes on without asking"
        raise Stopped(message, Exit.FAILED)


def _now_ms() -> int:
    return int(time.time() * 1000)
