"""Merging the pieces of a message whose fields nobody has announced.

Providers add fields to OpenAI's delta at will (``reasoning_content``, ``reasoning_details``,
``audio``, …). What the pieces mean follows from their type: texts are concatenated, lists are
continued, objects are merged, anything else is replaced. Strings are kept in pieces and joined
once, so a long answer costs linear time.
"""

from __future__ import annotations

from typing import Any, Final

#: Texts that name something and come whole, perhaps repeatedly: the last one counts.
_LABELS: Final = frozenset({"id", "type", "role", "object", "format"})
#: Objects inside objects that are merged; those deeper are replaced whole. Known ones need 3.
_DEPTH_LIMIT: Final = 8


class Pieces(list[str]):
    """A string that is still arriving."""


def merge(whole: dict[str, Any], delta: dict[str, Any], depth: int = 0) -> None:
    """Add a delta to what has come so far. A null says nothing, but the field is there."""
    for key, value in delta.items():
        held = whole.get(key)
        if value is None:
            whole.setdefault(key, None)
        elif isinstance(value, str):
            _merge_text(whole, key, held, value)
        elif isinstance(value, dict) and depth < _DEPTH_LIMIT:
            if not isinstance(held, dict):
                held = whole[key] = {}
            merge(held, value, depth + 1)
        elif isinstance(value, list) and depth < _DEPTH_LIMIT:
            if isinstance(held, Pieces) and any(held):
                held = whole[key] = [{"type": "text", "text": held}]
            elif not isinstance(held, list) or isinstance(held, Pieces):
                held = whole[key] = []
            _extend(held, value, depth + 1)
        else:
            whole[key] = value


def _merge_text(whole: dict[str, Any], key: str, held: Any, value: str) -> None:
    if key in _LABELS:
        if value or held is None:
            whole[key] = value
    elif isinstance(held, list) and not isinstance(held, Pieces):
        _extend_with_text(held, value)
    elif not isinstance(held, Pieces):
        whole[key] = Pieces([value])
    # Some providers repeat a function's name in every piece of its arguments.
    elif key != "name" or held != [value]:
        held.append(value)


def _extend_with_text(held: list[Any], value: str) -> None:
    """Continue a list of parts with a bare text, as Mistral does after its thinking."""
    last = held[-1] if held else None
    if isinstance(last, dict) and isinstance(last.get("text"), Pieces):
        last["text"].append(value)
    elif value:
        held.append({"type": "text", "text": Pieces([value])})


def _extend(held: list[Any], entries: list[Any], depth: int) -> None:
    """Continue a list. Entries with an ``index`` are pieces of the entry with that index."""
    for entry in entries:
        if not isinstance(entry, dict):
            held.append(entry)
            continue
        known = _entry_of(held, entry) if type(entry.get("index")) is int else None
        if known is None:
            known = {}
            held.append(known)
        merge(known, entry, depth)


def _entry_of(held: list[Any], entry: dict[str, Any]) -> dict[str, Any] | None:
    """Find the entry that a piece belongs to: the last one with its index, and no other id.

    Gemini behind an OpenAI-compatible path has sent every one of several calls as index 0.
    """
    for one in reversed(held):
        if isinstance(one, dict) and one.get("index") == entry["index"]:
            same = not (one.get("id") and entry.get("id")) or one["id"] == entry["id"]
            return one if same else None
    return None


def joined(value: Any) -> Any:
    """Return a merged value with its strings in one piece."""
    if isinstance(value, Pieces):
        return "".join(value)
    if isinstance(value, dict):
        return {key: joined(part) for key, part in value.items()}
    if isinstance(value, list):
        return [joined(part) for part in value]
    return value


def characters(value: Any) -> int:
    """Count the characters that have arrived in pieces: what a model has written."""
    if isinstance(value, Pieces):
        return sum(map(len, value))
    if isinstance(value, dict):
        return sum(map(characters, value.values()))
    if isinstance(value, list):
        return sum(map(characters, value))
    return 0
