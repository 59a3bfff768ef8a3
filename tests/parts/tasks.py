"""Tasks that break the contract, one rule at a time, and tasks that stretch it and are taken."""

import base64
from dataclasses import dataclass
from typing import Any

from api_contracts.fields import REFUSED_HEADERS
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


@dataclass(frozen=True)
class Bad:
    """A task, and the field and reason that its refusal names.

    ``schema`` tells whether the JSON Schema can refuse it too.
    """

    name: str
    task: Any
    field: str
    reason: str
    schema: bool = True


def _parameter(name: str, value: Any, reason: str, *, schema: bool = True) -> Bad:
    shown = f"{name}={str(value)[:24]}"
    return Bad(shown, chat(**{name: value}), f"request.{name}", reason, schema)


def _option(name: str, value: Any, reason: str, *, schema: bool = True) -> Bad:
    *outer, inner = name.split(".")
    options = {inner: value}
    for one in outer:
        options = {one: options}
    return Bad(
        f"{name}={value!s:.24}", chat() | {"options": options}, f"options.{name}", reason, schema
    )


def _header(name: str, value: Any, reason: str, *, schema: bool = True) -> Bad:
    return Bad(
        f"header {name!r}: {value!r:.20}",
        chat() | {"headers": {name: value}},
        "headers",
        reason,
        schema,
    )


def _path(path: Any, reason: str, *, schema: bool = True) -> Bad:
    return Bad(f"path {path!s:.40}", native(path), "path", reason, schema)


_OBJECT = "must be a JSON object"
_INTEGER, _NUMBER = "must be an integer", "must be a number"
_PLAIN, _PARTS, _PREFIX = "must be a plain path", "`.` or `..` parts", "must begin with /v1/"
_STOP = "must be a string or an array of at most 4 strings"
_ID = "must be a UUID in lower-case"
_UNKNOWN = "is not a field of a task"

