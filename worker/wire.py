"""Write a chunk's event. It is on the hot path: one format, and the router's bytes as they are."""

from __future__ import annotations


def chunk(task_id: bytes, attempt: int, seq: int, at: int, frame: bytes) -> bytes:
    """Write a chunk event around the router's own bytes, which the fold has parsed."""
    return b'{"id":"%d-%d","task_id":"%b","type":"chunk","at":%d,"data":%b}' % (
        attempt, seq, task_id, at, frame,
    )  # fmt: skip
