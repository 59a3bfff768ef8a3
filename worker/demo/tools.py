"""What a demonstration reads in requests and answers: words, function calls, results. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model wants made; ``arguments`` is JSON text."""

    id: str
    name: str
    arguments: str


def calls_in(response: JsonObject) -> list[ToolCall]:
    """Return the calls in a whole answer, OpenAI's or Anthropic's; none where it has only words."""
    if "choices" in response:
        calls = response["choices"][0]["message"].get("tool_calls") or []
        return [
            ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in calls
        ]
    blocks = response.get("content") or []
    return [
        ToolCall(block["id"], block["name"], json.dumps(block["input"], ensure_ascii=False))
        for block in blocks
        if block["type"] == "tool_use"
    ]


def results_in(request: JsonObject) -> dict[str, str]:
    """Return what a request says that each call came to, by the call's id."""
    found: dict[str, str] = {}
    for message in request["messages"]:
        if message["role"] == "tool":
            found[message["tool_call_id"]] = message["content"]
        elif isinstance(message.get("content"), list):
            for block in message["content"]:
                if block["type"] == "tool_result":
                    found[block["tool_use_id"]] = block["content"]
    return found


def question_in(request: JsonObject) -> str:
    """Return the words of a request's last message, a picture as its type; empty for results."""
    last = (request.get("messages") or request["contents"])[-1]
    if last.get("role") == "tool":
        return ""
    parts = last["content"] if "content" in last else last["parts"]
    return parts if isinstance(parts, str) else " ".join(map(_part, parts)).strip()


def _part(part: JsonObject) -> str:
    if "image_url" in part:
        kind = part["image_url"]["url"].partition(";")[0].removeprefix("data:")
        return f"[{kind}]"
    return str(part.get("text", ""))


def words_alone(body: bytes) -> bool:
    """Tell whether a request offers no tools and has nothing but text in its messages."""
    try:
        asked = json.loads(body)
        messages = asked["messages"]
        words = all(isinstance(one["content"], str) and one["role"] != "tool" for one in messages)
    except (ValueError, KeyError, TypeError):
        return False
    return words and "tools" not in asked
