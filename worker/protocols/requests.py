"""What building a call has in common: the body's additions, and the headers.

A body is passed on as it came. What must be added is written into the head of its JSON object,
so that nothing in it is decoded and written anew: a 20 MiB picture costs one copy.
"""

from __future__ import annotations

from typing import Final

from api_contracts.requests import Task

#: Where chat and vision tasks go.
CHAT_PATH: Final = "/v1/chat/completions"


def path_of(task: Task) -> str:
    """Return the path under the router's base URL, with its query."""
    return task.path if task.kind == "native" else CHAT_PATH


def spliced(body: bytes, member: bytes) -> bytes:
    """Put one ``"key":value`` at the head of a JSON object."""
    head = body.index(b"{") + 1
    rest = body[head:]
    comma = b"" if rest.lstrip().startswith(b"}") else b","
    return b"".join((body[:head], member, comma, rest))


def with_stream(task: Task, body: bytes) -> bytes:
    """Say ``"stream":true`` where the task streams and its body does not say so.

    A body that says null is written anew, since of two equal keys some readers take the first.
    """
    if not task.streaming or task.request.get("stream") is True:
        return body
    if "stream" in task.request:
        request = {**task.request, "stream": True}
        return task.model_copy(update={"request": request}).request_json()
    return spliced(body, b'"stream":true')


def headers_of(task: Task, *, native_vendor: str | None, sse: bool) -> dict[str, str]:
    """Return the headers, lower-case: the task's, then ours, which win.

    ``native_vendor`` is what ``auto`` means for a native call, which must name a vendor; None
    for a chat, where the router picks by itself when none is named.
    """
    headers = {name.lower(): value for name, value in task.headers.items()}
    vendor = native_vendor if task.vendor == "auto" else task.vendor
    if vendor is not None:
        headers["vendor"] = vendor
    headers["content-type"] = "application/json"
    headers["accept"] = "text/event-stream" if sse else "application/json"
    return headers
