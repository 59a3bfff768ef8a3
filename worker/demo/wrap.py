"""Text that arrives in pieces, laid out in lines of whole words. Pure: it says what to write."""

from __future__ import annotations

import re
from typing import Final

from rich.cells import cell_len, chop_cells

_PARTS: Final = re.compile(r"\n|[^\S\n]+|\S+")
#: What a terminal would obey, or not show; a model may send it.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Wrap:
    """A growing text, ``width`` cells wide. A word is written when it is known to be whole."""

    def __init__(self, width: int, indent: str) -> None:
        """Begin an empty text; every line of it begins with ``indent``."""
        self.lines = [""]
        self._width = width - len(indent)
        self._indent = indent
        self._word = ""
        self._gap = ""
        self._open = False

    @property
    def rows(self) -> list[str]:
        """The lines that a closed text takes on the screen, without their indent."""
        return self.lines if self.lines[-1] else self.lines[:-1]

    def feed(self, piece: str) -> str:
        """Take a piece; return what can be written now."""
        parts = _PARTS.findall(self._word + _CONTROL.sub("", piece).replace("\t", "    "))
        self._word = ""
        if parts and not parts[-1].isspace() and cell_len(parts[-1]) <= self._width:
            self._word = parts.pop()
        return "".join(self._place(part) for part in parts)

    def close(self) -> str:
        """Return the rest with the end of its line, once; nothing where there was no text."""
        rest = self._place(self._word) if self._word else ""
        self._word = ""
        ended, self._open = "\n" if self._open else "", False
        return rest + ended

    def _place(self, part: str) -> str:
        if part == "\n":
            self._gap, self._open = "", False
            self.lines.append("")
            return "\n"
        if part.isspace():
            self._gap += part
            return ""
        first, *rest = chop_cells(part, self._width)
        return self._write(first) + "".join(self._write(piece) for piece in rest)

    def _write(self, word: str) -> str:
        """Write a word behind the gap before it, or on a new line where both do not fit."""
        gap, self._gap, broken = self._gap, "", ""
        if cell_len(self.lines[-1] + gap + word) > self._width:
            gap = ""
            if self.lines[-1]:
                broken = "\n"
                self.lines.append("")
        start = "" if self.lines[-1] else self._indent
        self.lines[-1] += gap + word
        self._open = True
        return f"{broken}{start}{gap}{word}"
