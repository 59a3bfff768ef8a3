"""Nothing that a producer writes reaches past the router, or speaks in the worker's name.

Two tables, by field: what each value tries, and the value. Those of the first are refused before
anything is sent. Those of the second are taken, and go out as mere values: what the router gets is
one request, at the place that was asked for, with the worker's key and no header that nobody set.

Every spelling of a private address stands in `tests/unit/test_contracts_images.py`, and every rule
of the contract in `tests/parts/bad_tasks.py`. A third table, at the end, is what a router tries.
"""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.errors import InvalidTask
from api_contracts.requests import Task, parse_task
from tests.parts.gate import Answer, Gate, whole
from tests.parts.tasks import GEMINI, Json, chat, image, native
from worker.credentials import Credentials
from worker.protocols.base import Call
from worker.protocols.select import protocol_of
from worker.router import Router

KEY = "sk-test-0c4b"
#: Where the router is, under its host: a path of its own, which no task may leave.
INSIDE = "/inside"
METADATA_SERVER = "169.254.169.254"
GOOD = whole({})

#: By field: what a value tries, and the value. None of it is ever sent.
REFUSED: dict[str, dict[str, Any]] = {
    "path": {
        "another host": "https://evil.example/v1/x",
        "another host without a scheme": "//evil.example/v1/x",
        "another host behind a user": "/v1/x@evil.example",
        "another host by backslashes": "\\\\evil.example\\v1\\x",
        "another port": ":22/v1/x",
        "the file system": "file:///etc/passwd",
        "no path at all": "",
        "a relative path": "v1/messages",
        "up and out": "/v1/../admin",
        "up and out at the end": "/v1/..",
        "up and out, escaped": "/v1/%2e%2e/admin",
        "up and out, escaped twice": "/v1/%252e%252e/admin",
        "up and out by a backslash": "/v1/..\\admin",
        "up and out by a slash that is escaped": "/v1/..%2fadmin",
        "up and out by a parameter": "/v1/..;/admin",
        "up and out of a model's name": f"{GEMINI}/../../x:generateContent",
        "up and out in full-width dots": "/v1/\uff0e\uff0e/admin",
        "an empty part": "/v1//evil.example/x",
        "another API": "/v2/chat",
        "another API by case": "/V1/chat",
        "another API by an escape": "/%761/../admin",
        "the router's own pages": "/admin",
        "a second request": "/v1/x HTTP/1.1\r\nhost: evil.example\r\n\r\nGET /admin",
        "a line break": "/v1/x\nx-a: b",
        "a line break, escaped": "/v1/x%0d%0ax-a:b",
        "a break by a line separator": "/v1/x\u2028x-a: b",
        "a tab": "/v1/x\tHTTP/1.1",
        "a NUL": "/v1/x\0",
        "a fragment": "/v1/x#y",
        "another address in the query": f"/v1/x?url=http://{METADATA_SERVER}/",
        "a key of its own": "/v1/x?key=mine",
        "a key by another name": "/v1/x?a=b&X-API-Key=mine",
        "a token of its own": "/v1/x?auth_token=mine",
        "a signature": "/v1/x?sig=mine",
        "a password": "/v1/x?password=mine",
        "half a character": "/v1/\ud800",
        "more than any server takes": "/v1/" + "a" * 4096,
    },
    "headers": {
        "a second header": {"x-a": "1\r\nauthorization: Bearer mine"},
        "a second header by a bare line feed": {"x-a": "1\nhost: evil.example"},
        "a second header by a bare return": {"x-a": "1\rhost: evil.example"},
        "a second header by a next-line": {"x-a": "1\x85host: evil.example"},
        "a second header by a line separator": {"x-a": "1\u2028host: evil.example"},
        "a folded header": {"x-a": "1\r\n 2"},
        "a second header in a name": {"x-a: 1\r\nhost": "evil.example"},
        "a body of its own": {"x-a": "1\r\n\r\nGET /admin HTTP/1.1"},
        "a NUL": {"x-a": "1\0"},
        "a name with a colon": {"host:": "evil.example"},
        "a name with a space": {"host ": "evil.example"},
        "a name with a tab": {"\thost": "evil.example"},
        "a pseudo-header": {":path": "/admin"},
        "no name": {"": "1"},
        "a letter that folds into ASCII": {"ho\u017ft": "evil.example"},
        "another host": {"Host": "evil.example"},
        "another key": {"Authorization": "Bearer mine"},
        "another key by an underscore": {"proxy_authorization": "Basic mine"},
        "Google's key": {"X-Goog-Api-Key": "mine"},
        "Azure's key": {"ocp-apim-subscription-key": "mine"},
        "Amazon's token": {"x-amz-security-token": "mine"},
        "a proxy's token": {"X-Auth-Token": "mine"},
        "a cookie": {"cookie": "session=mine"},
        "another vendor": {"vendor": "openai"},
        "another length": {"content-length": "0"},
        "another framing": {"transfer-encoding": "chunked"},
        "another framing by an underscore": {"Transfer_Encoding": "chunked"},
        "another protocol": {"upgrade": "h2c"},
        "a header that the next hop drops": {"connection": "authorization"},
        "another compression": {"content-encoding": "gzip"},
        "a wait": {"expect": "100-continue"},
        "another client's address": {"X-Forwarded-For": "127.0.0.1"},
        "another client's address, by the standard": {"Forwarded": "for=127.0.0.1"},
        "another client's address, by nginx": {"x-real-ip": "127.0.0.1"},
        "another host for a proxy": {"x-forwarded-host": "evil.example"},
        "another scheme for a proxy": {"x_forwarded_proto": "http"},
        "another path for a proxy": {"x-forwarded-prefix": "/admin"},
        "another path for a framework": {"X-Original-URL": "/admin"},
        "another path for a rewriter": {"x-rewrite-url": "/admin"},
        "another method": {"x-http-method-override": "DELETE"},
        "the same header twice": {"x-a": "1", "X-A": "2"},
        "more than any server takes": {f"x-{n}": "v" * 4096 for n in range(64)},
    },
    "vendor": {
        "a second header": "openai\r\nhost: evil.example",
        "a line break at its end": "openai\n",
        "a path": "../openai",
        "another host": "evil.example/v1",
        "a list": "openai,anthropic",
        "a letter that looks like another": "opena\u0456",
        "nothing": "",
        "more than any server takes": "v" * 4096,
    },
    "model": {
        "nothing": "",
        "a list": ["gpt-4o"],
        "a time series of its own, a long one": "m" * 257,
    },
    "image": {
        "the file system": "file:///etc/passwd",
        "a plain connection": "http://example.com/a.png",
        "another scheme": "gopher://example.com/_x",
        "the cloud's metadata": f"https://{METADATA_SERVER}/latest/meta-data",
        "the cloud's metadata by name": "https://metadata.google.internal/",
        "the cloud's metadata as a number": "https://2852039166/",
        "the cloud's metadata in IPv6": f"https://[::ffff:{METADATA_SERVER}]/",
        "this machine": "https://localhost/",
        "this machine, in short": "https://127.1/",
        "this machine, in octal": "https://0177.0.0.1/",
        "this machine behind a user": "https://example.com@127.0.0.1/",
        "this machine behind a backslash": "https://example.com\\@127.0.0.1/",
        "a neighbour in the cluster": "https://redis.default.svc/",
        "a neighbour on the network": "https://10.0.0.1/",
        "a port of a neighbour": "https://192.168.0.1:6379/",
        "a second request": "https://example.com/\r\nhost: evil.example",
        "a page": "data:text/html;base64,PHNjcmlwdD4=",
        "a drawing that runs scripts": "data:image/svg+xml;base64,PHN2Zz48L3N2Zz4=",
    },
    "id": {
        "another key": "x}:events",
        "another slot": "{x}",
        "every key": "*",
        "a line break": "0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c3d\n",
    },
    "tenant": {
        "another tenant's key": "a:b",
        "another key": "x}",
        "a line break": "a\r\n",
    },
    "idempotency_key": {
        "a line break": "a\r\nFLUSHALL",
        "more than a key": "k" * 256,
    },
    "credential": {
        "up and out": "../api-key",
        "another folder": "/etc/passwd",
        "a file that is hidden": ".env",
        "what Kubernetes keeps beside them": "..data",
        "a NUL": "acme\0",
        "a line break": "acme\n",
        "a key itself": "sk-Pr0j4x_" + "a" * 40,
        "nothing": "",
    },
    "metadata": {
        "a store of its own": {"a": "x" * 20_000},
        "a reader's stack": {"a": json.loads("[" * 120 + "]" * 120)},
        "what is no JSON": {"a": float("nan")},
        "half a character": {"a": "\ud800"},
    },
}

