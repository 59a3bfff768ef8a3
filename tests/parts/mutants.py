"""Hostile values: any JSON, and tasks that were good until something in them was changed."""

import copy
from typing import Any

from hypothesis import strategies as st

from tests.parts.tasks import GOOD, Json

#: Texts with everything in them that some part of the contract looks for.
TEXTS = st.text() | st.sampled_from([
    "\ud800", "\0", "a\r\nb: c", "../..", "//a", "%2e%2e", "https://[", "https://a@b", "data:",
    "data:image/png;base64,", "https://1.1", "chat", "native", "GET", "nan", "1e999", "٣-٣", "1-1",
])  # fmt: skip
NUMBERS = (
    st.integers()
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.sampled_from([10**400, -(10**400), 2**63, 2**53 + 1, -0.0])
)
NAMES = TEXTS | st.sampled_from([
    "kind", "id", "request", "vendor", "headers", "options", "path", "method", "model", "messages",
    "role", "content", "type", "image_url", "url", "stream", "stop", "tools", "metadata", "retry",
    "trace", "traceparent", "tracestate",
])  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


#: Changes deep inside leave more of a task to be checked than those at its top.
_STOP = st.sampled_from([True, False, False, False])


@st.composite
def mutated(draw: st.DrawFn) -> Json:
    """A task that was good until one or two of its parts were replaced, added or removed."""
    task = copy.deepcopy(draw(st.sampled_from(list(GOOD.values()))))
    for _ in range(draw(st.integers(1, 2))):
        part: Any = task
        while True:
            keys: list[Any] = list(part) if isinstance(part, dict) else list(range(len(part)))
            key = draw(st.sampled_from(keys)) if keys else None
            if key is None or not isinstance(part[key], (dict, list)) or draw(_STOP):
                break
            part = part[key]
        change = draw(st.sampled_from(["replace", "add", "remove"]))
        if change == "add" and isinstance(part, dict):
            part[draw(NAMES)] = draw(VALUES)
        elif change == "add":
            part.append(draw(VALUES))
        elif key is not None and change == "remove":
            del part[key]
        elif key is not None:
            part[key] = draw(VALUES)
    return task
