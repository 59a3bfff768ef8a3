"""The README's tables, made of the code that they describe.

``python -m worker.tables`` prints all of them in Markdown, each between the markers that it has
in the README::

    <!-- table: settings -->
    <!-- end -->
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from api_contracts.errors import MEANINGS
from worker.errors import RETRYABLE
from worker.settings import Settings, variable
from worker.telemetry import METRICS


def settings_table() -> str:
    """Write every setting: its variable, its default, what it is for."""
    rows = (
        (f"`{variable(name)}`", _default(field), field.description or "")
        for name, field in Settings.model_fields.items()
    )
    return _markdown(("variable", "default", "meaning"), rows)


def errors_table() -> str:
    """Write every error code: what it means, and whether another call is made after it."""
    rows = (
        (f"`{code}`", meaning, "yes" if code in RETRYABLE else "no")
        for code, meaning in MEANINGS.items()
    )
    return _markdown(("code", "meaning", "retried"), rows)


def metrics_table() -> str:
    """Write every metric: what it says, and what an operator does with it."""
    rows = (
        (
            f"`{row.name}`",
            row.type,
            ", ".join(f"`{label}`" for label in row.labels) or "–",
            row.meaning,
            row.use,
        )
        for row in METRICS
    )
    return _markdown(("metric", "type", "labels", "meaning", "use"), rows)


#: Each table by its name in the README's markers.
TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "settings": settings_table,
    "errors": errors_table,
    "metrics": metrics_table,
}


def _default(field: FieldInfo) -> str:
    """Write a default as one would set it."""
    if field.is_required():
        return "required"
    default: Any = field.default
    if default is None or field.default_factory is dict:
        default = ""
    elif field.default_factory is not None:
        default = "REDIS_URL"
    elif isinstance(default, SecretStr):
        default = default.get_secret_value()
    elif isinstance(default, bool):
        default = str(default).lower()
    elif isinstance(default, float):
        default = f"{default:g}"
    elif isinstance(default, (tuple, frozenset)):
        default = ",".join(default)
    return f"`{default}`" if default != "" else "none"


def _markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Write a table, each row in one line; a bar inside a cell is escaped."""
    lines = (head, ("---",) * len(head), *rows)
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """Print all tables."""
    for name, table in TABLES.items():
        sys.stdout.write(f"<!-- table: {name} -->\n{table()}<!-- end -->\n\n")


if __name__ == "__main__":
    main()
