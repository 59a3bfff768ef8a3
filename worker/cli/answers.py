"""A router's whole answer as a person reads it: text, tool calls, or else its JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from api_contracts.client.text import text_of_response


def readable(response: Any) -> str:
    """Write an answer: text and tool calls; an answer that has neither as indented JSON."""
    text = text_of_response(response)
    calls = tool_calls(response)
    parts = [part for part in (text, calls) if part]
    return "\n".join(parts) or json.dumps(response, indent=2, ensure_ascii=False)


def tool_calls(response: Any) -> str:
    """Write the tool calls of an answer, one a line, as ``name(arguments)``; empty without any."""
    if not isinstance(response, dict):
        return ""
    return "\n".join(f"{name}({arguments})" for name, arguments in _calls(response))


def _calls(response: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and arguments of each call, in any of the three protocols."""
    for choice in _dicts(response.get("choices")):
        for call in _dicts(_dict(choice.get("message")).get("tool_calls")):
            function = _dict(call.get("function") or call.get("custom"))
            yield str(function.get("name")), str(function.get("arguments", function.get("input")))
    if response.get("type") == "message":
        for block in _dicts(response.get("content")):
            if block.get("type") == "tool_use":
                yield str(block.get("name")), _compact(block.get("input"))
    for candidate in _dicts(response.get("candidates")):
        for part in _dicts(_dict(candidate.get("content")).get("parts")):
            if "functionCall" in part:
                call = _dict(part["functionCall"])
                yield str(call.get("name")), _compact(call.get("args"))


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
