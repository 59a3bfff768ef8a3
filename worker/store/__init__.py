"""The only place in the worker that speaks to Redis: records, duties, the roll, and the link."""

from worker.store.link import full, passing
from worker.store.queues import UNACKED, UNACKED_INDEX
from worker.store.records import Refusal, Store

__all__ = ["UNACKED", "UNACKED_INDEX", "Refusal", "Store", "full", "passing"]
