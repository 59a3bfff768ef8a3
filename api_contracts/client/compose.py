"""Make tasks of plain arguments: the signatures that both clients share.

Pure, but for the reading of a picture's file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from api_contracts.content import IMAGE_LIMIT, image_url
from api_contracts.errors import InvalidTask
from api_contracts.options import Options
from api_contracts.requests import Task, parse_task

Image = str | bytes | Path
OptionsLike = Options | Mapping[str, Any] | None


def chat_task(
    model: str,
    messages: Iterable[Mapping[str, Any]],
    *,
    vendor: str = "auto",
    headers: Mapping[str, str] | None = None,
    options: OptionsLike = None,
    id: str | None = None,  # noqa: A002 - the field's own name in the contract
    **parameters: Any,
) -> Task:
    """Make a chat task. ``parameters`` are the OpenAI ones by their own names.

    InvalidTask names the first field that is wrong.
    """
    request = {"model": model, "messages": [dict(one) for one in messages], **parameters}
    return _task({"kind": "chat", "request": request}, id, vendor, headers, options)


def vision_task(
    model: str,
    prompt: str,
    images: Iterable[Image],
    *,
    detail: str | None = None,
    image_limit: int = IMAGE_LIMIT,
    vendor: str = "auto",
    headers: Mapping[str, str] | None = None,
    options: OptionsLike = None,
    id: str | None = None,  # noqa: A002 - the field's own name in the contract
    **parameters: Any,
) -> Task:
    """Make a task that asks about pictures: https URLs, data URLs, bytes or local paths.

    ``detail`` is OpenAI's (``low``, ``high``, ``auto``). InvalidTask names the picture that is
    none, too large (``image_limit`` bytes) or not readable.
    """
    content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
    for index, image in enumerate(images):
        try:
            url = {"url": image_url(image, image_limit)}
        except (ValueError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise InvalidTask(f"images.{index}", reason or str(error)) from error
        part = url | ({"detail": detail} if detail else {})
        content.append({"type": "image_url", "image_url": part})
    messages = [{"role": "user", "content": content}]
    request = {"model": model, "messages": messages, **parameters}
    return _task({"kind": "vision", "request": request}, id, vendor, headers, options)


def native_task(
    path: str,
    request: Mapping[str, Any] | None = None,
    *,
    method: str = "POST",
    vendor: str = "auto",
    headers: Mapping[str, str] | None = None,
    options: OptionsLike = None,
    id: str | None = None,  # noqa: A002 - the field's own name in the contract
) -> Task:
    """Make a task of a provider's own call, passed through to ``path``."""
    task = {"kind": "native", "request": dict(request or {}), "path": path, "method": method}
    return _task(task, id, vendor, headers, options)


def checked(task: Task | Mapping[str, Any]) -> Task:
    """Return a task that a caller has made, or has written as a mapping; InvalidTask likewise."""
    return parse_task(dict(task)) if isinstance(task, Mapping) else task


def _task(
    task: dict[str, Any],
    task_id: str | None,
    vendor: str,
    headers: Mapping[str, str] | None,
    options: OptionsLike,
) -> Task:
    task |= {"vendor": vendor, "headers": dict(headers or {})}
    task["options"] = options if isinstance(options, Options) else dict(options or {})
    if task_id is not None:
        task["id"] = task_id
    return parse_task(task)
