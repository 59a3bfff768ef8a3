"""A task: what the router shall be asked, and how.

The body in ``request`` belongs to the router. It is checked where its documentation sets bounds,
and passed on with every field that it had, known or not. Our own envelope is closed: a field
that nobody knows is a mistake, and is refused.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from api_contracts.content import check_image_url
from api_contracts.errors import InvalidTask
from api_contracts.names import CeleryTask
from api_contracts.options import Options

#: Largest body for the router, in bytes of JSON: one 20 MiB picture in base64, and some text.
BODY_LIMIT = 32 * 1024 * 1024
#: Native calls go nowhere else under the router's base URL.
NATIVE_PREFIXES: Final = ("/v1/", "/api/v3/")
#: Longest native path with its query, in characters; the longest documented has about 120.
PATH_LIMIT = 512

#: Headers that a task must not set: credentials and routing are the worker's, and the others
#: describe one connection, not the request (RFC 9110, 7.6.1).
REFUSED_HEADERS: Final = frozenset({
    "authorization", "proxy-authorization", "proxy-authenticate", "cookie", "x-api-key",
    "api-key", "x-goog-api-key", "vendor", "host", "connection", "keep-alive", "te", "trailer",
    "transfer-encoding", "upgrade", "proxy-connection", "content-length", "content-type",
    "content-encoding", "accept-encoding", "expect",
})  # fmt: skip
#: Query names that carry a key: it would stand in records and logs.
_SECRET_QUERY = re.compile(r"[?&](key|api_key|apikey|access_token|token)=", re.IGNORECASE)
_PATH = re.compile(r"/[A-Za-z0-9._~:/-]+(\?[A-Za-z0-9._~=&,:-]*)?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,4096}")


def new_id() -> str:
    """Make a task id: a random UUID, so that nobody can guess another tenant's."""
    return str(uuid.uuid4())


def _canonical_uuid(value: object) -> object:
    """Write a UUID the one way that keys are made of; leave the rest to the type check."""
    return str(value) if isinstance(value, uuid.UUID) else value


TaskId = Annotated[
    str,
    BeforeValidator(_canonical_uuid),
    Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"),
]


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            message = "a header name has characters that no header name has"
            raise ValueError(message)
        if name.lower() in REFUSED_HEADERS:
            message = f"the header {name.lower()} is not a task's to set"
            raise ValueError(message)
        if not _HEADER_VALUE.fullmatch(value):
            message = f"the value of {name.lower()} has a line break or is not printable ASCII"
            raise ValueError(message)
    return headers


Headers = Annotated[dict[str, str], AfterValidator(_check_headers)]


class ChatParameters(BaseModel):
    """The documented fields of a chat request, for checking only: the body is never rebuilt.

    Bounds are the router's (its chat guide, "Parameters"). Everything else passes unseen.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    model: Annotated[str, Field(min_length=1, max_length=256)]
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stream: bool | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    tool_choice: str | dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for index, message in enumerate(self.messages):
            if not isinstance(message.get("role"), str):
                raise InvalidTask(f"messages.{index}.role", "must be a string")
            for place, url in _image_urls(message):
                field = f"messages.{index}.content.{place}.image_url.url"
                if not isinstance(url, str):
                    raise InvalidTask(field, "must be a string")
                try:
                    check_image_url(url)
                except ValueError as error:
                    raise InvalidTask(field, str(error)) from None
        return self


def _image_urls(message: dict[str, Any]) -> Iterator[tuple[int, object]]:
    """Yield the place and the URL of each ``image_url`` part of a message."""
    content = message.get("content")
    for place, part in enumerate(content if isinstance(content, list) else ()):
        if isinstance(part, dict) and part.get("type") == "image_url":
            image = part.get("image_url")
            yield place, image.get("url") if isinstance(image, dict) else None


class _Envelope(BaseModel):
    """What the three kinds of task have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    id: TaskId = Field(default_factory=new_id)
    request: dict[str, JsonValue] = Field(description="The body for the router, untouched.")
    vendor: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "auto"
    headers: Headers = Field(default_factory=dict, description="Extra headers for the router.")
    options: Options = Field(default_factory=Options)

    def __repr__(self) -> str:
        """Show what identifies the task, never what it says."""
        return f"{type(self).__name__}(id={self.id!r})"

    __str__ = __repr__

    @property
    def model(self) -> str | None:
        """The model asked for, where the body names it."""
        model = self.request.get("model")
        return model if isinstance(model, str) else None

    @property
    def streaming(self) -> bool:
        """Whether the answer comes in pieces: as the options say, else as the body says."""
        if self.options.stream is not None:
            return self.options.stream
        return self.request.get("stream") is True

    def _check_stream(self) -> None:
        asked, body = self.options.stream, self.request.get("stream")
        if asked is not None and body is not None and asked is not body:
            raise InvalidTask("options.stream", "contradicts request.stream")

    def request_json(self) -> bytes:
        """Write the body as compact JSON; InvalidTask where it is over :data:`BODY_LIMIT`."""
        try:
            body = json.dumps(
                self.request, ensure_ascii=False, separators=(",", ":"), allow_nan=False
            ).encode()
        except (ValueError, UnicodeEncodeError):
            raise InvalidTask("request", "holds what JSON cannot say") from None
        if len(body) > BODY_LIMIT:
            text = f"the body has {len(body)} bytes; at most {BODY_LIMIT} are taken"
            raise InvalidTask("request", text)
        return body


