"""The only place in the worker that speaks to Redis: records, duties, and the link to both."""

from worker.store.link import full
from worker.store.records import Store

__all__ = ["Store", "full"]
