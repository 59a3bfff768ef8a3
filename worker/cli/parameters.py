"""Arguments and options that several commands share."""

from __future__ import annotations

import functools
import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import click

from api_contracts.events import EventId

#: A function that becomes a command.
Function = Callable[..., None]

#: Reads a file, or standard input for ``-``.
FILE: Final = click.File("rb")
#: Space between two values of JSON (RFC 8259, 2).
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class Seconds(click.FloatRange):
    """A duration in seconds: neither ``inf`` nor ``nan``, which Python reads as numbers too."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read the number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no duration.", param, ctx)
        return number


as_json: Final = click.option(
    "--json", "as_json", is_flag=True, help="Write one JSON object a line, for programs."
)
timeout: Final = click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="Stop waiting after that time; the task goes on.",
)
task_id: Final = click.argument("task_id", metavar="ID")


@dataclass(frozen=True, slots=True)
class Sending:
    """How a task is to be sent, and what to do then."""

    vendor: str
    headers: dict[str, str]
    #: As the contract has them; what was not said is absent.
    options: dict[str, Any]
    wait: bool
    as_json: bool
    timeout_s: float | None


def sending(function: Function) -> Function:
    """Give a command the options for sending a task, as one argument ``sending``."""

    @functools.wraps(function)
    def command(  # noqa: PLR0913 - one argument for each option of the command line
        *,
        vendor: str,
        headers: dict[str, str],
        priority: str | None,
        tenant: str | None,
        credential: str | None,
        idempotency_key: str | None,
        deadline: int | None,
        wait: bool,
        as_json: bool,
        timeout_s: float | None,
        **others: Any,
    ) -> None:
        said = {
            "priority": priority,
            "tenant": tenant,
            "credential": credential,
            "idempotency_key": idempotency_key,
            "deadline": deadline,
        }
        options = {name: value for name, value in said.items() if value is not None}
        function(sending=Sending(vendor, headers, options, wait, as_json, timeout_s), **others)

    decorated: Function = command
    for option in reversed(_SENDING):
        decorated = option(decorated)
    return decorated


def text(argument: str) -> str:
    """Return a text from the command line, or standard input's for ``-``."""
    if argument != "-":
        return argument
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        message = f"standard input is no UTF-8 at byte {error.start}"
        raise click.UsageError(message) from None


def json_objects(file: BinaryIO) -> list[dict[str, Any]]:
    """Read the JSON objects in a file, one after the other, in one line or in many.

    BadParameter says where it is wrong, and never quotes what stands there.
    """
    try:
        found = list(_values(file.read().decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        raise _bad(file, f"no UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _bad(file, f"no JSON at {where}: {error.msg}") from None
    except (RecursionError, ValueError) as error:
        raise _bad(file, f"no JSON that can be read ({type(error).__name__})") from None
    if not found or not all(isinstance(value, dict) for value in found):
        raise _bad(file, "there must be JSON objects in it, and nothing else")
    return found


def json_object(file: BinaryIO) -> dict[str, Any]:
    """Read the one JSON object in a file."""
    found = json_objects(file)
    if len(found) > 1:
        raise _bad(file, f"there must be one JSON object in it, not {len(found)}")
    return found[0]


def _values(text: str) -> Iterator[Any]:
    """Yield the JSON values in a text, with space between them or none."""
    decoder = json.JSONDecoder()
    end = 0
    while (start := _skip_space(text, end)) < len(text):
        value, end = decoder.raw_decode(text, start)
        yield value


def _skip_space(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    return found.end() if found else start


def after(_: click.Context, __: click.Parameter, cursor: str | None) -> str | None:
    """Check an event id that was given as cursor."""
    if cursor is not None:
        try:
            EventId.parse(cursor)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    return cursor


def _bad(file: BinaryIO, reason: str) -> click.BadParameter:
    return click.BadParameter(f"{file.name}: {reason}")


def _headers(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Split ``name: value``; what a header may be is the contract's to say."""
    headers: dict[str, str] = {}
    for one in given:
        name, colon, value = one.partition(":")
        if not colon:
            message = "a header reads 'NAME: VALUE'"
            raise click.BadParameter(message)
        if name.strip() in headers:
            message = f"{name.strip()} is given twice"
            raise click.BadParameter(message)
        headers[name.strip()] = value.strip()
    return headers


def _deadline(_: click.Context, __: click.Parameter, in_s: float | None) -> int | None:
    """Turn seconds from now into unix time in milliseconds."""
    return None if in_s is None else int((time.time() + in_s) * 1000)


_SENDING: Final[tuple[Callable[[Function], Function], ...]] = (
    click.option(
        "--vendor", default="auto", show_default=True, help="Who shall answer; auto: any."
    ),
    click.option(
        "--header",
        "headers",
        multiple=True,
        callback=_headers,
        metavar="'NAME: VALUE'",
        help="An extra header for the router; may be repeated.",
    ),
    click.option(
        "--priority",
        type=click.Choice(["interactive", "batch"]),
        help="The queue to wait in; interactive where nothing is said.",
    ),
    click.option("--tenant", help="Owner of the idempotency key."),
    click.option(
        "--credential", metavar="NAME", help="Which of the workers' keys the router is called with."
    ),
    click.option(
        "--idempotency-key", metavar="KEY", help="The same key and content: the same task."
    ),
    click.option(
        "--deadline",
        type=Seconds(min=0, min_open=True),
        callback=_deadline,
        metavar="SECONDS",
        help="The task fails unless it has ended in that time.",
    ),
    click.option(
        "--no-wait",
        "wait",
        flag_value=False,
        default=True,
        help="Only write the task's id, for watch and result.",
    ),
    timeout,
    as_json,
)
