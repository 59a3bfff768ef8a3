"""The text in a chunk or an answer, for all three protocols. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from api_contracts.errors import StreamReset
from api_contracts.events import Chunk, Event, Started
from api_contracts.results import Result


class TextView:
    """Only the text of a stream: what to show for each event, and when it is void.

    A restart makes void what was shown: ``on_reset`` is called then; without it the next event
    raises StreamReset, so that nobody joins the texts of two attempts.
    """

    def __init__(self, on_reset: Callable[[], None] | None = None) -> None:
        """Begin with nothing shown."""
        self._on_reset = on_reset
        self._shown = False

    def piece(self, event: Event) -> str:
        """Return what an event adds, often nothing."""
        if isinstance(event, Started) and event.resets and self._shown:
            if self._on_reset is None:
                message = f"task {event.task_id} was restarted: the text so far is void"
                raise StreamReset(message)
            self._on_reset()
            self._shown = False
        text = text_of_chunk(event.data) if isinstance(event, Chunk) else ""
        self._shown = self._shown or bool(text)
        return text

    def rest(self, result: Result) -> str:
        """Return what is still to be shown at the end: all, where it did not come in pieces."""
        return "" if self._shown else text_of_response(result.response)


def text_of_chunk(data: Any) -> str:
    """Return the piece of text that a router's chunk adds to its first choice, often empty.

    Thinking is not text. The protocol shows in the chunk's own shape: ``choices`` (OpenAI),
    ``candidates`` (Gemini), ``type`` (Anthropic).
    """
    if not isinstance(data, dict):
        return ""
    if "choices" in data:
        return _openai(data["choices"], "delta")
    if "candidates" in data:
        return _gemini(data["candidates"])
    if data.get("type") == "content_block_delta":
        delta = data.get("delta") or {}
        return delta.get("text") or "" if delta.get("type") == "text_delta" else ""
    if data.get("type") == "content_block_start":
        block = data.get("content_block") or {}
        return block.get("text") or "" if block.get("type") == "text" else ""
    return ""


def text_of_response(response: Any) -> str:
    """Return the text of a whole answer: of its first choice or candidate."""
    if not isinstance(response, dict):
        return ""
    if "choices" in response:
        return _openai(response["choices"], "message")
    if "candidates" in response:
        return _gemini(response["candidates"])
    if response.get("type") == "message":
        blocks = response.get("content") or []
        texts = (block for block in blocks if block.get("type") == "text")
        return "".join(block.get("text") or "" for block in texts)
    return ""


def _openai(choices: Any, key: str) -> str:
    first: dict[str, Any] = next(
        (choice for choice in choices or () if choice.get("index", 0) == 0), {}
    )
    content = (first.get(key) or {}).get("content")
    return content if isinstance(content, str) else ""


def _gemini(candidates: Any) -> str:
    first: dict[str, Any] = next((one for one in candidates or () if one.get("index", 0) == 0), {})
    parts = (first.get("content") or {}).get("parts") or ()
    return "".join(part.get("text") or "" for part in parts if not part.get("thought"))
