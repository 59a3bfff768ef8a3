"""Tasks that break the contract, one rule at a time."""
# ruff: noqa: FBT003 - True is a bad value here

from dataclasses import dataclass
from typing import Any

from api_contracts.fields import REFUSED_HEADERS
from tests.parts.tasks import GEMINI, MESSAGES, PIXEL, PROMPT, chat, image, native, nested


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


def _parameter(name: str, reason: str, *values: Any, schema: bool = True) -> list[Bad]:
    return [
        Bad(f"{name}={value!s:.24}", chat(**{name: value}), f"request.{name}", reason, schema)
        for value in values
    ]


def _field(name: str, reason: str, *values: Any) -> list[Bad]:
    return [Bad(f"{name}={value!r:.24}", chat() | {name: value}, name, reason) for value in values]


def _option(name: str, reason: str, *values: Any, schema: bool = True) -> list[Bad]:
    rows = []
    *outer, inner = name.split(".")
    for value in values:
        options = {inner: value}
        for one in outer:
            options = {one: options}
        task = chat() | {"options": options}
        rows.append(Bad(f"options.{name}={value!s:.24}", task, f"options.{name}", reason, schema))
    return rows


def _header(reason: str, *headers: tuple[str, Any], schema: bool = True) -> list[Bad]:
    return [
        Bad(
            f"{name!r}: {value!r:.24}",
            chat() | {"headers": {name: value}},
            "headers",
            reason,
            schema,
        )
        for name, value in headers
    ]


def _trace(name: str, reason: str, *values: Any) -> list[Bad]:
    rows = []
    for value in values:
        trace = {"traceparent": _PARENT} | {name: value}
        task = chat() | {"options": {"trace": trace}}
        rows.append(Bad(f"{name} {value!r:.60}", task, f"options.trace.{name}", reason))
    return rows


def _path(reason: str, *paths: Any, schema: bool = True) -> list[Bad]:
    return [Bad(f"path {path!s:.40}", native(path), "path", reason, schema) for path in paths]


def _picture(reason: str, *urls: Any, schema: bool = True) -> list[Bad]:
    field = "request.messages.0.content.1.image_url.url"
    return [
        Bad(f"picture {url!s:.30} in a {kind}", image(url, kind), field, reason, schema)
        for url in urls
        for kind in ("chat", "vision")
    ]


_INTEGER, _NUMBER, _BOOLEAN = "must be an integer", "must be a number", "must be true or false"
_STRING, _OBJECT, _ARRAY = "must be a string", "must be an object", "must be an array"
_UNKNOWN, _REQUIRED = "is not a field of a task", "is required"
_KIND = "must be one of chat, vision, native"
_REFUSED = "is not a task's to set"
_SECRETS = (
    *("key", "KEY", "a=b&api_key", "apikey", "access_token", "token", "auth-token", "X-API-Key"),
    *("subscription-key", "client_secret", "password", "sig", "signature", "id_token"),
)
_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_SPAN = "00f067aa0ba902b7"
_PARENT = f"00-{_TRACE}-{_SPAN}-01"

_ENVELOPE = [
    *(
        Bad(f"task {task!r:.20}", task, "task", "must be a JSON object")
        for task in (None, True, 3, 1.5, PROMPT, [], [chat()])
    ),
    Bad("no kind", {"request": chat()["request"]}, "kind", _KIND),
    *_field("kind", _KIND, None, 1, [], {}, "Chat", "embedding", PROMPT),
    Bad("no request", {"kind": "chat"}, "request", _REQUIRED),
    *_field("request", _OBJECT, None, PROMPT, [PROMPT], 1),
    *_field("urgent", _UNKNOWN, True),
    *_field("path", _UNKNOWN, "/v1/messages"),
    Bad("unknown field that is a text", chat() | {PROMPT: 1}, "?", _UNKNOWN),
    Bad("many unknown fields", chat() | {f"x{n}": n for n in range(50)}, "x0", _UNKNOWN),
    *_field(
        "id",
        "must be a UUID in lower-case",
        *(None, 7, "", "7", PROMPT, "0b6f0c1e5d2a4c0e9a530d7f5a1b2c3d"),
        "0B6F0C1E-5D2A-4C0E-9A53-0D7F5A1B2C3D",
        "0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c3d\n",
        "{0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c3d}",
        "\u0660b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c3d",
    ),
    *_field("vendor", "must match", "", "a b", "a\r\nx: y", "é", "v" * 65, PROMPT),
    *_field("vendor", _STRING, None, ["openai"]),
]

