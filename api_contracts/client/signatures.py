"""Signatures of tasks, so that workers obey known producers alone. Without a key nobody asks.

A task's record has a field ``signature``: ``NAME AT HEX``. NAME is the key's, AT the moment of
signing in unix ms, and HEX the HMAC-SHA256 of these lines, and what follows them, under that key::

    router-worker task 1
    NAME
    AT
    ID
    KIND
    LENGTH          of the field `task`, in bytes
    TASK REQUEST    the fields `task` and `request` one behind the other, before any encryption

So it holds the id, the body, and all that is said beside it: vendor, headers, path, options. A
worker checks it at every attempt, from the record: retries, doorbells that are rung again and
replays need no other, and doorbells may be rung by anybody.

HMAC, and not Ed25519: it takes 6 µs where that took 80 to sign and 260 to check, every language has
it, and it needs no package. Workers could sign as well, since they know the keys; but whoever has
taken over a worker needs no signature. A producer has its own key and cannot sign as another.

To take a producer's word away, take its key from the workers. To change a key, give the workers the
new one under another name beside the old one; then give it to the producer.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from api_contracts.client.keyring import read_key

#: How long a signature is good, in ms: 30 days, as long as a result may be kept. A task that waits,
#: fails and is replayed from among the dead letters has ended by then, and a record that somebody
#: has copied is worth nothing any more.
GOOD_MS: Final = 30 * 86_400_000

Reason = Literal["unsigned", "unknown", "forged", "old"]

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SIGNATURE: Final = re.compile(r"([A-Za-z0-9._-]{1,64}) ([0-9]{1,16}) ([0-9a-f]{64})")


class NotSigned(ValueError):
    """A task is not signed by anybody we know; the text says what is wrong."""

    def __init__(self, reason: Reason, message: str) -> None:
        """Keep the reason beside the words."""
        super().__init__(message)
        self.reason = reason


class Said(NamedTuple):
    """What is signed: a task as its record has it, before any encryption."""

    task_id: str
    kind: str
    task: bytes
    request: bytes


class Signatures:
    """Keys by name, the own one first. Without any nothing is signed, and nobody asks for it."""

    def __init__(self, keys: Mapping[str, bytes] | None = None) -> None:
        """Take keys of producers. A producer signs with the first; a worker takes all."""
        self._keys = dict(keys or {})

    @classmethod
    def of(cls, text: str) -> Signatures:
        """Read ``NAME:KEY`` with commas between; ValueError says which is none, and quotes none."""
        keys: dict[str, bytes] = {}
        texts = text.split(",") if text.strip() else []
        for place, one in enumerate(texts, 1):
            which = f"key {place} of {len(texts)}"
            name, _, key = one.strip().partition(":")
            if not _NAME.fullmatch(name):
                message = f"must read NAME:KEY,NAME:KEY; {which} has no name"
                raise ValueError(message)
            if name in keys:
                message = f"must not have a name twice; {which} does"
                raise ValueError(message)
            keys[name] = read_key(key, which)
        return cls(keys)

    def __bool__(self) -> bool:
        """Whether there is a key at all."""
        return bool(self._keys)

    def __repr__(self) -> str:
        """Show the names."""
        return f"Signatures({', '.join(self._keys)})"

    @property
    def names(self) -> tuple[str, ...]:
        """Whose keys there are, the own one first."""
        return tuple(self._keys)

    def sign(self, said: Said, now_ms: int) -> str:
        """Write a signature, by the first key."""
        name = next(iter(self._keys))
        return f"{name} {now_ms} {self._mac(name, now_ms, said)}"

    def check(self, signature: bytes | None, said: Said, now_ms: int) -> None:
        """Raise NotSigned unless one of these keys has signed this. Without any key all is well."""
        if not self._keys:
            return
        found = _SIGNATURE.fullmatch((signature or b"").decode(errors="replace"))
        if found is None:
            lacks = "is not signed" if signature is None else "has a signature that is none"
            raise NotSigned("unsigned", f"{lacks}; this worker obeys known producers alone")
        name, at, mac = found[1], int(found[2]), found[3]
        if name not in self._keys:
            raise NotSigned("unknown", f"is signed by {name}, whom this worker does not know")
        if not hmac.compare_digest(mac, self._mac(name, at, said)):
            raise NotSigned("forged", f"is not what {name} has signed, or not by its key")
        if now_ms - at > GOOD_MS:
            days = (now_ms - at) // 86_400_000
            raise NotSigned("old", f"was signed {days} days ago; that is good for 30")

    def _mac(self, name: str, at: int, said: Said) -> str:
        lines = (
            "router-worker task 1", name, str(at), said.task_id, said.kind, str(len(said.task)), "",
        )  # fmt: skip
        mac = hmac.new(self._keys[name], "\n".join(lines).encode(), "sha256")
        mac.update(said.task)
        mac.update(said.request)
        return mac.hexdigest()


def signer(signature: bytes) -> str | None:
    """Name who has signed, as a signature says it; None where it is none. Nothing is checked."""
    found = _SIGNATURE.fullmatch(signature.decode(errors="replace"))
    return found[1] if found else None


#: Where nobody signs.
NO_SIGNATURES: Final = Signatures()
