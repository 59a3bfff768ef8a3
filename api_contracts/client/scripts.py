"""Lua scripts, called by their digests. Pure.

A script that publishes a task's events has two texts: on a cluster its channel is sharded
(:func:`sharded`), since every server would get every `PUBLISH`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final, Self

from api_contracts.names import Keys

_PUBLISH: Final = "redis.call('PUBLISH', channel, "
_SPUBLISH: Final = "redis.call('SPUBLISH', channel, "


@dataclass(frozen=True, slots=True)
class Script:
    """A script's source, and the digest under which Redis knows it once it was loaded."""

    source: str
    sha: str

    @classmethod
    def of(cls, source: str) -> Self:
        """Give a script its digest."""
        return cls(source, sha1(source.encode(), usedforsecurity=False).hexdigest())

    @classmethod
    def named(cls, name: str) -> Self:
        """Read a script of this package."""
        return cls.of(files(__package__).joinpath(f"lua/{name}.lua").read_text())

    def on(self, keys: Keys) -> Script:
        """Return its text for the server that has these keys."""
        return _sharded(self) if keys.sharded else self

    @property
    def load(self) -> tuple[str, ...]:
        """The command that makes Redis know it."""
        return ("SCRIPT", "LOAD", self.source)

    def call(self, keys: tuple[str, ...], *arguments: Any) -> tuple[Any, ...]:
        """Write the command that runs it on these keys."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)


def sharded(source: str) -> str:
    """Let a script say a task's events on a sharded channel."""
    return source.replace(_PUBLISH, _SPUBLISH)


@cache
def _sharded(script: Script) -> Script:
    return Script.of(sharded(script.source))