_CHAT = [
    Bad("no model", {**chat(), "request": {"messages": MESSAGES}}, "request.model", _REQUIRED),
    *_parameter("model", "must have at least 1 character", ""),
    *_parameter("model", "must have at most 256 characters", "m" * 257),
    *_parameter("model", _STRING, 4, None),
    Bad("no messages", {**chat(), "request": {"model": "m"}}, "request.messages", _REQUIRED),
    *_parameter("messages", "must have at least 1 item", []),
    *_parameter("messages", _ARRAY, PROMPT, {"role": "user"}, None),
    Bad("message of text", chat(messages=[PROMPT]), "request.messages.0", _OBJECT),
    Bad("no role", chat(messages=[{"content": PROMPT}]), "request.messages.0.role", _STRING),
    Bad("role 1", chat(messages=[*MESSAGES, {"role": 1}]), "request.messages.1.role", _STRING),
    *_parameter("max_tokens", _INTEGER, "9", True, 1.5, []),
    *_parameter("max_tokens", _INTEGER, 1.0, schema=False),
    *_parameter("max_tokens", "must be at least 1", 0, -1),
    *_parameter("temperature", _NUMBER, "1", True, [1], {}),
    *_parameter("temperature", "must be at least 0", -0.001, -1),
    *_parameter("temperature", "must be at most 2", 2.001, 3),
    *_parameter("top_p", "must be at least 0", -0.1),
    *_parameter("top_p", "must be at most 1", 1.1),
    *_parameter("n", "must be at least 1", 0),
    *_parameter("n", "must be at most 128", 129, 10**30),
    *_parameter("stream", _BOOLEAN, "true", 1, 0, []),
    *_parameter(
        "stop",
        "must be a string or an array of at most 4 strings",
        *(["a"] * 5, [1], 3, True, {"a": 1}, [PROMPT, None]),
    ),
    *_parameter("presence_penalty", "must be at least -2", -2.1),
    *_parameter("presence_penalty", "must be at most 2", 2.1),
    *_parameter("frequency_penalty", "must be at least -2", -2.1),
    *_parameter("frequency_penalty", "must be at most 2", 2.1),
    *_parameter("frequency_penalty", _NUMBER, PROMPT),
    *_parameter(
        "logit_bias",
        "must be an object whose values are numbers",
        *([], PROMPT, {"50256": "x"}, {"1": True}, {"1": None}),
    ),
    *_parameter("user", _STRING, 12),
    *_parameter("tool_choice", "must be a string or an object", 1, True, [PROMPT]),
    *_parameter("tools", _ARRAY, PROMPT, {}),
    Bad("tool of text", chat(tools=[{}, PROMPT]), "request.tools.1", _OBJECT),
]

_PICTURES = [
    Bad("no picture", chat() | {"kind": "vision"}, "request.messages", "an image_url part"),
    *_picture(_STRING, None, ["https://example.com/a.png"]),
    *_picture("must be https or a data URL", "file:///etc/passwd", "http://example.com/a.png"),
    *_picture("a data URL must read data:image/", "data:text/html;base64,AAAA"),
    *_picture("must name a public host", "https://127.0.0.1/a.png", schema=False),
    *_picture("no PNG, JPEG, WebP or GIF", "data:image/png;base64,AAAA", schema=False),
    *_picture("has characters that no URL has", "https://example.com/\n", schema=False),
    Bad(
        "picture as bare string",
        chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": PIXEL}]}]),
        "request.messages.0.content.0.image_url.url",
        _STRING,
    ),
]

