"""Log lines: one for each change of a task's state, in UTC, for people or for collectors.

No prompt and no key has a way into one: a state change has a closed list of fields; an exception
is written as its types and places, since its words may quote a body; and lines of others that would
print either lose what they print. All loggers end in the same handler.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Literal, TextIO, TypedDict, Unpack

from api_contracts.errors import ErrorCode
from api_contracts.names import State

#: Longest text in a field, in characters: enough for every id and model.
TEXT_LIMIT: Final = 128
#: They log each call, or each doorbell; a state change says the same, and more.
_QUIET: Final = ("httpx", "httpcore", "celery.worker.strategy", "celery.app.trace")
#: Celery's receiver of messages; its templates that quote a message's body say "body".
_CONSUMER: Final = "celery.worker.consumer.consumer"
#: They write as it is what they could not make sense of: a coroutine's arguments, and a header for
#: the collector of traces, which may be its key.
_QUOTING: Final = frozenset({"asyncio", "opentelemetry.util.re"})
_HIDDEN: Final = "(not shown)"
_PLAIN: Final = re.compile(r"[\w.:/@+-]+", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_LOG: Final = logging.getLogger("worker")


class Fields(TypedDict, total=False):
    """All that a state change may say; None is left out."""

    task_id: str
    attempt: int | None
    kind: str | None
    vendor: str | None
    model: str | None
    request_id: str | None
    status: int | None
    code: ErrorCode | None
    reason: str | None
    delay_ms: int | None
    seconds: float | None


def change(state: State, **fields: Unpack[Fields]) -> None:
    """Log that a task is in this state now; a failed one is a warning."""
    level = logging.WARNING if state is State.FAILED else logging.INFO
    said = {name: value for name, value in fields.items() if value is not None}
    _LOG.log(level, state.value, extra={"fields": said})


def origin(error: BaseException) -> str:
    """Say what an exception is and where it was raised, without its words."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__qualname__}{place}"


def setup(form: Literal["console", "json"], stream: TextIO | None = None) -> None:
    """Send every log line of the process to a stream (stderr), in this form."""
    handler = _ByTurns(stream)
    handler.setFormatter(_Json() if form == "json" else _Console())
    handler.addFilter(_without_quotes)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class _ByTurns(logging.StreamHandler[TextIO]):
    """Writes the lines of one turn of an event loop together; warnings, and all others, at once.

    Each write lets go of the interpreter, Celery's thread takes it, and the loop waits to get it
    back: two lines a task, each for itself, were a sixth of a short call's CPU time (980 µs, and
    820 so). What a worker that is killed may not have written is what one turn logged.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or leave it to the end of the turn; called with the handler's lock."""
        try:
            self._lines.append(self.format(record))
            loop = _running_loop() if record.levelno < logging.WARNING else None
            if loop is None:
                self.flush()
            elif len(self._lines) == 1:
                loop.call_soon(self.flush)
        except Exception:  # noqa: BLE001 - as its base does: a line ends nobody's work
            self.handleError(record)

    def flush(self) -> None:
        """Write what has been left."""
        self.acquire()
        try:
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("\n".join((*lines, "")))
            super().flush()
        finally:
            self.release()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - inherited name
        """Say that a line could not be written, and nothing of what was to be in it."""
        error = sys.exc_info()[1]
        said = ("a line could not be written: %s", (type(error).__qualname__,))
        lost = logging.LogRecord(
            record.name, logging.ERROR, record.pathname, record.lineno, *said, exc_info=None
        )
        # That of the process may still be read where this stream no longer is.
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{self.format(lost)}\n")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _without_quotes(record: logging.LogRecord) -> bool:
    """Empty the lines of others that quote a body, a key, or the words of an exception."""
    template = str(record.msg)
    if record.name in _QUOTING or (record.name == _CONSUMER and "body" in template):
        record.msg, record.args = re.sub(r"%[rs]", _HIDDEN, template.partition("\n")[0]), None
    elif record.name == "celery.app.trace" and isinstance(record.args, Mapping):
        record.args = {**record.args, "exc": _HIDDEN}
    return True


def _fields(record: logging.LogRecord) -> dict[str, str | float]:
    fields: Mapping[str, str | float] = getattr(record, "fields", {})
    return {
        name: value[:TEXT_LIMIT] if isinstance(value, str) else value
        for name, value in fields.items()
    }


def _at(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")


def _exceptions(error: BaseException | None) -> Iterator[str]:
    """Yield the lines of a traceback, the outermost exception last, without their words."""
    if error is None:
        return
    yield from _exceptions(
        error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    )
    yield from "".join(traceback.format_tb(error.__traceback__)).splitlines()
    yield type(error).__qualname__


class _Console(logging.Formatter):
    """Write ``time level logger message key=value``, all in one line but for a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        said = [f"{name}={_value(value)}" for name, value in _fields(record).items()]
        message = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], record.getMessage().strip())
        head = (_at(record), f"{record.levelname.lower():<7}", record.name, message)
        error = record.exc_info[1] if record.exc_info else None
        return "\n  ".join((" ".join((*head, *said)), *_exceptions(error)))


def _value(value: str | float) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


class _Json(logging.Formatter):
    """Write one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": _at(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage().strip(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = "\n".join(_exceptions(record.exc_info[1]))
        return json.dumps(line)
