"""The router's keys: the worker's own, and those that tasks choose by name.

1. A task says whose key it is called with by its ``credential``: the name of a file in one folder.
   It says no more, and the key itself is in no message, record, log or metric.
2. The file is read when a task names it, and again once a second while tasks do. So a new key, and
   a new name, are obeyed without a restart.
3. A file that is gone takes its name along. One that holds no key fails its tasks as
   ``authentication``, so that they are dead letters, to be replayed when it is mended.

A folder, since that is what Kubernetes makes of a secret, Docker of several, and systemd of its
credentials; and since it says by itself which names there are.
"""

from __future__ import annotations

import logging
import math
import re
import time
from pathlib import Path
from typing import Final

from api_contracts.client.secret import reason, secret_in
from api_contracts.errors import ErrorCode, InvalidTask
from api_contracts.options import CREDENTIAL_NAME
from worker.errors import AttemptFailed, Failure
from worker.settings import checked_key

#: For how long a key is used before its file is read again, in seconds. Reading takes 30 µs.
FRESH_S: Final = 1.0
#: Stands for a key where an answer repeats it.
_HIDDEN: Final = "(not shown)"

logger = logging.getLogger(__name__)


class Credentials:
    """The keys of one worker process."""

    def __init__(self, own: str, folder: Path | None) -> None:
        """Take the worker's own key, and the folder of the others, if there is one."""
        self._own = own
        self._folder = folder
        #: By name: when a file was last read, and its key.
        self._read: dict[str, tuple[float, str]] = {}
        #: Every key that was ever given out, the longest first: one may begin another.
        self._given = [own]

    def key(self, name: str | None) -> str:
        """Return the key of this name; None is the worker's own.

        InvalidTask where there is none of that name, AttemptFailed where its file cannot be used.
        """
        if name is None:
            return self._own
        now = time.monotonic()
        read_at, key = self._read.get(name, (-math.inf, ""))
        if now - read_at >= FRESH_S:
            key = self._key_in_file(name)
            self._read[name] = (now, key)
            if key not in self._given:
                self._given = sorted((*self._given, key), key=len, reverse=True)
        return key

    def hidden(self, text: str) -> str:
        """Return a text without any key that was given out."""
        for key in self._given:
            text = text.replace(key, _HIDDEN)
        return text

    def _key_in_file(self, name: str) -> str:
        """Read a key. A name is a plain word by the contract: it leads to no other folder."""
        # Which there are is not for a task to know.
        unknown = InvalidTask("options.credential", "the worker has no key of that name")
        if self._folder is None:
            raise unknown
        try:
            return checked_key(secret_in(self._folder / name))
        except FileNotFoundError:
            raise unknown from None
        except (OSError, ValueError) as error:
            logger.error("the key of credential %s cannot be used: %s", name, reason(error))  # noqa: TRY400 - the words are enough
            message = f"the worker cannot use its key of the name {name}: {reason(error)}"
            raise AttemptFailed(Failure(ErrorCode.AUTHENTICATION, message)) from None


def faults(folder: Path) -> dict[str, str]:
    """Say of each file in a folder of keys what is wrong with it; nothing where it is a key.

    Files whose name begins with a dot are none: Kubernetes keeps its own there. OSError where the
    folder cannot be read.
    """
    return {
        path.name: _fault(path)
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".")
    }


def _fault(path: Path) -> str:
    if not re.fullmatch(CREDENTIAL_NAME, path.name):
        return "no task can name it: names are of up to 32 small letters, digits, - and _"
    try:
        checked_key(secret_in(path))
    except (OSError, ValueError) as error:
        return reason(error)
    return ""
