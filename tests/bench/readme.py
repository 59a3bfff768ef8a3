"""The place in the README that the benchmark writes. Pure."""

import re
from typing import Final

START: Final = "<!-- bench -->\n"
END: Final = "<!-- end -->"
_PLACE: Final = re.compile(f"(?<={START}).*?(?={END})", re.DOTALL)


def put(readme: str, table: str) -> str:
    """Put the table between the markers; a README without them stays as it is."""
    return _PLACE.sub(lambda _: f"\n{table}\n", readme, count=1)


def taken(readme: str) -> str | None:
    """Return what stands between the markers; None where there are none."""
    found = _PLACE.search(readme)
    return found and found.group().strip("\n") + "\n"
