"""``top``: what queues, workers and tasks do now, live.

1. ``worker.store.view`` reads it from Redis, and nothing else does.
2. :mod:`.model` makes an overview of it: plain values, which are also what programs get.
3. :mod:`.screen` lays the overview out for a terminal.
4. :mod:`.command` waits for time, keys and signals between two of them.
"""
