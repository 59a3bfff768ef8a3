"""Lua scripts, called by their digests. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any, Self


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

    @property
    def load(self) -> tuple[str, ...]:
        """The command that makes Redis know it."""
        return ("SCRIPT", "LOAD", self.source)

    def call(self, keys: tuple[str, ...], *arguments: Any) -> tuple[Any, ...]:
        """Write the command that runs it on these keys."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)
