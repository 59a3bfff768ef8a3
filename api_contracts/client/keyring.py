"""Keys that encrypt what tasks say. Without one nothing is encrypted. What and how: :mod:`.box`.

The cipher is AES-256-GCM, each task under a key of its own: HKDF-SHA256 of ours, without salt,
with the info ``router-worker task ID``. With one key for all, and random nonces of 96 bits, it may
be used 2^32 times (NIST SP 800-38D, 8.3): 10,000 chunks a second do that in five days. So the limit
counts for a task alone. A nonce is 8 random bytes of its writer (an enqueue, a claim) and 4 that
count. Attempt and place would not do: after a failover the same number may be given twice.

Rotation: the first key encrypts, all decrypt. Give the new one to everybody as the second; then put
it first; take the old one away when what it encrypted is gone: after the longest ``result_ttl``,
and not before a week, for dead letters. A key's id is written beside what it encrypts: the first
four bytes of HKDF-SHA256 with the info ``router-worker key id``.

The digest by which a repeated enqueue is told from another task is keyed too: of a short prompt the
plain one could be found by trying.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

from api_contracts.errors import SET_KEYS, NotOpened

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: Bytes of a key.
KEY_BYTES: Final = 32
_DIGEST: Final = re.compile(r"([0-9a-f]{8}):[0-9a-f]{32}")
#: Base64 for URLs is read as well.
_STANDARD: Final = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True)
class _Key:
    """One key, and what is derived of it by HKDF (RFC 5869), of which this is the first half."""

    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, key: bytes) -> _Key:
        return cls(hmac.digest(bytes(32), key, "sha256"))

    def derived(self, info: str) -> bytes:
        return hmac.digest(self.secret, info.encode(errors="replace") + b"\x01", "sha256")

    @property
    def id(self) -> bytes:
        """What is written beside everything that it encrypts; it gives nothing away."""
        return self.derived("router-worker key id")[:4]


class _Aead(NamedTuple):
    """What is used of the package `cryptography`, which only those need who have keys."""

    cipher: type[AESGCM]
    invalid_tag: type[Exception]


class Keyring:
    """The keys of an installation, the newest first."""

    def __init__(self, keys: Sequence[bytes] = (), *, required: bool = False) -> None:
        """Take keys of 32 bytes. ``required``: nothing that is not encrypted is believed.

        ValueError where the package ``cryptography`` is not installed.
        """
        made = [_Key.of(key) for key in keys]
        self._keys = {key.id: key for key in made}
        self._required = required
        self._aead = _aead() if made else None

    @classmethod
    def of(cls, text: str, *, required: bool = False) -> Keyring:
        """Read keys in base64 with commas between; ValueError says which is none, and quotes none.

        Nothing, or space, is no key.
        """
        texts = [one.strip() for one in text.split(",")] if text.strip() else []
        keys = [read_key(one, f"key {place} of {len(texts)}") for place, one in enumerate(texts, 1)]
        if required and not keys:
            message = "must have a key, since ROUTER_WORKER_ENCRYPTION_REQUIRED is set"
            raise ValueError(message)
        return cls(keys, required=required)

    def __bool__(self) -> bool:
        """Whether there is a key at all."""
        return bool(self._keys)

    def __repr__(self) -> str:
        """Show the ids of the keys."""
        return f"Keyring({self.ids})"

    @property
    def ids(self) -> str:
        """Name the keys."""
        return ", ".join(key_id.hex() for key_id in self._keys)

    @property
    def required(self) -> bool:
        """Whether nothing that is not encrypted is believed."""
        return self._required

    def digest(self, content: bytes) -> str:
        """Fingerprint a content: the same for the same, under the newest key."""
        return _fingerprint(content, next(iter(self._keys.values()), None))

    def knows(self, content: bytes, digest: str) -> bool:
        """Tell whether a digest is of this content: under whichever key, or from before any."""
        found = _DIGEST.fullmatch(digest)
        key = self._keys.get(bytes.fromhex(found[1])) if found else None
        return digest == _fingerprint(content, key)

    @property
    def invalid_tag(self) -> type[Exception]:
        """What a cipher raises where a text was altered."""
        return self._aead.invalid_tag if self._aead else ValueError

    def newest(self, task_id: str) -> tuple[bytes, AESGCM]:
        """Return the id of the newest key, and the cipher of a task under it."""
        key_id = next(iter(self._keys))
        return key_id, self.cipher(key_id, task_id)

    def cipher(self, key_id: bytes, task_id: str) -> AESGCM:
        """Return a task's cipher under one key; NotOpened, in words, where it is not here."""
        key = self._keys.get(key_id)
        if key is not None and self._aead is not None:
            return self._aead.cipher(key.derived(f"router-worker task {task_id}"))
        message = f"task {task_id} is encrypted: {SET_KEYS}"
        if self._keys:
            known = f"ROUTER_WORKER_ENCRYPTION_KEYS has {self.ids}"
            message = f"task {task_id} is encrypted with the key {key_id.hex()}; {known}"
        raise NotOpened(message)


def read_key(text: str, which: str) -> bytes:
    """Read a key of 32 bytes in base64; ValueError says which is none, and does not quote it."""
    try:
        key = base64.b64decode(text.translate(_STANDARD), validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        how = f"{which} is none; make one with: openssl rand -base64 32"
        message = f"must have keys of {KEY_BYTES} bytes in base64: {how}"
        raise ValueError(message)
    return key


def _fingerprint(content: bytes, key: _Key | None = None) -> str:
    """Digest a content; where there is a key, so that nobody finds it by trying contents."""
    if key is None:
        return blake2b(content, digest_size=16).hexdigest()
    secret = key.derived("router-worker content")
    return f"{key.id.hex()}:{blake2b(content, digest_size=16, key=secret).hexdigest()}"


def _aead() -> _Aead:
    """Import the package; ValueError where it is not installed."""
    try:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - see _Aead
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
    except ImportError:
        message = "needs the package cryptography: pip install 'router-worker[crypto]'"
        raise ValueError(message) from None
    return _Aead(AESGCM, InvalidTag)


#: Where nothing is encrypted.
NO_KEYS: Final = Keyring()
