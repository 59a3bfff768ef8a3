"""Which protocol a task speaks: told by its kind, and for a native call by its path."""

from __future__ import annotations

from api_contracts.requests import Task
from worker.protocols import anthropic, gemini, openai, plain
from worker.protocols.base import ProtocolModule
from worker.protocols.requests import CHAT_PATH


def protocol_of(task: Task) -> ProtocolModule:
    """Return the module that builds the task's call and reads its answer."""
    if task.kind != "native":
        return openai
    path = task.path.partition("?")[0]
    if task.method == "POST":
        if path == CHAT_PATH:
            return openai
        if path == "/v1/messages":
            return anthropic
        if path.endswith((gemini.WHOLE, gemini.STREAMED)):
            return gemini
    return plain
