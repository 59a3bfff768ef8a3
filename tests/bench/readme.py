"""The place in the README that the benchmark writes. Pure."""

import re
from typing import Final

END: Final = "<!-- end -->"


def _place(name: str) -> re.Pattern[str]:
    return re.compile(f"(?<=<!-- {name} -->\n).*?(?={END})", re.DOTALL)


def put(readme: str, table: str, name: str = "bench") -> str:
    """Put a table between the markers of its name; a README without them stays as it is."""
    return _place(name).sub(lambda _: f"\n{table}\n", readme, count=1)


def taken(readme: str, name: str = "bench") -> str | None:
    """Return what stands between the markers; None where there are none."""
    found = _place(name).search(readme)
    return found and found.group().strip("\n") + "\n"
