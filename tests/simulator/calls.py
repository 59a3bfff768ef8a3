"""One call of each kind, and the shapes of their errors."""

from typing import Any

GOOGLE = "/v1/projects/cognition/locations/us/publishers/google/models/gemini-pro"
VIDEOS = "/api/v3/contents/generations/tasks"
CHAT: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
}
CLAUDE = {**CHAT, "max_tokens": 100}
GEMINI: dict[str, Any] = {"contents": [{"parts": [{"text": "What is the capital of France?"}]}]}
VIDEO = {"model": "seedance", "content": [{"type": "text", "text": "A lighthouse."}]}
NATIVE = {"vendor": "google"}

CALLS = [
    ("/v1/chat/completions", CHAT),
    ("/v1/embeddings", {"model": "e", "input": "a"}),
    ("/v1/messages", CLAUDE),
    (f"{GOOGLE}:generateContent", GEMINI),
    (f"{GOOGLE}:streamGenerateContent", GEMINI),
    (VIDEOS, VIDEO),
]
STREAMS = [
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/messages", {**CLAUDE, "stream": True}),
    (f"{GOOGLE}:streamGenerateContent?alt=sse", GEMINI),
    (f"{GOOGLE}:streamGenerateContent", GEMINI),
]


def is_error(path: str, body: Any, status: int) -> bool:
    """Tell whether a body is an error in the shape of the path's dialect."""
    if path.startswith("/v1/messages"):
        return set(body) == {"type", "error", "request_id"} and set(body["error"]) == {
            "type",
            "message",
        }
    if path.startswith("/v1/projects"):
        return bool(body["error"]["code"] == status and body["error"]["status"].isupper())
    return set(body["error"]) == {"message", "type", "param", "code"}
