"""The simulator over HTTP: what it asks of a call, and how it refuses one."""

from typing import Any

import httpx
import pytest

from tests.simulator.calls import CALLS, CHAT, CLAUDE, GOOGLE, NATIVE, VIDEOS, is_error


@pytest.mark.parametrize("key", [None, "", "Bearer", "Basic abc"])
@pytest.mark.parametrize(("path", "body"), CALLS)
def test_a_call_without_a_key_is_refused_in_its_dialect(
    simulator: str, path: str, body: Any, key: str | None
) -> None:
    headers = NATIVE if key is None else {**NATIVE, "Authorization": key}
    answer = httpx.post(simulator + path, json=body, headers=headers, trust_env=False, timeout=60)
    assert answer.status_code == 401
    assert is_error(path, answer.json(), 401)
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(("path", "body"), CALLS)
def test_a_native_call_needs_a_vendor_and_the_others_do_not(
    router: httpx.Client, path: str, body: Any
) -> None:
    answer = router.post(path, json=body)
    if path in ("/v1/chat/completions", "/v1/embeddings"):
        assert answer.status_code == 200
        return
    assert answer.status_code == 400
    assert is_error(path, answer.json(), 400)
    assert "vendor" in answer.text


@pytest.mark.parametrize(("path", "body"), CALLS)
@pytest.mark.parametrize(
    "wrong", [b"", b"{", b"[]", b'"text"', b"[" * 100_000, b"{}", b'{"model": 3}']
)
def test_a_body_that_is_none_is_refused_in_its_dialect(
    router: httpx.Client, path: str, body: Any, wrong: bytes
) -> None:
    answer = router.post(path, content=wrong, headers=NATIVE)
    assert answer.status_code == 400
    assert is_error(path, answer.json(), 400)


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
USER = {"role": "user", "content": "Hello"}
TOOL = {"name": "t", "input_schema": {}}


@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        ("/v1/chat/completions", {"temperature": 3}, "temperature"),
        ("/v1/chat/completions", {"messages": []}, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "robot"}]}, "messages.0.role"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [IMAGE]}]}, "image"),
        (
            "/v1/chat/completions",
            {"messages": [USER, {"role": "tool", "tool_call_id": "x", "content": "1"}]},
            "messages.1.tool_call_id",
        ),
        ("/v1/chat/completions", {"stop": list("abcde")}, "stop"),
        ("/v1/chat/completions", {"tools": [{"type": "function"}]}, "tools.0.function"),
        (
            "/v1/chat/completions",
            {"tool_choice": {"type": "function", "function": {"name": "no"}}},
            "tool_choice",
        ),
        ("/v1/messages", {"max_tokens": None}, "max_tokens"),
        ("/v1/messages", {"temperature": 1.5}, "temperature"),
        ("/v1/messages", {"thinking": {"type": "enabled"}}, "budget_tokens"),
        ("/v1/messages", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, "max_tokens"),
        (
            "/v1/messages",
            {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
            "tool_use_id",
        ),
        (
            "/v1/messages",
            {
                "messages": [
                    USER,
                    {
                        "role": "assistant",
                        "content": [{"type": "thinking", "thinking": "a", "signature": "b"}],
                    },
                    USER,
                ]
            },
            "signature",
        ),
        (
            "/v1/messages",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "base64", "data": "!"}}],
                    }
                ]
            },
            "base64",
        ),
        ("/v1/messages", {"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice"),
        (f"{GOOGLE}:generateContent", {"contents": []}, "contents"),
        (f"{GOOGLE}:generateContent", {"contents": [{"parts": []}]}, "contents.0.parts"),
        (f"{GOOGLE}:generateContent", {"generationConfig": {"maxOutputTokens": 0}}, "maxOutput"),
        (
            f"{GOOGLE}:generateContent",
            {"safetySettings": [{"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "SOME"}]},
            "safetySettings.0.threshold",
        ),
        (
            f"{GOOGLE}:generateContent",
            {"contents": [{"parts": [{"inlineData": {"data": "AAAA"}}]}]},
            "inlineData",
        ),
    ],
)
def test_a_wrong_field_is_refused_by_name_in_its_dialect(
    router: httpx.Client, path: str, change: Any, says: str
) -> None:
    body = next(body for other, body in CALLS if other == path)
    answer = router.post(path, json={**body, **change}, headers=NATIVE)
    assert answer.status_code == 400, answer.text
    assert is_error(path, answer.json(), 400)
    assert says in answer.text


def test_an_unknown_vendor_is_refused_and_auto_is_none(router: httpx.Client) -> None:
    def status(vendor: str) -> int:
        call = router.post("/v1/chat/completions", json=CHAT, headers={"vendor": vendor})
        return call.status_code

    assert [status("auto"), status("mistral"), status("nobody")] == [200, 200, 400]


def test_claude_needs_a_version(simulator: str) -> None:
    headers = {"Authorization": "Bearer k", "vendor": "anthropic"}
    with httpx.Client(base_url=simulator, trust_env=False, timeout=60) as client:
        answer = client.post("/v1/messages", json=CLAUDE, headers=headers)
    assert answer.status_code == 400
    assert "anthropic-version" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/nothing", 404),
        ("POST", "/v1/messages/batches", 404),
        ("POST", f"{GOOGLE}:countTokens", 404),
        ("GET", f"{VIDEOS}/cgt-unknown", 404),
        ("GET", "/v1/chat/completions", 405),
        ("PUT", "/v1/messages", 405),
        ("GET", f"{GOOGLE}:generateContent", 405),
        ("DELETE", VIDEOS, 405),
    ],
)
def test_a_wrong_path_or_method_is_refused_in_the_paths_dialect(
    router: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = router.request(method, path, headers=NATIVE)
    assert answer.status_code == status
    assert is_error(path, answer.json(), status)
    assert ("Allow" in answer.headers) is (status == 405)


def test_a_body_over_the_limit_is_refused(router: httpx.Client) -> None:
    answer = router.post("/v1/messages", content=b" " * (34 * 1024 * 1024), headers=NATIVE)
    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "request_too_large"
