"""What a machine lacks: a reason to skip on a developer's, a failure on the build's."""

import os

import pytest


def need(condition: object, reason: str) -> None:
    """Skip the test unless the condition holds; with ``CI=true``, fail it.

    A build that skips silently what it could not install would pass while testing nothing.
    """
    if condition:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
