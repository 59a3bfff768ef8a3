"""Tasks for the tests of the contract: how to make them, and some that stretch it and are taken."""

import base64
from typing import Any

from api_contracts.schema import examples

Json = dict[str, Any]

#: Stands for what a user typed. No error may repeat it.
PROMPT = "a secret prompt: ☃ <tell nobody>"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
JPEG = b"\xff\xd8\xff\xe0" + bytes(12)
GIF = b"GIF89a" + bytes(10)
WEBP = b"RIFF\x08\0\0\0WEBPVP8 "
PIXEL = "data:image/png;base64," + base64.b64encode(PNG).decode()
GEMINI = "/v1/projects/cognition/locations/us/publishers/google/models/gemini-1.5-pro"
MESSAGES = [{"role": "user", "content": PROMPT}]


def chat(**parameters: Any) -> Json:
    """A chat task whose request has these parameters as well."""
    return {"kind": "chat", "request": {"model": "m", "messages": MESSAGES, **parameters}}


def image(url: Any, kind: str = "vision") -> Json:
    """A task that shows the picture at this URL."""
    content = [{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": {"url": url}}]
    return {**chat(messages=[{"role": "user", "content": content}]), "kind": kind}


def native(path: Any = "/v1/messages", **fields: Any) -> Json:
    """A native task for this path."""
    return {"kind": "native", "path": path, "request": {"prompt": PROMPT}, **fields}


def nested(levels: int) -> Any:
    """Arrays within arrays."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


_HISTORY = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": PROMPT, "name": "ann"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {}}]},
    {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "42"}]},
    {"role": "a role of the future", "content": {"anything": [1]}},
]

#: Tasks that are taken, by what they show.
GOOD: dict[str, Json] = {
    **examples.TASKS,
    "least chat": chat(),
    "fields that nobody knows yet": chat(
        logprobs=True, reasoning_effort="high", x={"deep": [{"er": None}]}, stream_options={}
    ),
    "nulls": chat(**dict.fromkeys(("temperature", "stop", "tools", "n", "user", "logit_bias"))),
    "lowest bounds": chat(temperature=0, top_p=0, n=1, presence_penalty=-2, max_tokens=1),
    "highest bounds": chat(temperature=2, top_p=1, n=128, frequency_penalty=2.0, max_tokens=10**9),
    "stop as text": chat(stop="\n"),
    "stop as four": chat(stop=["a", "b", "c", "d"]),
    "tools": chat(tools=[{"type": "function"}], tool_choice={"type": "function"}),
    "logit bias": chat(logit_bias={"50256": -100, "198": 0.5}),
    "a whole history": chat(messages=_HISTORY),
    "vendor of the future": chat() | {"vendor": "new-vendor.2"},
    "headers": chat() | {"headers": {"anthropic-beta": "a,b", "X-Trace": "", "x-a": "v" * 4096}},
    "64 headers": chat() | {"headers": {f"x-{n}": "v" for n in range(64)}},
    "picture by URL": image("https://example.com/a.png?x=1#y"),
    "picture by data URL": image(PIXEL),
    "picture in a chat": image("HTTPS://EXAMPLE.COM/a.png", "chat"),
    "stream said twice": chat(stream=True) | {"options": {"stream": True}},
    "poll": native("/api/v3/contents/generations/tasks/cgt-1", method="GET", request={}),
    "Gemini": native(f"{GEMINI}:generateContent", vendor="google"),
    "Gemini as one array": native(f"{GEMINI}:streamGenerateContent"),
    "path with a query": native("/v1/messages?beta=true&alt=sse"),
    "three dots in a name": native("/v1/models/..."),
    "longest path": native("/v1/" + "a" * 508),
    "every option": chat()
    | {
        "options": {
            "stream": False,
            "tenant": "web-1.a_b",
            "idempotency_key": "order:17/{x}",
            "priority": "batch",
            "expires_at": 1_000_000_000_000,
            "deadline": 253_402_300_799_999,
            "retry": {"max_attempts": 1, "base_s": 0, "factor": 1, "cap_s": 3600},
            "on_interrupt": "fail",
            "credential": "team-1_b",
            "result_ttl": 2_592_000,
            "metadata": {"a": [None, 1.5, {"b": "ü"}]},
            "trace": {
                "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
                "tracestate": "vendor=opaque value:1, 0tenant@vendor/2=x;*-",
            },
        }
    },
    "nulls in options": chat()
    | {"options": dict.fromkeys(("stream", "deadline", "retry", "trace"))},
    "as deep as may be": chat(x=nested(99)),
}
