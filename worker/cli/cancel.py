"""``cancel``: end a task, wherever it stands."""

from __future__ import annotations

import asyncio
import json

import click

from api_contracts.names import State
from worker.cli import parameters
from worker.cli.exits import Exit, Stopped
from worker.cli.failures import Command, connected
from worker.cli.terminal import Screen


@click.command(cls=Command)
@parameters.task_id
@parameters.as_json
def cancel(*, task_id: str, as_json: bool) -> None:
    """Cancel a task.

    It ends at once, and its call is stopped where it runs. All is well too where it was cancelled
    before; not where it had ended otherwise.
    """

    async def ask() -> State:
        async with connected() as client:
            if await client.cancel(task_id):
                return State.CANCELLED
            return (await client.status(task_id)).state

    state = asyncio.run(ask())
    if state is not State.CANCELLED:
        message = f"task {task_id} cannot be cancelled: it is {state}"
        raise Stopped(message, Exit.FAILED)
    said = json.dumps({"task_id": task_id, "state": state})
    Screen().line(said if as_json else f"task {task_id} is cancelled")
