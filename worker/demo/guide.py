"""Every request of the router's chat guide as a task, in the guide's order, and two faults.

The bodies are the guide's own. What the guide's programs do between two requests, calling their
own function and sending back what it says, is done by an example's ``then``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from api_contracts.content import data_url
from worker.demo.picture import chessboard

JsonObject = dict[str, Any]

_GOOGLE: Final = "/v1/projects/cognition/locations/us/publishers/google/models"
_CLAUDE: Final = {"anthropic-version": "2023-06-01"}


@dataclass(frozen=True, slots=True)
class Example:
    """One request of the guide.

    ``task`` is as ``parse_task`` takes it, without an id. ``then`` builds the task that follows
    from this one's response (the router's, in one piece): it plays the caller's own program.
    """

    title: str
    task: JsonObject
    then: Callable[[JsonObject], Example] | None = None


def _user(text: str) -> JsonObject:
    return {"role": "user", "content": text}


_BASIC: Final[JsonObject] = {
    "kind": "chat",
    "vendor": "openai",
    "request": {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            _user("What is the capital of France?"),
        ],
    },
}
_CONVERSATION: Final[JsonObject] = {
    "kind": "chat",
    "request": {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "You are a witty assistant that tells jokes."},
            _user("Tell me a joke about computers."),
            {
                "role": "assistant",
                "content": "Why did the computer keep sneezing? It had a virus!",
            },
            _user("That was a good one. Tell me another."),
        ],
    },
}
_POEM: Final[JsonObject] = {
    "kind": "chat",
    "vendor": "anthropic",
    "request": {
        "model": "claude-3-haiku-20240307",
        "messages": [_user("Write a short poem about the ocean.")],
        "stream": True,
    },
}
_PLACE: Final = {
    "type": "string",
    "description": "The city and state, e.g. San Francisco, CA",
}
_BOSTON: Final[JsonObject] = {
    "kind": "chat",
    "request": {
        "model": "gpt-4o",
        "messages": [_user("What's the weather like in Boston, MA?")],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "get_current_weather",
                    "description": "Get the current weather in a given location",
                    "parameters": {
                        "type": "object",
                        "properties": {
                            "location": _PLACE,
                            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                        },
                        "required": ["location"],
                    },
                },
            }
        ],
        "tool_choice": "auto",
    },
}
_VISION: Final[JsonObject] = {
    "kind": "vision",
    "vendor": "anthropic",
    "request": {
        "model": "claude-3-5-sonnet-20240620",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What’s in this image?"},
                    {"type": "image_url", "image_url": {"url": data_url(chessboard())}},
                ],
            }
        ],
        "max_tokens": 300,
    },
}
_HISTORIAN: Final[JsonObject] = {
    "kind": "native",
    "vendor": "google",
    "path": f"{_GOOGLE}/gemini-1.5-pro-latest:generateContent",
    "request": {
        "contents": [{"parts": [{"text": "Write a short story about a time-traveling historian."}]}]
    },
}
_SAFETY: Final[JsonObject] = {
    "kind": "native",
    "vendor": "google",
    "path": f"{_GOOGLE}/gemini-pro:generateContent",
    "request": {
        "contents": [{"parts": [{"text": "Tell me a potentially controversial joke."}]}],
        "safetySettings": [
            {"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_LOW_AND_ABOVE"},
            {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "threshold": "BLOCK_MEDIUM_AND_ABOVE"},
        ],
    },
}
_NETWORKS: Final[JsonObject] = {
    "kind": "native",
    "vendor": "anthropic",
    "path": "/v1/messages",
    "headers": _CLAUDE,
    "request": {
        "model": "claude-3-5-sonnet-20240620",
        "max_tokens": 1024,
        "messages": [_user("Explain the concept of neural networks to a 5-year-old.")],
    },
}
_SAN_FRANCISCO: Final[JsonObject] = {
    "kind": "native",
    "vendor": "anthropic",
    "path": "/v1/messages",
    "headers": _CLAUDE,
    "request": {
        "model": "claude-3-opus-20240229",
        "max_tokens": 1024,
        "tools": [
            {
                "name": "get_weather",
                "description": "Get the current weather in a given location.",
                "input_schema": {
                    "type": "object",
                    "properties": {"location": _PLACE},
                    "required": ["location"],
                },
            }
        ],
        "messages": [_user("What is the weather like in San Francisco?")],
    },
}


def _boston_weather(arguments: JsonObject) -> str:
    """Play the guide's ``get_current_weather``."""
    place = arguments["location"]
    if "boston" in place.lower():
        unit = arguments.get("unit")
        return json.dumps({"location": "Boston", "temperature": "10", "unit": unit})
    return json.dumps({"location": place, "temperature": "unknown"})


def _san_francisco_weather(arguments: JsonObject) -> str:
    """Play the guide's ``get_weather``."""
    place = arguments["location"]
    if "san francisco" in place.lower():
        found = {"location": "San Francisco", "temperature": "15°C", "forecast": "Cloudy"}
        return json.dumps(found)
    return json.dumps({"location": place, "temperature": "unknown"})


def _answer_openai(response: JsonObject) -> Example:
    """Call what the model asked for, and build the second request: without tools, as the guide."""
    message = response["choices"][0]["message"]
    results = [
        {
            "tool_call_id": call["id"],
            "role": "tool",
            "name": call["function"]["name"],
            "content": _boston_weather(json.loads(call["function"]["arguments"])),
        }
        for call in message["tool_calls"]
    ]
    asked = _BOSTON["request"]
    messages = [*asked["messages"], message, *results]
    task = {**_BOSTON, "request": {"model": asked["model"], "messages": messages}}
    return Example("Function calling: the tool's answer", task)


def _answer_claude(response: JsonObject) -> Example:
    """Call what the model asked for, and build the second request: with tools, as the guide."""
    results = [
        {
            "type": "tool_result",
            "tool_use_id": block["id"],
            "content": _san_francisco_weather(block["input"]),
        }
        for block in response["content"]
        if block["type"] == "tool_use"
    ]
    messages = [
        *_SAN_FRANCISCO["request"]["messages"],
        {"role": "assistant", "content": response["content"]},
        {"role": "user", "content": results},
    ]
    task = {**_SAN_FRANCISCO, "request": {**_SAN_FRANCISCO["request"], "messages": messages}}
    return Example("Tool use with Claude: the tool's answer", task)


#: Every request of the guide, in its order.
GUIDE: Final[tuple[Example, ...]] = (
    Example("Basic usage", _BASIC),
    Example("Multi-turn conversation", _CONVERSATION),
    Example("Streaming responses", _POEM),
    Example("Function calling", _BOSTON, _answer_openai),
    Example("Vision", _VISION),
    Example("Gemini: generate content", _HISTORIAN),
    Example("Gemini: safety settings", _SAFETY),
    Example("Claude: Messages API", _NETWORKS),
    Example("Tool use with Claude", _SAN_FRANCISCO, _answer_claude),
)


def fault_examples(run: str) -> tuple[Example, ...]:
    """Return two calls that fail once, at the simulator, and then go well.

    ``run`` tells this run from others: the simulator counts the calls of each.
    """

    def once(spec: str, name: str) -> JsonObject:
        return {"x-simulate": f"{spec}; times=1", "x-simulate-key": f"{run}-{name}"}

    limited = {**_BASIC, "headers": once("status=429; retry-after=2", "limited")}
    cut = {**_POEM, "headers": once("cut=12", "cut")}
    return (
        Example("A rate limit, then the answer", limited),
        Example("A stream cut half-way, then the answer", cut),
    )
