"""The only place in the worker that speaks to Redis: records, duties, and the link to both."""

from worker.store.link import full, passing
from worker.store.records import Refusal, Store

__all__ = ["Refusal", "Store", "full", "passing"]
