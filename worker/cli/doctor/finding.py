"""What a check found. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Names that one finding lists.
NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's.

    ``ok`` is False where something is wrong, None where it could not be looked at. ``do`` is the
    remedy; of what is ok it is an advice: it works, and may not always.
    """

    check: str
    ok: bool | None
    says: str
    do: str = ""

    @property
    def mark(self) -> str:
        """How it begins on a terminal."""
        if self.ok is None:
            return "?"
        if not self.ok:
            return "WRONG"
        return "advice" if self.do else "ok"


def good(check: str, says: str) -> Finding:
    """Say that all is well."""
    return Finding(check, ok=True, says=says)


def advice(check: str, says: str, do: str) -> Finding:
    """Say that it works, and what would be better."""
    return Finding(check, ok=True, says=says, do=do)


def bad(check: str, says: str, do: str) -> Finding:
    """Say that something is wrong, and what to do."""
    return Finding(check, ok=False, says=says, do=do)


def unseen(check: str, says: str, do: str) -> Finding:
    """Say what could not be looked at, and why."""
    return Finding(check, ok=None, says=says, do=do)


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """Write names with commas between, so many at most, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def counted(number: int, of: str) -> str:
    """Write how many of something there are."""
    return f"{number} {of}" if number == 1 else f"{number} {of}s"
