"""What is encrypted of a task, and in which form; other languages can write and read it as well.

Of a record ``request``, ``task`` (vendor, headers, path, options: all but the body), ``result``,
the words of ``error``, and the ``message`` of a dead letter that was no task; of an event all that
follows its head. Open stay ids, kinds, names of models, queues, states, moments, codes of errors,
statuses and request ids of answers, counts of tokens, names of workers, tenants and idempotency
keys, and how long everything is.

- A field is ``version (01) | id of the key (4) | nonce (12) | ciphertext and tag``, in bytes. No
  JSON begins with 01. Its associated data are ``ID:FIELD``, with the task's id.
- An event keeps its head, ``{"id":…,"task_id":…,"type":…,"at":…``, in which scripts and
  subscribers find its place. Then comes ``,"sealed":"…"}``: a JSON object with all other fields,
  encrypted in the same form, in base64. Its associated data are ``ID:`` and the head. It is filled
  up with spaces to a multiple of 64 bytes: from the lengths of chunks a reader who has no key could
  guess their words (Weiss and others, "What Was Your Prompt?", USENIX Security 2024).
- An error keeps its code, and has ``"sealed"`` in place of the words of the provider.

Keys, nonces and their change: :mod:`.keyring`.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from api_contracts.client.keyring import Keyring
from api_contracts.errors import MEANINGS, SET_KEYS, ErrorCode, NotOpened
from api_contracts.events import (
    EVENT_LIMIT,
    HEAD,
    SEALED,
    Chunk,
    Completed,
    Event,
    Stored,
    is_sealed,
    parse_event,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: What a field of a record may be written as.
Value = str | int | bytes

#: Begins what is encrypted; no JSON does.
VERSION: Final = b"\x01"
#: Places of the key's id, the nonce and the ciphertext behind that.
_ID: Final = slice(1, 5)
_NONCE: Final = slice(5, 17)
_TEXT: Final = slice(17, None)
#: Bytes of a nonce that are random, and that count.
_RANDOM: Final = 8
_COUNTING: Final = 4
#: Bytes by which what is encrypted is longer: version, id, nonce and GCM's tag of 16.
OVERHEAD: Final = 33
#: What an event says is filled up to a multiple of so many bytes.
BLOCK: Final = 64
#: Largest event that is within :data:`EVENT_LIMIT` when it is encrypted: base64 makes four bytes
#: of three, and 512 are enough for the head, the filling and what is around it.
PLAIN_EVENT_LIMIT: Final = EVENT_LIMIT * 3 // 4 - 512
#: Fields of an error that may quote a provider.
_WORDS: Final = ("message", "provider_code")
#: What messages call an event.
_EVENT: Final = "an event"


def key_id(sealed: bytes) -> str | None:
    """Name the key that encrypted a field of a record, of which the head is enough.

    None where it is plain.
    """
    whole = sealed.startswith(VERSION) and len(sealed) >= _ID.stop
    return sealed[_ID].hex() if whole else None


class Box:
    """What is said of one task, encrypted and decrypted; as it is where there are no keys.

    For one writer, in one thread at a time: no two have the same nonces.
    """

    __slots__ = ("_about", "_ciphers", "_count", "_head", "_keyring", "_task_id", "_writing", "on")

    def __init__(self, keyring: Keyring, task_id: str) -> None:
        """Prepare; keys are derived when they are needed."""
        self._keyring = keyring
        self._task_id = task_id
        self._about = f"{task_id}:".encode(errors="replace")
        self._ciphers: dict[bytes, AESGCM] = {}
        self._writing: AESGCM | None = None
        self._head = b""
        self._count = 0
        #: Whether what is written is encrypted.
        self.on = bool(keyring)

    @property
    def event_limit(self) -> int:
        """Largest event that may go on the channel, before it is encrypted, in bytes."""
        return PLAIN_EVENT_LIMIT if self.on else EVENT_LIMIT

    def seal(self, name: str, text: bytes) -> bytes:
        """Encrypt a field of the record."""
        return self._sealed(text, self._about + name.encode()) if self.on else text

    def open(self, name: str, text: bytes) -> bytes:
        """Decrypt a field of the record; one that is plain is returned as it is.

        NotOpened where no key fits, where it was altered, and where it is plain and must not be.
        """
        if text.startswith(VERSION):
            return self._opened(text, self._about + name.encode(), f"`{name}`")
        if self._keyring.required:
            raise self._plain(f"`{name}`")
        return text

    def seal_event(self, event: bytes) -> bytes:
        """Encrypt all that an event says behind its head. One that says nothing more is plain."""
        if not (self.on and event):
            return event
        found = HEAD.match(event)
        if found is None:
            # Nothing of ours is written so; left plain, it would give away what it says.
            message = "an event does not begin as events do"
            raise ValueError(message)
        head, rest = event[: found.end()], event[found.end() :]
        if rest == b"}":
            return event
        said = b"{" + rest[1:]
        filled = said.ljust(-(-len(said) // BLOCK) * BLOCK)
        text = binascii.b2a_base64(self._sealed(filled, self._about + head), newline=False)
        return b'%b%b%b"}' % (head, SEALED, text)

    def open_event(self, entry: bytes) -> bytes:
        """Decrypt an event; one that is plain is returned as it is. NotOpened as :meth:`open`."""
        found = HEAD.match(entry)
        if found is None or not entry.startswith(SEALED, found.end()):
            return entry
        head = entry[: found.end()]
        try:
            text = binascii.a2b_base64(entry[len(head) + len(SEALED) : -2], strict_mode=True)
        except ValueError:
            raise self._altered(_EVENT) from None
        said = self._opened(text, self._about + head, _EVENT)
        return b"%b,%b" % (head, said[1:].rstrip(b" "))

    def read_event(self, entry: bytes) -> Event | Stored:
        """Read an event, encrypted or plain; as :func:`parse_event`, and NotOpened."""
        event = parse_event(self.open_event(entry))
        must = self._keyring.required and isinstance(event, (Chunk, Completed))
        if must and not is_sealed(entry):
            raise self._plain(_EVENT)
        return event

    def seal_error(self, text: str) -> str:
        """Encrypt the words of an error, which may quote a provider: its JSON, as records have it.

        Its code stays, and says in place of them what it means.
        """
        error = json.loads(text)
        words = {name: error.pop(name) for name in _WORDS if name in error}
        meaning = MEANINGS[ErrorCode(error["code"])]
        error["message"] = f"{meaning} What was said is encrypted: {SET_KEYS}."
        sealed = self.seal("error", json.dumps(words).encode())
        return json.dumps(error | {"sealed": base64.b64encode(sealed).decode()})

    def open_error(self, text: bytes) -> bytes:
        """Put its words back into an error where they open; all else is returned as it is."""
        if not (self.on and b'"sealed"' in text):
            return text
        try:
            error = json.loads(text)
            sealed = base64.b64decode(error.pop("sealed"), validate=True)
            words = json.loads(self.open("error", sealed))
            return json.dumps(error | words).encode()
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError, NotOpened):
            return text

    def seal_fields(self, fields: Mapping[str, Value]) -> Mapping[str, Value]:
        """Encrypt what the end of an attempt writes into the record: its result, or its error."""
        if not self.on:
            return fields
        sealed = dict(fields)
        if isinstance(result := fields.get("result"), bytes):
            sealed["result"] = self.seal("result", result)
        if isinstance(error := fields.get("error"), str):
            sealed["error"] = self.seal_error(error)
        return sealed

    def _sealed(self, text: bytes, about: bytes) -> bytes:
        cipher = self._writing or self._begin()
        self._count += 1
        head = self._head + self._count.to_bytes(_COUNTING, "big")
        return head + cipher.encrypt(head[_NONCE], text, about)

    def _begin(self) -> AESGCM:
        key_id, self._writing = self._keyring.newest(self._task_id)
        self._head = VERSION + key_id + os.urandom(_RANDOM)
        return self._writing

    def _opened(self, sealed: bytes, about: bytes, what: str) -> bytes:
        if len(sealed) < OVERHEAD or not sealed.startswith(VERSION):
            raise self._altered(what)
        key_id = sealed[_ID]
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            cipher = self._ciphers[key_id] = self._keyring.cipher(key_id, self._task_id)
        try:
            return cipher.decrypt(sealed[_NONCE], sealed[_TEXT], about)
        except self._keyring.invalid_tag:
            raise self._altered(what) from None

    def _altered(self, what: str) -> NotOpened:
        message = f"{what} of task {self._task_id} was altered, or is another task's"
        return NotOpened(message, "altered")

    def _plain(self, what: str) -> NotOpened:
        asked = "ROUTER_WORKER_ENCRYPTION_REQUIRED asks for that"
        return NotOpened(f"{what} of task {self._task_id} is not encrypted; {asked}", "plain")


def reader(keyring: Keyring, task_id: str) -> Callable[[bytes], Event | Stored]:
    """Return what reads events of one task: the contract's own reader where there are no keys."""
    return Box(keyring, task_id).read_event if keyring else parse_event
