"""The faults that a caller orders, in the header ``x-simulate``: read strictly, and counted.

A spec is words with semicolons between them: ``status=429; retry-after=2; times=1``. The table
:data:`WORDS` is the language. What stands in no row of it is refused, so that a misspelt fault
is not taken for a call that went well.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

#: Keys whose calls are counted at once; the oldest is forgotten first.
_KEYS = 10_000
#: Longest part of a spec that an error repeats, in characters.
_QUOTED = 40

#: Values, as patterns. The longest wait is 999 s: a longer one looks like a broken simulator.
_COUNT = r"\d{1,6}"
_SECONDS = r"\d{1,3}(\.\d{1,3})?"


class BadSpec(ValueError):
    """A spec that the language does not have; the message says what would be right."""

    def __init__(self, word: str, reason: str) -> None:
        """Keep both in the message."""
        super().__init__(f"{word}: {reason}")


@dataclass(frozen=True, slots=True)
class Faults:
    """What is to go wrong with one call. Counts are of chunks sent before it does.

    ``stall_after`` and ``stall_s`` go together; ``gap_s`` and ``first_s`` replace the
    simulator's own pace. ``times`` bounds how often all of this happens to one key.
    """

    status: int | None = None
    retry_after: str | None = None
    retry_info: str | None = None
    times: int | None = None
    cut: int | None = None
    error: int | None = None
    malformed: int | None = None
    stall_after: int | None = None
    stall_s: float = 0.0
    first_s: float | None = None
    gap_s: float | None = None
    no_finish: bool = False
    split: bool = False


#: A call that goes well.
NONE: Final = Faults()


@dataclass(frozen=True, slots=True)
class Word:
    """One word of the language: an example, what it does, its value's pattern and its fields."""

    example: str
    meaning: str
    pattern: str
    read: Callable[[str], dict[str, Any]]


def _stall(value: str) -> dict[str, Any]:
    after, _, seconds = value.partition(":")
    return {"stall_after": int(after), "stall_s": float(seconds)}


WORDS: Final[dict[str, Word]] = {
    "status": Word(
        "status=429",
        "answer with this error (400 to 599) instead",
        r"[45]\d\d",
        lambda value: {"status": int(value)},
    ),
    "retry-after": Word(
        "retry-after=2",
        "beside a status: its header Retry-After, in seconds",
        _SECONDS,
        lambda value: {"retry_after": value},
    ),
    "retry-info": Word(
        "retry-info=3s",
        "beside a status: Gemini's own wait, in its body",
        _SECONDS + "s",
        lambda value: {"retry_info": value},
    ),
    "cut": Word(
        "cut=5",
        "cut the connection after 5 chunks",
        _COUNT,
        lambda value: {"cut": int(value)},
    ),
    "error": Word(
        "error=5",
        "an error inside the stream after 5 chunks",
        _COUNT,
        lambda value: {"error": int(value)},
    ),
    "malformed": Word(
        "malformed=3",
        "after 3 chunks, one that is no JSON",
        _COUNT,
        lambda value: {"malformed": int(value)},
    ),
    "no-finish": Word(
        "no-finish",
        "end the stream without its finish frame",
        "",
        lambda _: {"no_finish": True},
    ),
    "stall": Word("stall=5:30", "after 5 chunks, nothing for 30 s", f"{_COUNT}:{_SECONDS}", _stall),
    "first-chunk": Word(
        "first-chunk=2.0",
        "wait 2 s before the first chunk",
        _SECONDS,
        lambda value: {"first_s": float(value)},
    ),
    "gap-ms": Word(
        "gap-ms=50",
        "wait 50 ms between chunks",
        r"\d{1,5}",
        lambda value: {"gap_s": int(value) / 1000},
    ),
    "split": Word(
        "split=bytes",
        "send odd splits, inside characters too",
        "bytes",
        lambda _: {"split": True},
    ),
    "times": Word(
        "times=1",
        "all this to the first call with one x-simulate-key only",
        r"[1-9]\d{0,5}",
        lambda value: {"times": int(value)},
    ),
}


def parse(spec: str) -> Faults:
    """Read a spec; BadSpec says which word is wrong, and what would be right."""
    fields: dict[str, Any] = {}
    seen: set[str] = set()
    for part in spec.split(";"):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        word = WORDS.get(name)
        if word is None:
            raise BadSpec(repr(name[:_QUOTED]), f"no such word; there are {', '.join(WORDS)}")
        if name in seen:
            raise BadSpec(name, "stands there twice")
        if not re.fullmatch(word.pattern, value, re.ASCII) or (equals and not value):
            raise BadSpec(name, f"not {value[:_QUOTED]!r}; write it as in {word.example}")
        seen.add(name)
        fields |= word.read(value)
    _check_together(seen)
    return Faults(**fields)


def _check_together(words: set[str]) -> None:
    """Refuse words that say nothing together, or two things; BadSpec says which."""
    endings = sorted(words & {"status", "cut", "error", "no-finish"})
    if len(endings) > 1:
        raise BadSpec(" and ".join(endings), "a call can end in one way only")
    chunks = sorted(words & {"malformed", "stall", "gap-ms", "split"})
    if "status" in words and chunks:
        raise BadSpec(chunks[0], "has no meaning beside status, which sends no chunks")
    for word in ("retry-after", "retry-info"):
        if word in words and "status" not in words:
            raise BadSpec(word, "needs a status")
    if words == {"times"}:
        raise BadSpec("times", "needs a fault")


@dataclass(slots=True)
class Tally:
    """How many calls each key has made: what ``times`` is measured by."""

    _calls: OrderedDict[str, int] = field(default_factory=OrderedDict)

    def due(self, key: str, times: int) -> bool:
        """Count a call of this key, and tell whether it is one of the first ``times``."""
        calls = self._calls.pop(key, 0) + 1
        self._calls[key] = calls
        if len(self._calls) > _KEYS:
            self._calls.popitem(last=False)
        return calls <= times