#: By field: what a value seems to try, and the value. It is taken, and does nothing.
HARMLESS: dict[str, dict[str, Any]] = {
    "path": {
        "dots that are a name": "/v1/models/...",
        "a host that is a name": "/v1/evil.example:443/x",
        "a query that looks like a path": "/v1/x?next=..&a=b:c,d~e",
        "a query that looks like a host": "/v1/x?host=evil.example:80",
        "a page's token": "/v1/files?page_token=abc&max_tokens=1",
        "a model of any name": f"{GEMINI}:generateContent?alt=json",
    },
    "headers": {
        "a header in a value": {"x-a": "authorization: Bearer mine"},
        "a line break, escaped": {"x-a": "1%0d%0ahost: evil.example"},
        "a request in a value": {"x-a": "GET /admin HTTP/1.1"},
        "another user agent": {"User-Agent": "curl"},
        "another answer": {"Accept": "text/html"},
        "a trace": {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        "an empty value": {"x-a": ""},
    },
    "vendor": {"a host": "evil.example", "a folder": "..", "the future": "brand-new"},
    "model": {
        "a path": "../../admin",
        "a host": "https://evil.example/",
        "a second header": "m\r\nhost: evil.example",
        "a log line": "m\n2030-01-01 info worker completed",
        "a template": "{{7*7}} ${jndi:ldap://evil.example/a}",
        "a terminal": "\x1b[2J",
        "a metric": 'm"} 1\nup 0',
    },
    "image": {
        "a private address in a query": f"https://example.com/?u=http://{METADATA_SERVER}/",
        "a private name that is public": "https://localhost.example.com/",
    },
    "tenant": {"a folder": ".."},
    "idempotency_key": {"another tenant's key": "rw:idem:web:k", "every key": "*", "a slot": "{x}"},
    "metadata": {
        "a header": {"authorization": "Bearer mine"},
        "a prototype": {"__proto__": {"admin": True}, "constructor": {}},
        "a script": {"a": "<script>alert(1)</script>", "b": "'; DROP TABLE tasks; --"},
    },
}
OPTIONS = ("tenant", "idempotency_key", "credential", "metadata")
#: Headers of a call that names none.
ALWAYS = {
    "host", "authorization", "accept", "accept-encoding", "user-agent", "content-type",
    "content-length",
}  # fmt: skip


def rows(table: dict[str, dict[str, Any]]) -> list[Any]:
    return [
        pytest.param(field, value, id=f"{field}: {tries}")
        for field, values in table.items()
        for tries, value in values.items()
    ]


def task_with(field: str, value: Any) -> Json:
    """Write a task that is good but for this field."""
    match field:
        case "path":
            return native(value)
        case "model":
            return chat(model=value)
        case "image":
            return image(value)
        case _ if field in OPTIONS:
            return chat() | {"options": {field: value}}
        case _:
            return chat() | {field: value}


def place_of(field: str) -> str:
    """Return where the contract says that this field is."""
    if field == "image":
        return "request.messages.0.content.1.image_url.url"
    if field == "model":
        return "request.model"
    return f"options.{field}" if field in OPTIONS else field


@pytest.mark.parametrize(("field", "value"), rows(REFUSED))
def test_what_would_reach_further_is_refused_by_its_field_and_not_repeated(
    field: str, value: Any
) -> None:
    with pytest.raises(InvalidTask) as caught:
        parse_task(task_with(field, value)).request_json()
    assert caught.value.field == place_of(field)
    for said in (value, *value.values()) if isinstance(value, dict) else (value,):
        assert len(str(said)) < 5 or str(said) not in str(caught.value)


async def sent(gate: Gate, *calls: Call, answer: Answer = GOOD) -> list[int]:
    """Send calls as a worker does; return the statuses of their answers."""
    router = Router(gate.url + INSIDE, Credentials(KEY, None), 5)
    gate.answer(*[answer] * len(calls))
    statuses = []
    try:
        for call in calls:
            async with router.send(router.authorized(call)) as response:
                await response.read(1_000_000)
                statuses.append(response.status)
    finally:
        await router.close()
    return statuses


def built(task: Task) -> Call:
    return protocol_of(task).build(task, task.request_json(), include_usage=True)


@pytest.mark.parametrize(("field", "value"), rows(HARMLESS))
async def test_what_only_looks_like_it_goes_out_as_a_mere_value(
    gate: Gate, field: str, value: Any
) -> None:
    task = parse_task(task_with(field, value))
    await sent(gate, built(task))
    (request,) = gate.requests
    place = task.path if task.kind == "native" else "/v1/chat/completions"
    assert (request.method, request.path) == ("POST", INSIDE + place)
    assert request.headers["host"] == gate.url.removeprefix("http://")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["accept"] == "application/json"
    named = {name.lower() for name in task.headers} | {"vendor"} & request.headers.keys()
    assert request.headers.keys() == ALWAYS | named
    assert request.json == task.request
    if field == "vendor":
        assert request.headers["vendor"] == value


@given(st.text(max_size=40) | st.from_regex(r"/(v1|api/v3)/[!-~]{0,30}", fullmatch=True))
def test_any_path_that_is_taken_stays_under_the_router_as_it_was_written(path: str) -> None:
    base = f"https://router.example{INSIDE}"
    try:
        task = parse_task(native(path))
    except InvalidTask:
        return
    url = httpx.URL(base + built(task).path)
    assert (url.scheme, url.host, url.userinfo) == ("https", "router.example", b"")
    assert url.raw_path.decode().startswith(f"{INSIDE}/")
    assert url.raw_path.decode() == INSIDE + path


# --- and what a router tries ----------------------------------------------------------------------

#: What an answer tries, and the answer.
ANSWERS = {
    "to be asked elsewhere": whole({}, 307, location="/elsewhere"),
    "to be asked on another host": whole({}, 302, location="https://evil.example/"),
    "to be known again": whole({}, set_cookie="session=1; Path=/"),
    "to be asked for a password": whole({}, 401, www_authenticate="Basic realm=x"),
    "to move for good": whole({}, alt_svc='h2="evil.example:443"'),
}


@pytest.mark.parametrize("tries", ANSWERS)
async def test_an_answer_moves_no_later_call(gate: Gate, tries: str) -> None:
    call = built(parse_task(chat()))
    first, second = await sent(gate, call, call, answer=ANSWERS[tries])
    assert first == second
    assert len(gate.requests) == 2, "nothing was followed"
    before, after = gate.requests
    assert (before.path, before.headers, before.body) == (after.path, after.headers, after.body)


async def test_a_proxy_that_the_environment_names_does_not_get_the_key(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker's environment may be its platform's; whoever wants a proxy points BASE_URL at it."""
    other = Gate()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, other.url)
    try:
        await sent(gate, built(parse_task(chat())))
    finally:
        other.close()
    assert (len(gate.requests), other.requests) == (1, [])
