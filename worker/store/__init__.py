"""The only place in the worker that speaks to Redis: records, duties, and the link to both."""

from worker.store.duties import UNACKED, UNACKED_INDEX
from worker.store.link import full, passing
from worker.store.records import Refusal, Store

__all__ = ["UNACKED", "UNACKED_INDEX", "Refusal", "Store", "full", "passing"]