_HEADERS = [
    *_field("headers", _OBJECT, [["a", "b"]], None),
    *_field("headers", "at most 64 headers", {f"x-{n}": "" for n in range(65)}),
    *_header(_REFUSED, *((name, "v") for name in sorted(REFUSED_HEADERS))),
    *_header(_REFUSED, ("Authorization", "v"), ("AUTHORIZATION", "v"), schema=False),
    *_header(_REFUSED, ("proxy_authorization", "v"), ("Host", "v"), schema=False),
    *_header(
        "has characters that no header name has",
        *((name, "v") for name in ("", "a b", "a:", "é", "a\r\nb", ":path", "x" * 101, PROMPT)),
    ),
    *_header(
        "must be printable ASCII without line breaks",
        *(("x-a", "a\nb"), ("x-a", "a\r\nauthorization: x"), ("x-a", "a\r"), ("x-a", "\0")),
        *(("x-a", "\t"), ("x-a", "é"), ("x-a", " a"), ("x-a", "a "), ("x-a", "v" * 4097)),
        ("x-a", PROMPT),
    ),
    Bad("header of a number", chat() | {"headers": {"x-a": 1}}, "headers.x-a", _STRING),
    Bad(
        "one header in two cases",
        chat() | {"headers": {"X-A": "1", "x-a": "2"}},
        *("headers", "given twice", False),
    ),
    Bad(
        "9 KiB of headers",
        chat() | {"headers": {f"x-{n}": "v" * 3000 for n in range(3)}},
        *("headers", "at most 8192 bytes", False),
    ),
]

_NATIVE = [
    Bad("no path", {"kind": "native", "request": {"a": 1}}, "path", _REQUIRED),
    *_path(_STRING, None, 1, ["/v1/messages"]),
    *_path(
        "must begin with /v1/ or /api/v3/",
        *("", "/", "//evil.example/v1/x", "https://evil.example/v1/x", "\\\\host\\v1", PROMPT),
        *("v1/messages", "/v1", "/v2/x", "/V1/x", "/v1beta/x", "/api/v2/x", "/api/v3", "/x/v1/y"),
        *("/v1\\..\\x", "/../v1/x", "/%76%31/x"),
    ),
    *_path(
        "must be a plain path, without escapes",
        *("/v1/a@evil.example", "/v1/@evil.example/", "/v1/%2e%2e/x", "/v1/%2E%2E%2Fx", "/v1/\\x"),
        *("/v1/..%2fx", "/v1/..\\x", "/v1/a%00", "/v1/a b", "/v1/a\n", "/v1/a\r\nx: y", "/v1/é"),
        *("/v1/a#b", "/v1/a?b#c", "/v1/a?b?c", "/v1/a;b", "/v1/{a}", "/v1/a?b=%2e"),
    ),
    *_path(
        "must not have empty, `.` or `..` parts",
        *("/v1//x", "/v1/../admin", "/v1/..", "/v1/.", "/v1/./x", "/v1/x/", "/v1/x/?a=b"),
        *("/v1/x/..?a=b", "/v1/x/.?", "/v1/", "/v1///", "/v1//evil.example/x"),
    ),
    *_path("must have at most 512 characters", "/v1/" + "a" * 509),
    *_path("must not carry a key", *(f"/v1/x?{one}=s" for one in _SECRETS), schema=False),
    Bad("method PUT", native(method="PUT"), "method", "must be 'POST' or 'GET'"),
    Bad("GET with a body", native(method="GET"), "method", "neither a body nor a stream"),
    Bad(
        "GET with a stream",
        native(method="GET", request={}, options={"stream": True}),
        *("method", "neither a body nor a stream", False),
    ),
    Bad("empty body", native(request={}), "request", "the body is empty"),
    Bad(
        "no stream of a streaming path",
        native(f"{GEMINI}:streamGenerateContent", options={"stream": False}),
        *("options.stream", "contradicts the path", False),
    ),
]

