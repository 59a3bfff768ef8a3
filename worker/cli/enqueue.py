"""``enqueue``: tasks from a file."""

from __future__ import annotations

import json
from typing import BinaryIO

import click

from api_contracts.errors import InvalidTask
from api_contracts.requests import Task, parse_task
from worker.cli import parameters
from worker.cli.failures import Command, connected
from worker.cli.follow import Follower
from worker.cli.terminal import Screen


@click.command(cls=Command)
@click.argument("file", type=parameters.FILE)
@click.option("--wait", is_flag=True, help="Follow each task in turn, as watch does.")
@parameters.timeout
@parameters.as_json
def enqueue(*, file: BinaryIO, wait: bool, timeout_s: float | None, as_json: bool) -> None:
    """Enqueue tasks from a file, and write their ids.

    FILE has one task as a JSON object, or many, one after the other; - is standard input. All are
    checked before the first is sent.
    """
    tasks = _checked(parameters.json_objects(file))
    follower = Follower(as_json=as_json, timeout_s=timeout_s)
    screen = Screen()

    async def work() -> None:
        async with connected() as client:
            for task in tasks:
                task_id = (await client.enqueue(task)).id
                if wait:
                    follower.expect(task_id)
                else:
                    screen.line(json.dumps({"task_id": task_id}) if as_json else task_id)
            await follower.follow_all(client)

    follower.run(work())


def _checked(objects: list[dict[str, object]]) -> list[Task]:
    """Check every task; InvalidTask names the first that is wrong by its place, from 1."""
    tasks = []
    for place, task in enumerate(objects, 1):
        try:
            tasks.append(parse_task(task))
        except InvalidTask as error:
            field = f"task {place} of {len(objects)}: {error.field}"
            raise InvalidTask(field, error.reason) from None
    return tasks
