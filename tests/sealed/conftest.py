"""A server for these tests alone, both clients, and producers with keys or without."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Protocol

import pytest

from api_contracts.client import Client
from tests.client.conftest import StartShell, start_shell
from tests.parts.shared import valkey

__all__ = ["StartShell", "start_shell", "valkey"]


class StartClient(Protocol):
    """What the fixture `start_client` is."""

    def __call__(
        self, encryption: str = "", signing: str = "", *, required: bool = False
    ) -> Client:
        """Make a client with these keys; it is closed with the test."""


@pytest.fixture
def start_client(redis_url: str) -> Iterator[StartClient]:
    """Make clients of that server."""
    with ExitStack() as stack:

        def start(encryption: str = "", signing: str = "", *, required: bool = False) -> Client:
            client = Client(
                redis_url,
                encryption_keys=encryption,
                encryption_required=required,
                signing_keys=signing,
            )
            return stack.enter_context(client)

        yield start