class _ChatEnvelope(_Envelope):
    """Checks of an OpenAI-compatible chat request."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            ChatParameters.model_validate(self.request)
        except ValidationError as error:
            raise InvalidTask.of(error, under="request.") from None
        self._check_stream()
        return self


class ChatTask(_ChatEnvelope):
    """A chat completion: ``POST /v1/chat/completions``."""

    kind: Literal["chat"] = "chat"


class VisionTask(_ChatEnvelope):
    """A chat completion that shows the model at least one picture."""

    kind: Literal["vision"] = "vision"

    @model_validator(mode="after")
    def _check_image(self) -> Self:
        messages: Any = self.request["messages"]
        if not any(True for message in messages for _ in _image_urls(message)):
            raise InvalidTask("request.messages", "a vision task needs an image_url part")
        return self


def _check_path(path: str) -> str:
    if len(path) > PATH_LIMIT or not _PATH.fullmatch(path):
        text = "must be a plain path, without escapes, `@` or other special characters"
        raise ValueError(text)
    segments = path.partition("?")[0].split("/")[1:]
    if any(segment in ("", ".", "..") for segment in segments):
        text = "must not have empty, `.` or `..` parts"
        raise ValueError(text)
    if not path.startswith(NATIVE_PREFIXES):
        text = f"must begin with {' or '.join(NATIVE_PREFIXES)}"
        raise ValueError(text)
    if _SECRET_QUERY.search(path):
        text = "must not carry a key: the worker adds its own"
        raise ValueError(text)
    return path


class NativeTask(_Envelope):
    """A call in a provider's own language, passed through to ``path``."""

    kind: Literal["native"] = "native"
    path: Annotated[str, AfterValidator(_check_path)]
    method: Literal["POST", "GET"] = Field(
        default="POST", description="GET is for polling, as video tasks need; its body is empty."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.method == "GET" and (self.request or self.streaming):
            raise InvalidTask("method", "a GET has neither a body nor a stream")
        if self.method == "POST" and not self.request:
            raise InvalidTask("request", "the body is empty")
        self._check_stream()
        if self.options.stream is False and ":streamGenerateContent" in self.path:
            raise InvalidTask("options.stream", "contradicts the path")
        return self

    @property
    def model(self) -> str | None:
        """The model asked for: in the body, or for Gemini in the path."""
        found = re.search(r"/models/([^/:?]+):", self.path)
        return found.group(1) if found else super().model

    @property
    def streaming(self) -> bool:
        """As for the others; Gemini says it in the path."""
        return ":streamGenerateContent" in self.path or super().streaming


Task = ChatTask | VisionTask | NativeTask

_KINDS: dict[str, type[ChatTask | VisionTask | NativeTask]] = {
    "chat": ChatTask,
    "vision": VisionTask,
    "native": NativeTask,
}
CELERY_TASKS: Final = {
    "chat": CeleryTask.CHAT,
    "vision": CeleryTask.VISION,
    "native": CeleryTask.NATIVE,
}


def parse_task(task: object) -> Task:
    """Check a task that came as JSON object; InvalidTask names the field and the reason."""
    if not isinstance(task, dict):
        raise InvalidTask("task", "must be a JSON object")
    kind = task.get("kind")
    model = _KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise InvalidTask("kind", f"must be one of {', '.join(_KINDS)}")
    try:
        return model.model_validate(task)
    except ValidationError as error:
        raise InvalidTask.of(error) from None
