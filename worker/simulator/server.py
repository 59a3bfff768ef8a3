"""The simulator's HTTP shell: routes, and the playing of steps."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final, Protocol

from aiohttp import web

from worker.simulator import anthropic, embeddings, gemini, openai, pages
from worker.simulator.admission import (
    CALL_ID,
    FAULT,
    JOURNAL,
    STATE,
    Errors,
    State,
    admit,
    errors_of,
)
from worker.simulator.compose import compose
from worker.simulator.conversation import Answer, Frame, JsonObject, Prompt, Refused, encode
from worker.simulator.faults import Faults
from worker.simulator.steps import (
    Cut,
    Framing,
    Pace,
    Send,
    Step,
    Wait,
    stream_steps,
    whole_body,
    whole_steps,
)

#: Where Gemini's models live.
GOOGLE: Final = "/v1/projects/cognition/locations/us/publishers/google/models"
_VIDEOS: Final = "/api/v3/contents/generations/tasks"
#: Largest body, in bytes: what the worker sends at most, and some room.
_BODY_LIMIT = 33 * 1024 * 1024
#: Seconds that open streams get to end when the simulator is stopped.
_SHUTDOWN_S: Final = 1.0

_OPENAI: Final = Framing(opening=b": PROCESSING\n\n")
_ANTHROPIC: Final = Framing(named=True)
_GEMINI: Final = Framing(trail=b"\r\n\r\n")
_GEMINI_ARRAY: Final = Framing("application/json", b"[", b"", b"", b"\n,\r\n", b"]")


class Dialect(Errors, Protocol):
    """One of the three languages: its modules have these functions."""

    def read(self, body: JsonObject) -> Prompt:
        """Read a request; Refused(400) where it is none."""

    def whole(self, answer: Answer) -> JsonObject:
        """Write an answer in one piece."""

    def frames(self, answer: Answer) -> tuple[Frame, ...]:
        """Write an answer as the frames of a stream."""


def application(pace: Pace) -> web.Application:
    """Build the simulator."""
    app = web.Application(middlewares=[_shaped], client_max_size=_BODY_LIMIT)
    app[STATE] = State(pace)
    app.on_response_prepare.append(_note)
    app.add_routes([
        web.get("/", _index),
        web.get("/journal", _journal),
        web.post("/v1/chat/completions", _chat),
        web.post("/v1/embeddings", _embeddings),
        web.post("/v1/messages", _messages),
        web.post(GOOGLE + "/{model:[^/:]+}:{verb:generateContent|streamGenerateContent}", _google),
        web.post(_VIDEOS, _create_video),
        web.get(_VIDEOS + "/{id}", _poll_video),
    ])  # fmt: skip
    return app


@web.middleware
async def _shaped(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Give the call its id, and every refusal the shape of the path's dialect."""
    request[CALL_ID] = uuid.uuid4().hex
    try:
        return await handler(request)
    except Refused as error:
        refused = error
    except web.HTTPClientError as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        text = f"{error.reason}: {request.method} {request.path}; see / for what there is"
        refused = Refused(error.status, text, headers=allow)
    body = errors_of(request.path).error(refused, request[CALL_ID])
    return web.Response(
        status=refused.status,
        headers=refused.headers,
        body=encode(body),
        content_type="application/json",
    )


async def _note(request: web.Request, response: web.StreamResponse) -> None:
    """Name the call in its response, and write it into the journal."""
    call_id = request[CALL_ID]
    response.headers["x-request-id"] = call_id
    if request.path in ("/", "/journal"):
        return
    request.app[STATE].journal.append(
        {
            "at": round(time.time(), 3),
            "method": request.method,
            "path": request.path,
            "vendor": request.headers.get("vendor"),
            "status": response.status,
            "fault": request.get(FAULT),
            "request_id": call_id,
        }
    )


async def _index(request: web.Request) -> web.Response:
    return web.Response(text=pages.index(str(request.url.origin()), GOOGLE, JOURNAL))


async def _journal(request: web.Request) -> web.Response:
    return web.json_response(list(request.app[STATE].journal))


async def _chat(request: web.Request) -> web.StreamResponse:
    ordered, body = await admit(request)
    framing = _OPENAI if body.get("stream") is True else None
    return await _answer(request, openai, body, ordered, framing)


