"""How a command ends: the exit statuses in one table, which the help prints and scripts rely on."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import click


class Exit(IntEnum):
    """What a command's end means to a script."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NO_REDIS = 4
    TIMED_OUT = 5
    INTERRUPTED = 130


#: 2 is click's own for a wrong command line; 130 is what shells make of Ctrl-C (128 + SIGINT).
MEANINGS: Final[dict[Exit, str]] = {
    Exit.OK: "all went well",
    Exit.FAILED: "the task failed, was cancelled, expired or was over; doctor found a fault",
    Exit.USAGE: "wrong command line, settings or task",
    Exit.NOT_FOUND: "no such task, or its log no longer holds what follows --after",
    Exit.NO_REDIS: "Redis cannot be used",
    Exit.TIMED_OUT: "the task had not ended within --timeout; it goes on",
    Exit.INTERRUPTED: "Ctrl-C; a task that was enqueued goes on",
}


class Stopped(click.ClickException):
    """A command cannot go on; the message says why and what to do."""

    def __init__(self, message: str, status: Exit) -> None:
        """Keep the status for the process's end."""
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc] # click reads it off the instance


class Interrupted(click.ClickException):
    """Somebody pressed Ctrl-C; the message says what goes on without them."""

    exit_code = Exit.INTERRUPTED

    def show(self, file: Any = None) -> None:
        """Write the message as it is: this is no error."""
        click.echo(self.message, file=file, err=True)
