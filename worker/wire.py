"""Write chunks' events. It is on the hot path: one format, and the router's bytes as they are."""

from __future__ import annotations

from collections.abc import Sequence


def chunks(
    task_id: bytes, attempt: int, first: int, at: int, frames: Sequence[bytes]
) -> list[bytes]:
    """Write a chunk event around each frame: the router's own bytes, which the fold has read.

    Their ids begin with ``first``.
    """
    head = b'{"id":"%d-' % attempt
    middle = b'","task_id":"%b","type":"chunk","at":%d,"data":' % (task_id, at)
    return [b"%b%d%b%b}" % (head, seq, middle, frame) for seq, frame in enumerate(frames, first)]
