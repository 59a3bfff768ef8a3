"""The documented part of an OpenAI-compatible chat request, for checking only.

The body itself is never rebuilt: what stands in none of these fields passes unseen. Bounds are
the router's own (its chat guide, "Parameters").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from api_contracts.content import check_image_url
from api_contracts.errors import InvalidTask

#: A part of a message that shows a picture, as JSON Schema says it.
_IMAGE_PART: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"const": "image_url"}},
}
_IMAGE_URL: Final[dict[str, Any]] = {
    "type": "string",
    "pattern": "^([Hh][Tt][Tt][Pp][Ss]://|[Dd][Aa][Tt][Aa]:[Ii][Mm][Aa][Gg][Ee]/)",
    "description": "An https URL of a public host, without user or password and of at most "
    "8192 characters, or data:image/TYPE;base64,… with a PNG, JPEG, WebP or GIF picture of at "
    "most 20 MiB.",
}
_MESSAGE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"type": "string"},
        "content": {
            "description": "A text or an array of parts, as the router takes it.",
            "items": {
                "if": _IMAGE_PART,
                "then": {
                    "required": ["image_url"],
                    "properties": {
                        "image_url": {
                            "type": "object",
                            "required": ["url"],
                            "properties": {"url": _IMAGE_URL},
                        }
                    },
                },
            },
        },
    },
}
#: Messages of which at least one shows a picture.
WITH_IMAGE: Final[dict[str, Any]] = {
    "contains": {
        "required": ["content"],
        "properties": {"content": {"type": "array", "contains": _IMAGE_PART}},
    }
}


def _check_stop(stop: object) -> object:
    """Speak for both branches of the union: pydantic would report the first one alone."""
    if isinstance(stop, list) and len(stop) <= 4 and all(isinstance(one, str) for one in stop):  # noqa: PLR2004 - the guide's number, in the message too
        return stop
    if stop is None or isinstance(stop, str):
        return stop
    message = "must be a string or an array of at most 4 strings"
    raise ValueError(message)


def _check_tool_choice(choice: object) -> object:
    if choice is None or isinstance(choice, (str, dict)):
        return choice
    message = "must be a string or an object"
    raise ValueError(message)


def _check_logit_bias(bias: object) -> object:
    """Stop at the first fault: pydantic would list every one of a million."""
    if bias is None:
        return bias
    if isinstance(bias, dict) and all(type(number) in (int, float) for number in bias.values()):
        return bias
    message = "must be an object whose values are numbers"
    raise ValueError(message)


class ChatParameters(BaseModel):
    """The documented parameters of a chat request; others are allowed and pass unchanged."""

    model_config = ConfigDict(
        extra="ignore",
        strict=True,
        hide_input_in_errors=True,
        json_schema_extra={"additionalProperties": True},
    )

    model: Annotated[str, Field(min_length=1, max_length=256)]
    messages: Annotated[
        list[Annotated[Any, WithJsonSchema(_MESSAGE)]], Field(min_length=1, repr=False)
    ]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stream: bool | None = None
    stop: Annotated[
        str | Annotated[list[str], Field(max_length=4)] | None, BeforeValidator(_check_stop)
    ] = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)] | None = None
    logit_bias: Annotated[dict[str, float] | None, BeforeValidator(_check_logit_bias)] = None
    user: str | None = None
    tool_choice: Annotated[str | dict[str, Any] | None, BeforeValidator(_check_tool_choice)] = None
    tools: Annotated[list[dict[str, Any]], Field(fail_fast=True)] | None = None

    @model_validator(mode="after")
    def _check_messages(self) -> Self:
        for index, message in enumerate(self.messages):
            place = f"messages.{index}"
            if not isinstance(message, dict):
                raise InvalidTask(place, "must be an object")
            if not isinstance(message.get("role"), str):
                raise InvalidTask(f"{place}.role", "must be a string")
            for part, url in image_urls(message):
                _check_image(f"{place}.content.{part}.image_url.url", url)
        return self


def _check_image(field: str, url: object) -> None:
    if not isinstance(url, str):
        raise InvalidTask(field, "must be a string")
    try:
        check_image_url(url)
    except ValueError as error:
        raise InvalidTask(field, str(error)) from None


def image_urls(message: dict[str, Any]) -> Iterator[tuple[int, object]]:
    """Yield the place and the URL of each ``image_url`` part of a message."""
    content = message.get("content")
    for place, part in enumerate(content if isinstance(content, list) else ()):
        if isinstance(part, dict) and part.get("type") == "image_url":
            image = part.get("image_url")
            yield place, image.get("url") if isinstance(image, dict) else None
