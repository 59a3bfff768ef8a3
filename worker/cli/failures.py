"""What goes wrong, in plain words and with an exit status: one table for every command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import click

from api_contracts.client import AsyncClient
from api_contracts.errors import (
    InvalidTask,
    NotOpened,
    ResultTimeout,
    RouterWorkerError,
    StoreUnavailable,
    TaskCancelled,
    TaskEnded,
    TaskExpired,
    TaskFailed,
    TaskNotFound,
)
from worker.cli.exits import Exit, Stopped
from worker.cli.terminal import one_line
from worker.cli.words import reason

#: The status for each kind of exception; a class that is not here has its parent's.
EXITS: Final[dict[type[RouterWorkerError], Exit]] = {
    InvalidTask: Exit.USAGE,
    TaskNotFound: Exit.NOT_FOUND,
    StoreUnavailable: Exit.NO_REDIS,
    NotOpened: Exit.USAGE,
    ResultTimeout: Exit.TIMED_OUT,
    TaskEnded: Exit.FAILED,
    RouterWorkerError: Exit.FAILED,
}


class Command(click.Command):
    """A command whose failures are told in words and by its exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, and translate what the client library raises."""
        try:
            return super().invoke(ctx)
        except RouterWorkerError as error:
            raise Stopped(words(error), status_of(error)) from error


def status_of(error: RouterWorkerError) -> Exit:
    """Return the exit status for an exception: of its class, or of the nearest parent's."""
    return next(EXITS[kind] for kind in type(error).__mro__ if kind in EXITS)


def words(error: RouterWorkerError) -> str:
    """Say what an exception means to somebody at a terminal."""
    match error:
        case TaskFailed():
            return f"the task failed: {reason(error.error)}"
        case TaskCancelled():
            return f"task {error} was cancelled"
        case TaskExpired():
            return f"task {error} expired: no worker started it before its expires_at"
        case ResultTimeout():
            return str(error)
        case _:
            return one_line(str(error))


@asynccontextmanager
async def connected() -> AsyncIterator[AsyncClient]:
    """Give a client of the Redis that the environment names."""
    try:
        client = AsyncClient()
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    async with client:
        yield client
