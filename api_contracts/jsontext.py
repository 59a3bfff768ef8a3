"""What JSON can say, and every reader of it can take: bounds on depth and number, and the text.

Other programs set these values, so every check here stops at the first fault and its cost is
bounded: a hostile value of 32 MiB must not hold a worker for longer than reading it took.
"""

from __future__ import annotations

import json
from typing import Any, Final

#: Levels of arrays and objects. Requests have about 20; readers give up from 128 (serde_json).
DEPTH_LIMIT = 100
#: Values in arrays and objects, all together. The largest known calls are embeddings with
#: 300,000 token numbers; to check a million takes 0.1 to 0.3 s.
VALUES_LIMIT = 1_000_000
#: Made once: ``json.dumps`` makes one for each call that wants anything special.
_COMPACT: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def check(value: Any) -> None:
    """Raise ValueError where a value is too deep, has too many parts, or a key is no string.

    A value that contains itself is too deep, or too large.
    """
    level = [value]
    left = VALUES_LIMIT
    for _ in range(DEPTH_LIMIT):
        below: list[Any] = []
        for whole in level:
            if isinstance(whole, dict) and not all(isinstance(key, str) for key in whole):
                message = "has a key that is no string"
                raise ValueError(message)
            left -= len(whole)
            if left < 0:
                message = f"has more than {VALUES_LIMIT} values"
                raise ValueError(message)
            parts = whole.values() if isinstance(whole, dict) else whole
            below += [part for part in parts if isinstance(part, (dict, list, tuple))]
        if not below:
            return
        level = below
    message = f"is nested more than {DEPTH_LIMIT} levels deep"
    raise ValueError(message)


def write(value: Any) -> bytes:
    """Write a value as compact JSON in UTF-8; ValueError where JSON has no word for it."""
    try:
        return _COMPACT.encode(value).encode()
    except (TypeError, ValueError, RecursionError):
        message = "holds what JSON cannot say, such as NaN or half a surrogate pair"
        raise ValueError(message) from None