BAD = [
    # the envelope
    *(Bad(f"task {t!r:.20}", t, "task", _OBJECT) for t in (None, True, 3, 1.5, PROMPT, [], [chat()])),
    Bad("no kind", {"request": chat()["request"]}, "kind", "must be one of chat, vision, native"),
    *(
        Bad(f"kind {k!r}", chat() | {"kind": k}, "kind", "must be one of chat, vision, native")
        for k in (None, 1, [], {}, "Chat", "embedding", PROMPT)
    ),
    Bad("no request", {"kind": "chat"}, "request", "is required"),
    *(
        Bad(f"request {r!r:.20}", chat() | {"request": r}, "request", "must be an object")
        for r in (None, PROMPT, [PROMPT], 1)
    ),
    Bad("unknown field", chat() | {"urgent": True}, "urgent", _UNKNOWN),
    Bad("unknown field that is text", chat() | {PROMPT: 1}, "?", _UNKNOWN),
    Bad("path of a chat", chat() | {"path": "/v1/messages"}, "path", _UNKNOWN),
    Bad("many unknown fields", chat() | {f"x{n}": n for n in range(50)}, "x0", _UNKNOWN),
    *(
        Bad(f"id {i!r:.40}", chat() | {"id": i}, "id", _ID)
        for i in (
            None, 7, "", "7", PROMPT, "0B6F0C1E-5D2A-4C0E-9A53-0D7F5A1B2C3D",
            "0b6f0c1e5d2a4c0e9a530d7f5a1b2c3d", "0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c3d\n",
            "{0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c3d}", "٠b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c3d",
        )
    ),
    *(
        Bad(f"vendor {v!r:.20}", chat() | {"vendor": v}, "vendor", "must match")
        for v in ("", "a b", "a\r\nx: y", "é", "v" * 65, PROMPT)
    ),
    Bad("vendor null", chat() | {"vendor": None}, "vendor", "must be a string"),
    # the documented parameters
    Bad("no model", {"kind": "chat", "request": {"messages": MESSAGES}}, "request.model", "is required"),
    _parameter("model", "", "must have at least 1 character"),
    _parameter("model", "m" * 257, "must have at most 256 characters"),
    _parameter("model", 4, "must be a string"),
    Bad("no messages", {"kind": "chat", "request": {"model": "m"}}, "request.messages", "is required"),
    _parameter("messages", [], "must have at least 1 item"),
    _parameter("messages", PROMPT, "must be an array"),
    _parameter("messages", {"role": "user"}, "must be an array"),
    Bad("message of text", chat(messages=[PROMPT]), "request.messages.0", "must be an object"),
    Bad("no role", chat(messages=[*MESSAGES, {"content": PROMPT}]), "request.messages.1.role", "must be a string"),
    Bad("role 1", chat(messages=[{"role": 1}]), "request.messages.0.role", "must be a string"),
    *(_parameter("max_tokens", v, _INTEGER) for v in ("9", True, 1.5, [])),
    _parameter("max_tokens", 1.0, _INTEGER, schema=False),
    *(_parameter("max_tokens", v, "must be at least 1") for v in (0, -1)),
    *(_parameter("temperature", v, _NUMBER) for v in ("1", True, [1], {})),
    *(_parameter("temperature", v, "must be at least 0") for v in (-0.001, -1)),
    *(_parameter("temperature", v, "must be at most 2") for v in (2.001, 3)),
    _parameter("top_p", -0.1, "must be at least 0"),
    _parameter("top_p", 1.1, "must be at most 1"),
    _parameter("n", 0, "must be at least 1"),
    _parameter("n", 129, "must be at most 128"),
    _parameter("n", 10**30, "must be at most 128"),
    *(_parameter("stream", v, "must be true or false") for v in ("true", 1, 0, [])),
    *(_parameter("stop", v, _STOP) for v in (["a"] * 5, [1], 3, True, {"a": 1}, [PROMPT, None])),
    *(
        _parameter(f"{kind}_penalty", value, reason)
        for kind in ("presence", "frequency")
        for value, reason in ((-2.1, "must be at least -2"), (2.1, "must be at most 2"), (PROMPT, _NUMBER))
    ),
    *(_parameter("logit_bias", v, "must be an object whose values are numbers") for v in ([], PROMPT, {"50256": "x"}, {"1": True}, {"1": None})),
    _parameter("user", 12, "must be a string"),
    *(_parameter("tool_choice", v, "must be a string or an object") for v in (1, True, [PROMPT])),
    *(_parameter("tools", v, "must be an array") for v in (PROMPT, {})),
    Bad("tool of text", chat(tools=[{}, PROMPT]), "request.tools.1", "must be an object"),
    # pictures; the forms of an address are in test_contracts_images.py
    Bad("vision without picture", chat() | {"kind": "vision"}, "request.messages", "needs an image_url part"),
    *(
        Bad(f"picture {u!s:.24} in a {kind}", image(u, kind), "request.messages.0.content.1.image_url.url", reason, schema)
        for kind in ("chat", "vision")
        for u, reason, schema in (
            (None, "must be a string", True),
            (["https://example.com/a.png"], "must be a string", True),
            ("file:///etc/passwd", "must be https or a data URL", True),
            ("http://example.com/a.png", "must be https or a data URL", True),
            ("data:text/html;base64,AAAA", "a data URL must read data:image/", True),
            ("https://127.0.0.1/a.png", "must name a public host", False),
            ("data:image/png;base64,AAAA", "holds no PNG, JPEG, WebP or GIF", False),
            ("https://example.com/\n", "has characters that no URL has", False),
        )
    ),
    Bad(
        "picture as bare string",
        chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": PIXEL}]}]),
        "request.messages.0.content.0.image_url.url",
        "must be a string",
    ),
    # headers
    Bad("headers as list", chat() | {"headers": [["a", "b"]]}, "headers", "must be an object"),
    Bad("65 headers", chat() | {"headers": {f"x-{n}": "" for n in range(65)}}, "headers", "at most 64 headers"),
    Bad("9 KiB of headers", chat() | {"headers": {f"x-{n}": "v" * 3000 for n in range(3)}}, "headers", "at most 8192 bytes", schema=False),
    Bad("one header in two cases", chat() | {"headers": {"X-A": "1", "x-a": "2"}}, "headers", "given twice", schema=False),
    Bad("header of a number", chat() | {"headers": {"x-a": 1}}, "headers.x-a", "must be a string"),
    *(_header(name, "v", "is not a task's to set") for name in sorted(REFUSED_HEADERS)),
    *(
        _header(name, "v", "is not a task's to set", schema=False)
        for name in ("Authorization", "AUTHORIZATION", "proxy_authorization", "Host", "Vendor")
    ),
    *(_header(name, "v", "has characters that no header name has") for name in ("", "a b", "a:", "é", "a\r\nb", ":path", "x" * 101, PROMPT)),
    *(_header("x-a", value, "must be printable ASCII without line breaks") for value in ("a\nb", "a\r\nauthorization: x", "a\r", "\0", "\t", "é", " a", "a ", "v" * 4097, PROMPT)),
    # native calls
    Bad("no path", {"kind": "native", "request": {"a": 1}}, "path", "is required"),
    *(_path(p, "must be a string") for p in (None, 1, ["/v1/messages"])),
    *(
        _path(p, _PLAIN)
        for p in (
            "", "v1/messages", "/", "https://evil.example/v1/messages", "/v1/a@evil.example", "/v1/%2e%2e/x",
            "/v1/%2E%2E%2Fx", "/v1/..%2fx", "/v1/a%00", "/v1\\..\\x", "\\\\host\\v1", "/v1/a b", "/v1/a\n",
            "/v1/a\r\nx: y", "/v1/a#b", "/v1/a?b#c", "/v1/a?b?c", "/v1/é", "/v1/a;b", "/v1/{a}", "/v1/a?b=%2e", PROMPT,
        )
    ),
    *(
        _path(p, _PARTS)
        for p in ("//evil.example/v1/x", "/v1//x", "/v1/../admin", "/v1/..", "/v1/.", "/v1/./x", "/v1/", "/v1/x/", "/v1/x/?a=b", "/v1/x/..?a=b", "/v1/x/.?", "///")
    ),
    *(_path(p, _PREFIX) for p in ("/v1", "/v2/x", "/api/v2/x", "/V1/x", "/v1beta/x", "/admin", "/api/v3", "/x/v1/y")),
    _path("/v1/" + "a" * 509, "must have at most 512 characters"),
    *(_path(f"/v1/x?{q}=s", "must not carry a key", schema=False) for q in ("key", "KEY", "a=b&api_key", "access_token", "token", "apikey")),
    Bad("method PUT", native(method="PUT"), "method", "must be 'POST' or 'GET'"),
    Bad("GET with a body", native(method="GET"), "method", "has neither a body nor a stream"),
    Bad("GET with a stream", native(method="GET", request={}, options={"stream": True}), "method", "has neither a body nor a stream", schema=False),
    Bad("empty body", native(request={}), "request", "the body is empty"),
    # options
    Bad("options as list", chat() | {"options": []}, "options", "must be an object"),
    _option("urgent", 1, _UNKNOWN),
    Bad("many unknown options", chat() | {"options": {f"x{n}": n for n in range(50)}}, "options.x0", _UNKNOWN),
    _option("retry.times", 1, _UNKNOWN),
    *(_option("stream", v, "must be true or false") for v in (1, "yes")),
    *(_option("tenant", v, "must match") for v in ("", "a:b", "a b", "{a}", "t" * 65, PROMPT)),
    *(_option("idempotency_key", v, "must match") for v in ("", "a b", "é", "k" * 256, "a\n", PROMPT)),
    _option("priority", "high", "must be 'interactive' or 'batch'"),
    _option("on_interrupt", "retry", "must be 'restart' or 'fail'"),
    *(
        row
        for name in ("deadline", "expires_at")
        for row in (
            _option(name, 1_800_000_000, "must be at least 1000000000000"),
            _option(name, -1, "must be at least 1000000000000"),
            _option(name, 10**30, "must be at most 253402300799999"),
            _option(name, "2026-01-01T00:00:00Z", _INTEGER),
            _option(name, True, _INTEGER),
            _option(name, 1.8e12, _INTEGER, schema=False),
        )
    ),
    *(_option("result_ttl", v, r) for v, r in ((0, "must be at least 1"), (2_592_001, "must be at most"), (None, _INTEGER))),
    *(_option("retry.max_attempts", v, r) for v, r in ((0, "must be at least 1"), (101, "must be at most 100"), (True, _INTEGER))),
    *(_option("retry.base_s", v, r) for v, r in ((-1, "must be at least 0"), (3601, "must be at most 3600"), ("1", _NUMBER), (True, _NUMBER))),
    *(_option("retry.factor", v, r) for v, r in ((0.9, "must be at least 1"), (11, "must be at most 10"))),
    _option("retry.cap_s", 3601, "must be at most 3600"),
    _option("retry", 5, "must be an object"),
    *(_option("metadata", v, "must be an object") for v in (None, [], PROMPT)),
    _option("metadata", {"a": "é" * 8200}, "has more than 16384 bytes", schema=False),
    _option("metadata", {"a": nested(100)}, "more than 100 levels", schema=False),
    Bad("stream against stream", chat(stream=True) | {"options": {"stream": False}}, "options.stream", "contradicts request.stream", schema=False),
    Bad("no stream of a streaming path", native(f"{GEMINI}:streamGenerateContent", options={"stream": False}), "options.stream", "contradicts the path", schema=False),
    # size
    Bad("too deep", chat(x=nested(100)), "request", "nested more than 100 levels deep", schema=False),
    Bad("a million values", chat(x=[0] * 1_000_000), "request", "more than 1000000 values", schema=False),
]  # fmt: skip

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
            "result_ttl": 2_592_000,
            "metadata": {"a": [None, 1.5, {"b": "ü"}]},
        }
    },
    "nulls in options": chat() | {"options": {"stream": None, "deadline": None, "retry": None}},
    "as deep as may be": chat(x=nested(99)),
}