async def _messages(request: web.Request) -> web.StreamResponse:
    ordered, body = await admit(request)
    if "anthropic-version" not in request.headers:
        raise Refused(400, "anthropic-version: header is required, such as 2023-06-01")
    framing = _ANTHROPIC if body.get("stream") is True else None
    return await _answer(request, anthropic, body, ordered, framing)


async def _google(request: web.Request) -> web.StreamResponse:
    ordered, body = await admit(request)
    body["model"] = request.match_info["model"]
    framing = _GEMINI if request.query.get("alt") == "sse" else _GEMINI_ARRAY
    streamed = request.match_info["verb"] == "streamGenerateContent"
    return await _answer(request, gemini, body, ordered, framing if streamed else None)


async def _embeddings(request: web.Request) -> web.StreamResponse:
    ordered, body = await admit(request)
    return await _whole(request, embeddings.embed(body), ordered)


async def _create_video(request: web.Request) -> web.StreamResponse:
    ordered, body = await admit(request)
    videos = request.app[STATE].videos
    return await _whole(request, videos.create(body, request[CALL_ID], int(time.time())), ordered)


async def _poll_video(request: web.Request) -> web.StreamResponse:
    ordered, _ = await admit(request)
    videos = request.app[STATE].videos
    return await _whole(request, videos.poll(request.match_info["id"], int(time.time())), ordered)


async def _whole(request: web.Request, answer: JsonObject, ordered: Faults) -> web.StreamResponse:
    """Answer in one piece."""
    if ordered.no_finish:
        raise Refused(400, "x-simulate: no-finish needs a stream")
    body = whole_body(encode(answer), encode(_overloaded(request)), ordered)
    response = web.StreamResponse()
    response.content_type = "application/json"
    response.content_length = len(body)
    return await _play(request, response, whole_steps(body, ordered, request.app[STATE].pace))


def _overloaded(request: web.Request) -> JsonObject:
    """Write the error that comes inside an answer which began well."""
    dialect = errors_of(request.path)
    return dialect.error(Refused(dialect.OVERLOADED, "Overloaded"), request[CALL_ID])


async def _answer(
    request: web.Request,
    dialect: Dialect,
    body: JsonObject,
    ordered: Faults,
    framing: Framing | None,
) -> web.StreamResponse:
    """Answer a prompt, as a stream where there is a framing for one."""
    prompt = dialect.read(body)
    replies = tuple(compose(prompt, choice) for choice in range(prompt.choices))
    answer = Answer(request[CALL_ID], int(time.time()), prompt, replies)
    if framing is None:
        return await _whole(request, dialect.whole(answer), ordered)
    error = Frame.of(_overloaded(request))
    pace = request.app[STATE].pace
    response = web.StreamResponse(headers={"Cache-Control": "no-cache"})
    response.content_type = framing.content_type
    return await _play(
        request, response, stream_steps(dialect.frames(answer), framing, error, ordered, pace)
    )


async def _play(
    request: web.Request, response: web.StreamResponse, steps: Iterable[Step]
) -> web.StreamResponse:
    """Do the steps, one after the other; stop where the caller has gone."""
    await response.prepare(request)
    for step in steps:
        match step:
            case Send(data):
                await response.write(data)
            case Wait(seconds):
                await asyncio.sleep(seconds)
            case Cut():
                if request.transport is not None:
                    request.transport.close()
                return response
    await response.write_eof()
    return response


@asynccontextmanager
async def serving(host: str, port: int, pace: Pace) -> AsyncIterator[str]:
    """Serve while the block runs; gives the URL. OSError where the port cannot be had.

    Port 0 is any free one.
    """
    runner = web.AppRunner(
        application(pace),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=_SHUTDOWN_S,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        name = f"[{host}]" if ":" in host else host
        yield f"http://{name}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def serve(host: str, port: int, pace: Pace) -> None:
    """Serve until SIGINT or SIGTERM; writes the URL to standard output when it is up."""
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with serving(host, port, pace) as url:
        sys.stdout.write(f"the simulator listens on {url}\n")
        sys.stdout.flush()
        await stop.wait()


def run(host: str, port: int, pace: Pace) -> None:
    """Do :func:`serve` in a loop of its own. OSError where the port cannot be had."""
    asyncio.run(serve(host, port, pace))
