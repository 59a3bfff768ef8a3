"""A task: what the router shall be asked, and how.

The body in ``request`` belongs to the router. It is checked where its documentation sets bounds,
and passed on with every field that it had, known or not. Our own envelope is closed: a field
that nobody knows is a mistake, and is refused.
"""

from __future__ import annotations

import re
import uuid
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from api_contracts import jsontext
from api_contracts.chat import WITH_IMAGE, ChatParameters, image_urls
from api_contracts.errors import InvalidTask
from api_contracts.fields import Headers, NativePath
from api_contracts.names import CeleryTask
from api_contracts.options import Closed, Options

#: Largest body for the router, in bytes of JSON: one 20 MiB picture in base64, and some text.
BODY_LIMIT = 32 * 1024 * 1024

_ID: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


def new_id() -> str:
    """Make a task id: a random UUID, so that nobody can guess another tenant's."""
    return str(uuid.uuid4())


def _canonical_uuid(value: object) -> object:
    """Take a UUID, written the one way that keys are made of."""
    text = str(value) if isinstance(value, uuid.UUID) else value
    if isinstance(text, str) and re.fullmatch(_ID, text):
        return text
    message = "must be a UUID in lower-case, such as 0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c3d"
    raise ValueError(message)


TaskId = Annotated[str, Field(pattern=_ID), BeforeValidator(_canonical_uuid)]


def _check_request(request: dict[str, Any]) -> dict[str, Any]:
    jsontext.check(request)
    return request


#: The body for the router, untouched.
Body = Annotated[dict[str, Any], AfterValidator(_check_request)]


class _ShownAsChat:
    """Shows a chat body in JSON Schema with its documented parameters."""

    @staticmethod
    def __get_pydantic_json_schema__(
        _: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(ChatParameters.__pydantic_core_schema__)


class _Envelope(Closed):
    """What the three kinds of task have in common."""

    id: TaskId = Field(
        default_factory=new_id,
        description="Made by the producer, so that it can subscribe first; else by the worker.",
    )
    request: Body = Field(description="The body for the router, untouched.")
    vendor: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = Field(
        default="auto", description="Who shall answer; `auto`: whom the router picks."
    )
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
            body = jsontext.write(self.request)
        except ValueError as error:
            raise InvalidTask("request", str(error)) from None
        if len(body) > BODY_LIMIT:
            text = f"the body has {len(body)} bytes; at most {BODY_LIMIT} are taken"
            raise InvalidTask("request", text)
        return body


class _ChatEnvelope(_Envelope):
    """Checks of an OpenAI-compatible chat request."""

    request: Annotated[Body, _ShownAsChat] = Field(
        description="The body for the router, untouched."
    )

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


#: What :meth:`VisionTask._check_image` asks for, in JSON Schema.
_VISION_SCHEMA: Final[dict[str, Any]] = {
    "allOf": [
        {"properties": {"request": {"properties": {"messages": WITH_IMAGE}}}},
    ]
}


class VisionTask(_ChatEnvelope):
    """A chat completion that shows the model at least one picture."""

    model_config = ConfigDict(json_schema_extra=_VISION_SCHEMA)

    kind: Literal["vision"] = "vision"

    @model_validator(mode="after")
    def _check_image(self) -> Self:
        if not any(True for message in self.request["messages"] for _ in image_urls(message)):
            raise InvalidTask("request.messages", "a vision task needs an image_url part")
        return self


#: What :meth:`NativeTask._check` asks for, in JSON Schema, but for the streams.
_NATIVE_SCHEMA: Final[dict[str, Any]] = {
    "if": {"properties": {"method": {"const": "GET"}}, "required": ["method"]},
    "then": {"properties": {"request": {"maxProperties": 0}}},
    "else": {"properties": {"request": {"minProperties": 1}}},
}


class NativeTask(_Envelope):
    """A call in a provider's own language, passed through to ``path``."""

    model_config = ConfigDict(json_schema_extra=_NATIVE_SCHEMA)

    kind: Literal["native"] = "native"
    path: NativePath
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
