"""A router to try things on: it speaks as the router does, and says what nobody has to pay for.

It is for trying, not for proving: what the worker does is proved against programs that others
wrote. A call goes through it in four steps, each in a file that knows nothing of the next::

    openai · anthropic · gemini   read    a request's body -> Prompt
    compose                       say     Prompt -> Reply, always the same one
    openai · anthropic · gemini   write   Reply -> one JSON object, or the frames of a stream
    steps                         spoil   frames -> bytes, waits and cuts, as the faults ask

``server`` is the only file that does any I/O. ``python -m worker.simulator --port 8089`` runs it.
"""
