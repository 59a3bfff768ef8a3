"""The producer's and subscriber's library: thin shells over flows and a reassembler without I/O."""

from api_contracts.client.aio import AsyncClient, AsyncHandle
from api_contracts.client.sync import Client, Handle

__all__ = ["AsyncClient", "AsyncHandle", "Client", "Handle"]
