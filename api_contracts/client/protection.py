"""What keeps tasks from others: encryption (:mod:`.box`) and signatures (:mod:`.signatures`).

Each is off without its keys. What they are good for, where somebody has got at Redis:

- Whoever reads it (a backup, a replica, ``MONITOR``) learns from encrypted tasks neither what was
  asked nor what was answered: only what stands open, as :mod:`.box` lists it.
- Whoever writes to it can make no worker call anything by his own words: a task is obeyed as it was
  signed, or not at all. With encryption asked for, he cannot make a subscriber believe an answer
  either: what is encrypted is bound to its task and its place in the log.

What he still can do, and only Redis's own access rights prevent:

- Delete, hold back, cancel and end tasks; give false states, moments, errors and counts of tokens;
  leave out the end of a log. Show an event again at its own place.
- Have a task called again that was signed: he resets its record, or puts back one that he has kept,
  which is good for 30 days. It is the same call under the same id; each costs money.
- Let a task run in spite of its deadlines, which do not count for one that was replayed.
- Where tasks are signed and not encrypted: read everything, and forge answers.
- Where they are encrypted and not signed: nothing more, if encryption is asked for, since he has no
  key. But then whoever may read answers may also give tasks: the key is the same.
- Put plain messages on a queue: they are answered with a refusal, or put aside.

Neither helps against somebody who has taken over a worker or a producer. A plain Celery message
carries its task as it is, and lies in the queue until a worker takes it; only then it is encrypted.
It cannot be signed: whoever signs writes the record.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter, ValidationError

from api_contracts.client.keyring import NO_KEYS, Keyring
from api_contracts.client.secret import secret_of
from api_contracts.client.signatures import NO_SIGNATURES, Signatures

_BOOL: Final = TypeAdapter(bool)


@dataclass(frozen=True, slots=True)
class Protection:
    """Both, each perhaps without keys."""

    keyring: Keyring = NO_KEYS
    signatures: Signatures = NO_SIGNATURES

    @classmethod
    def of(
        cls,
        encryption_keys: str | None = None,
        signing_keys: str | None = None,
        *,
        required: bool | None = None,
    ) -> Protection:
        """Fill in what is None from the environment; ValueError names what is wrong there.

        ``ROUTER_WORKER_ENCRYPTION_KEYS``, ``ROUTER_WORKER_SIGNING_KEYS`` and
        ``ROUTER_WORKER_ENCRYPTION_REQUIRED``, as for the workers. The keys may stand in files, as
        :mod:`.secret` has it.
        """
        if required is None:
            required = _flag("ROUTER_WORKER_ENCRYPTION_REQUIRED")
        variable = "ROUTER_WORKER_ENCRYPTION_KEYS"
        try:
            keyring = Keyring.of(_given(encryption_keys, variable), required=required)
            variable = "ROUTER_WORKER_SIGNING_KEYS"
            signatures = Signatures.of(_given(signing_keys, variable))
        except ValueError as error:
            message = f"{variable} {error}"
            raise ValueError(message) from None
        return cls(keyring, signatures)


def _given(text: str | None, variable: str) -> str:
    return secret_of(variable, os.environ) or "" if text is None else text


def _flag(variable: str) -> bool:
    text = os.environ.get(variable) or "false"
    try:
        return _BOOL.validate_python(text)
    except ValidationError:
        message = f"{variable} must be true or false"
        raise ValueError(message) from None


#: Neither: tasks as they are.
UNPROTECTED: Final = Protection()
