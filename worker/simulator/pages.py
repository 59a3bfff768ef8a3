"""The page at ``/``: what can be tried."""

from __future__ import annotations

from worker.simulator.faults import WORDS

_HEAD = """\
A router to try things on. It answers as the router does, and nobody pays for it.

    POST /v1/chat/completions                     chat, vision, tools, streams
    POST /v1/embeddings
    POST /v1/messages                             Claude, native
    POST {google}/
           MODEL:generateContent                  Gemini, native
           MODEL:streamGenerateContent            with ?alt=sse, or else one JSON array
    POST /api/v3/contents/generations/tasks       video: create
    GET  /api/v3/contents/generations/tasks/ID    video: poll, three times
    GET  /journal                                 the last {journal} calls

Every call needs `Authorization: Bearer KEY`, with any key. Native calls need a `vendor`, and
Claude's an `anthropic-version`.

    curl -N {url}/v1/chat/completions -H 'Authorization: Bearer k' \\
      -H 'Content-Type: application/json' -d '{{"model": "gpt-4o", "stream": true,
      "messages": [{{"role": "user", "content": "Write a short poem about the ocean."}}]}}'

Faults are ordered by a header, as in `x-simulate: cut=5; times=1`. The words:

{words}

`times` counts the calls with the same header `x-simulate-key`, whose value is yours to choose.
"""


def index(url: str, google: str, journal: int) -> str:
    """Write the page; ``google`` is the path of Gemini's models, ``journal`` its length."""
    words = "\n".join(f"    {word.example:<16} {word.meaning}" for word in WORDS.values())
    return _HEAD.format(url=url, google=google, journal=journal, words=words)