_OPTIONS = [
    *_field("options", _OBJECT, [], None, PROMPT),
    *_option("urgent", _UNKNOWN, 1),
    *_option("retry.times", _UNKNOWN, 1),
    Bad(
        "many unknown options",
        chat() | {"options": {f"x{n}": n for n in range(50)}},
        *("options.x0", _UNKNOWN),
    ),
    *_option("stream", _BOOLEAN, 1, "yes"),
    *_option("tenant", "must match", "", "a:b", "a b", "{a}", "t" * 65, PROMPT),
    *_option("idempotency_key", "must match", "", "a b", "é", "k" * 256, "a\n", PROMPT),
    *_option("priority", "must be 'interactive' or 'batch'", "high", 1),
    *_option("on_interrupt", "must be 'restart' or 'fail'", "retry"),
    *_option(
        "credential", "must match", "", "A", "a.b", "..", "..data", "a/b", "c" * 33, "a\n", PROMPT
    ),
    *_option("credential", _STRING, 1, ["a"]),
    *_option("deadline", "must be at least 1000000000000", 1_800_000_000, -1),
    *_option("expires_at", "must be at least 1000000000000", 1_800_000_000, 0),
    *_option("deadline", "must be at most 253402300799999", 10**30),
    *_option("deadline", _INTEGER, "2026-01-01T00:00:00Z", True, [], 1.8e12 + 0.5),
    *_option("deadline", _INTEGER, 1.8e12, schema=False),
    *_option("result_ttl", "must be at least 1", 0),
    *_option("result_ttl", "must be at most 2592000", 2_592_001),
    *_option("result_ttl", _INTEGER, None, "60"),
    *_option("retry", _OBJECT, 5, []),
    *_option("retry.max_attempts", "must be at least 1", 0),
    *_option("retry.max_attempts", "must be at most 100", 101),
    *_option("retry.max_attempts", _INTEGER, True),
    *_option("retry.base_s", "must be at least 0", -1),
    *_option("retry.base_s", "must be at most 3600", 3601),
    *_option("retry.base_s", _NUMBER, "1", True),
    *_option("retry.factor", "must be at least 1", 0.9),
    *_option("retry.factor", "must be at most 10", 11),
    *_option("retry.cap_s", "must be at most 3600", 3601),
    *_option("metadata", _OBJECT, None, [], PROMPT),
    *_option("metadata", "has more than 16384 bytes", {"a": "é" * 8200}, schema=False),
    *_option("metadata", "more than 100 levels", {"a": nested(100)}, schema=False),
    *_option("trace", _OBJECT, _PARENT, []),
    *_trace(
        "traceparent",
        "must match",
        *("", PROMPT, f"01-{_TRACE}-{_SPAN}-01", f"00-{_TRACE.upper()}-{_SPAN}-01", f" {_PARENT}"),
        *(f"{_PARENT}\n", f"{_PARENT}-x", f"00-{_TRACE}-{_SPAN}", f"00-{_TRACE}{_SPAN}-01"),
    ),
    *_trace("traceparent", _STRING, None, 1),
    *_trace(
        "traceparent",
        "must not have an id of zeros",
        *(f"00-{'0' * 32}-{_SPAN}-01", f"00-{_TRACE}-{'0' * 16}-01"),
    ),
    Bad(
        "no traceparent",
        chat() | {"options": {"trace": {"tracestate": "a=b"}}},
        *("options.trace.traceparent", _REQUIRED),
    ),
    *_trace("baggage", _UNKNOWN, PROMPT),
    *_trace(
        "tracestate",
        "must be key=value",
        *(PROMPT, "a", "=b", "a=", "A=b", "a=b=c", "a=b,", "a=é", "a=b\n", "a=b,c"),
        *("a" * 257 + "=b", "a=" + "b" * 257, "1=b", "a@1=b"),
    ),
    *_trace(
        "tracestate",
        "must have at most 512 characters",
        ",".join(f"a{n}=" + "b" * 170 for n in range(3)),
    ),
    *_trace("tracestate", _STRING, None, {"a": "b"}),
    Bad(
        "stream against stream",
        chat(stream=True) | {"options": {"stream": False}},
        *("options.stream", "contradicts request.stream", False),
    ),
]

_SIZE = [
    Bad("too deep", chat(x=nested(100)), "request", "more than 100 levels deep", schema=False),
    Bad("too many", chat(x=[0] * 1_000_000), "request", "more than 1000000 values", schema=False),
]

BAD = [*_ENVELOPE, *_CHAT, *_PICTURES, *_HEADERS, *_NATIVE, *_OPTIONS, *_SIZE]
