"""Write the contract's documents beside this file: ``python -m api_contracts.schema``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from api_contracts.schema.asyncapi import document
from api_contracts.schema.documents import Schema, json_schemas

#: Where the documents are kept.
FOLDER: Final = Path(__file__).parent


def files() -> dict[str, str]:
    """Return the text of each document by its file name."""
    documents = {f"{name}.schema.json": schema for name, schema in json_schemas().items()}
    documents["asyncapi.json"] = document()
    return {name: _text(one) for name, one in documents.items()}


def _text(one: Schema) -> str:
    return json.dumps(one, indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> None:
    """Write every document into a folder that exists."""
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{folder / name}\n")


if __name__ == "__main__":
    write(FOLDER)
