"""What a machine lacks: a reason to skip on a developer's, a failure on the build's."""

import os
import shutil
import sys
from pathlib import Path

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


def installed(name: str, package: str) -> str:
    """Return where a program of Debian's is; its place may be in root's path alone."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    need(found, f"{name} is not installed; run: apt-get install {package}")
    return str(found)


def beside_python(name: str) -> str:
    """Return where a program is that came with one of the tests' packages."""
    found = Path(sys.executable).with_name(name)
    need(found.exists(), f"{name} is not installed; run: make lint")
    return str(found)
