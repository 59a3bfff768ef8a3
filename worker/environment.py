"""The settings as the environment has them, or one error that names every mistake in it."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from api_contracts.client.secret import FILE, secret_of
from worker.settings import PREFIX, SECRETS, Settings, variable

#: Most characters of a wrong value that an error repeats.
_SHOWN: Final = 60
#: Fields whose value no error repeats: secrets, and an address that may hold one.
_HIDDEN: Final = frozenset({*SECRETS, "base_url"})
#: Where spans go, of all signals and of traces: a collector.
_COLLECTOR: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
#: Kubernetes sets these in every pod beside a Service called ``router-worker…``; the last has an
#: address as its value, ``tcp://10.0.0.1:9464``.
_KUBERNETES: Final = re.compile(
    r"ROUTER_WORKER(_\w+)?_"
    r"(SERVICE_HOST=.*|SERVICE_PORT(_\w+)?=.*|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?=.*|PORT=\w+://.*)"
)


class InvalidSettings(Exception):
    """The environment cannot be worked with; the message has one line for each mistake."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        """Put the lines under a heading that says what to do."""
        self.mistakes = tuple(mistakes)
        super().__init__(
            "\n  ".join(("correct these environment variables and start again:", *self.mistakes))
        )


def load() -> Settings:
    """Read the environment; InvalidSettings names every variable that is wrong, and why.

    A variable ``ROUTER_WORKER_…`` that nobody knows is refused: it is most often a typing error,
    and would otherwise be a default that goes unnoticed.
    """
    unknown = [_unknown(name) for name in sorted(os.environ) if _is_unknown(name)]
    try:
        settings = Settings(**secrets())
    except ValidationError as error:
        raise InvalidSettings([*_mistakes(error), *unknown]) from None
    mistakes = [*_exposed(settings.credentials_dir), *unknown]
    if mistakes:
        raise InvalidSettings(mistakes)
    return settings


def secrets() -> dict[str, Any]:
    """Read the secrets, from variables or files, as arguments of ``Settings``.

    Where one cannot be had, the ValueError that says why takes its place: Settings raises it among
    its other mistakes.
    """
    environment = _environment()
    found: dict[str, str | ValueError | None] = {}
    for field in SECRETS:
        name = variable(field)
        argument = field if Settings.model_fields[field].validation_alias is None else name
        try:
            found[argument] = secret_of(name, environment)
        except ValueError as error:
            found[argument] = error
    return {argument: secret for argument, secret in found.items() if secret is not None}


def _exposed(folder: Path | None) -> Iterator[str]:
    """Name the secrets that lie among the credentials, where tasks could name them for keys."""
    for name, path in secret_files().items():
        if folder is None or name == variable("api_key") + FILE:
            continue
        if path.absolute().parent.resolve() == folder.resolve():
            yield (
                f"{variable('credentials_dir')} ({folder}) must hold keys for the router alone, "
                f"since tasks choose among its files; move that of {name} ({path}) elsewhere"
            )


def secret_files() -> dict[str, Path]:
    """Return the files that hold secrets, by the variable that names each."""
    environment = _environment()
    names = [variable(field) + FILE for field in SECRETS]
    return {name: Path(path) for name in names if (path := environment.get(name))}


def _environment() -> dict[str, str]:
    """Return the environment by upper-case names: settings are read without regard to case."""
    return {name.upper(): value for name, value in os.environ.items()}


def traced() -> bool:
    """Tell whether traces are wanted, by the variables that OpenTelemetry has for that.

    Its SDK reads all others, and says of itself what is wrong with them.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = os.environ.get("OTEL_TRACES_EXPORTER", "").lower().split(",")
    if exporters != [""]:
        return "otlp" in map(str.strip, exporters)
    return any(map(os.environ.get, _COLLECTOR))


def _fields() -> dict[str, str]:
    """Return each variable's field."""
    return {variable(field): field for field in Settings.model_fields}


def _known() -> list[str]:
    """Return the names of all variables that are read."""
    return [*_fields(), *(variable(field) + FILE for field in SECRETS)]


def _is_unknown(name: str) -> bool:
    ours = name.upper().startswith(PREFIX) and name.upper() not in _known()
    return ours and not _KUBERNETES.fullmatch(f"{name}={os.environ[name]}")


def _unknown(name: str) -> str:
    """Name the variable that was probably meant: the same under another prefix, or the nearest."""
    word, known = name.upper().removeprefix(PREFIX), _known()
    same = [other for other in known if other == word or other.endswith(f"_{word}")]
    near = same or difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.0)
    return f"{name} is not known; was {near[0]} meant? If not, unset it"


def _mistakes(error: ValidationError) -> Iterator[str]:
    """Say each of pydantic's errors in our words, one a variable, without what is secret."""
    said = set()
    for found in error.errors(include_url=False):
        name = str(found["loc"][0]) if found["loc"] else ""
        field = _fields().get(name, name)
        if field in said or found["type"] == "default_factory_not_called":
            continue  # it follows from a mistake that has its line
        said.add(field)
        message = found["msg"].removeprefix("Value error, ")
        if not field:
            yield from message.splitlines()
        elif found["type"] == "missing":
            yield f"{variable(field)} is not set, and has no default"
        else:
            yield f"{variable(field)} {_complaint(field, message, found['input'])}"


def _complaint(field: str, message: str, value: object) -> str:
    """Say what is wrong with a value, and repeat it where that gives nothing away."""
    message = message.replace("Input should", "must").partition(", unable")[0]
    if field in _HIDDEN:
        return message
    return f"is {str(value)[:_SHOWN]!r}, but {message}"
