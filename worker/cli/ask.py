"""``chat`` and ``native``: one task from the command line."""

from __future__ import annotations

import json
from typing import Any, BinaryIO, Final

import click

from api_contracts.client.compose import chat_task, native_task, vision_task
from api_contracts.content import image_url
from api_contracts.requests import Task
from worker.cli import parameters
from worker.cli.failures import Command, connected
from worker.cli.follow import Follower
from worker.cli.parameters import Sending
from worker.cli.terminal import Screen

#: The model of the router's own guide; it reads pictures too.
MODEL: Final = "gpt-4o"


def _images(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the URLs of pictures that are given as paths or URLs."""
    return tuple(_image(one) for one in given)


def _image(given: str) -> str:
    try:
        return image_url(given)
    except OSError as error:
        message = f"{given}: {error.strerror}"
    except ValueError as error:
        message = f"{given}: {error}"
    raise click.BadParameter(message)


@click.command(cls=Command)
@click.argument("prompt")
@click.option(
    "--image",
    "images",
    multiple=True,
    callback=_images,
    metavar="PATH",
    help="A picture to show, by path or https URL; may be repeated.",
)
@click.option("--model", default=MODEL, show_default=True, help="The model to ask.")
@click.option("--stream", is_flag=True, help="Write the answer while it comes.")
@parameters.sending
def chat(
    *, prompt: str, images: tuple[str, ...], model: str, stream: bool, sending: Sending
) -> None:
    """Ask a model, and write its answer.

    PROMPT is the question; - reads it from standard input. A stream that is restarted after a
    failure begins anew; without --stream only the final answer is written.
    """
    prompt = parameters.text(prompt)
    said: dict[str, Any] = {
        "vendor": sending.vendor,
        "headers": sending.headers,
        "options": sending.options,
    }
    if stream:
        said["stream"] = True
    if images:
        task = vision_task(model, prompt, images, **said)
    else:
        task = chat_task(model, [{"role": "user", "content": prompt}], **said)
    _send(task, sending)


@click.command(cls=Command)
@click.argument("path")
@click.option(
    "--body", type=parameters.FILE, metavar="FILE", help="The request's JSON; - is standard input."
)
@click.option("--get", is_flag=True, help="Poll with GET, without a body.")
@click.option("--stream", is_flag=True, help="Ask for a stream, and write it while it comes.")
@parameters.sending
def native(*, path: str, body: BinaryIO | None, get: bool, stream: bool, sending: Sending) -> None:
    """Call a provider in its own language.

    PATH is the path under the router's base URL, such as /v1/messages. The body goes to it as it
    is. A Gemini stream is asked for by the path itself (:streamGenerateContent).
    """
    if get is (body is not None):
        message = "give either --body FILE or --get"
        raise click.UsageError(message)
    request = None if body is None else parameters.json_object(body)
    task = native_task(
        path,
        request,
        method="GET" if get else "POST",
        vendor=sending.vendor,
        headers=sending.headers,
        options=sending.options | ({"stream": True} if stream else {}),
    )
    _send(task, sending)


def _send(task: Task, sending: Sending) -> None:
    """Enqueue a task, and follow it or write its id."""
    follower = Follower(as_json=sending.as_json, timeout_s=sending.timeout_s)

    async def work() -> None:
        async with connected() as client:
            task_id = (await client.enqueue(task)).id
            if sending.wait:
                follower.expect(task_id)
                await follower.follow(client, task_id)
            else:
                Screen().line(json.dumps({"task_id": task_id}) if sending.as_json else task_id)

    follower.run(work())
