"""Secrets: in a variable, or in a file that another variable names.

Where ``X`` is a secret, ``X_FILE`` may be set instead, to the path of a file that holds it. So the
secrets of Docker and Kubernetes come, and systemd's credentials; and an environment is seen by more
than one would like: by child processes, ``docker inspect``, and whoever writes down a crash.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

#: Ends the name of a variable that has a file's path in place of the secret.
FILE: Final = "_FILE"
#: Largest file, in bytes. A key travels in a header, of which servers take 8 KiB: a file that is
#: larger than twice that is another one than was meant.
LIMIT: Final = 16_384


def secret_of(variable: str, environment: Mapping[str, str]) -> str | None:
    """Return the secret of a variable, or of the file that stands for it; None without either.

    ValueError says what is wrong, to be read behind the variable's name: with the file's path, and
    never with what the file or the variable holds. What is empty counts as not set.
    """
    value, path = environment.get(variable), environment.get(variable + FILE)
    if not path:
        return value or None
    if value:
        message = f"is set, and so is {variable}{FILE} ({path}); unset one of them"
        raise ValueError(message)
    try:
        return secret_in(Path(path))
    except (OSError, ValueError) as error:
        message = f"cannot be taken from {path}: {reason(error)}"
        raise ValueError(message) from None


def secret_in(path: Path) -> str:
    """Return what a file holds, without the line break at its end.

    OSError where it cannot be read; ValueError where it is empty, too large or no text. Neither
    quotes what it holds.
    """
    with path.open("rb") as file:
        data = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        message = f"it has more than {LIMIT} bytes"
        raise ValueError(message)
    try:
        secret = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        message = "it is no UTF-8 text"
        raise ValueError(message) from None
    if not secret:
        message = "it is empty"
        raise ValueError(message)
    return secret


def reason(error: OSError | ValueError) -> str:
    """Say what :func:`secret_in` has met, without the path that an OSError repeats."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
