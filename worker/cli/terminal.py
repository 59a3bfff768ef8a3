"""Writing to a terminal what others said.

A model's text, and a router's error, are hostile to a terminal: an escape sequence in them could
move the cursor, rename the window or hide what stands there. So no control character but line
break and tab reaches a terminal. A file or a pipe gets the text as it is.
"""

from __future__ import annotations

import io
import re
import sys
from typing import Final, TextIO

#: C0 and C1 but for tab and line break: 8-bit C1 characters begin sequences in some terminals.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: str) -> str:
    """Leave out every control character but line breaks and tabs."""
    return _CONTROL.sub("", text)


def one_line(text: str) -> str:
    """Write a text in one line, without control characters."""
    return plain(" ".join(text.split()))


class Screen:
    """Standard output for answers, standard error for notes."""

    def __init__(self, out: TextIO | None = None, notes: TextIO | None = None) -> None:
        """Write to these, or to the process's own."""
        self._out = out or sys.stdout
        self._notes = notes or sys.stderr
        self._terminal = self._out.isatty()
        self._mid_line = False
        if isinstance(self._out, io.TextIOWrapper):
            # A character that the terminal's encoding lacks must not cost the rest of an answer.
            self._out.reconfigure(errors="replace")

    def write(self, text: str) -> None:
        """Write a piece of an answer at once."""
        text = plain(text) if self._terminal else text
        if text:
            self._out.write(text)
            self._out.flush()
            self._mid_line = not text.endswith("\n")

    def line(self, text: str) -> None:
        """Write a whole line of its own."""
        self.end_line()
        self.write(text + "\n")

    def end_line(self) -> None:
        """Go to a new line of the answer, unless there already."""
        if self._mid_line:
            self.write("\n")

    def note(self, text: str) -> None:
        """Say something about the answer; on a terminal, not in the middle of its line."""
        if self._terminal:
            self.end_line()
        self._notes.write(plain(text) + "\n")
        self._notes.flush()
