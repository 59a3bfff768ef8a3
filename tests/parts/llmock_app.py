"""llmock behind the router's paths, for uvicorn to serve.

Its Anthropic and Gemini dialects live under prefixes of their own; the router's do not.
"""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from llmock.main import create_app

_GEMINI = re.compile(r"/v1/projects/[^/]+/locations/[^/]+/publishers/google/models/")
_LLMOCK = create_app()

Message = MutableMapping[str, Any]


def llmock_path(path: str) -> str:
    """Return where llmock has what the router has at this path."""
    if path.startswith("/v1/messages"):
        return f"/anthropic{path}"
    return _GEMINI.sub("/gemini/v1beta/models/", path)


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Serve a request under the path that llmock knows."""
    if scope["type"] == "http":
        path = llmock_path(scope["path"])
        scope = {**scope, "path": path, "raw_path": path.encode()}
    await _LLMOCK(scope, receive, send)
