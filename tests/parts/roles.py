"""The users of `deploy/redis/users.acl`, and servers that know them."""

import re
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import redis as redis_library

from tests.parts.program import ROOT
from worker import embedded

#: The file as it is handed out.
USERS: Final = ROOT / "deploy/redis/users.acl"
#: The rules of each user, but for `default`.
RULES: Final = {
    name: rules
    for name, rules in re.findall(r"^user (\w+) (.+)$", USERS.read_text(), re.MULTILINE)
    if name != "default"
}
#: Commands that everybody may send, signed in or not; the server asks no rule.
_FOR_ALL: Final = {"auth", "hello", "quit", "reset"}


def password(role: str) -> str:
    """Return a user's password in these tests."""
    return f"{role}-hunter2"


def filled_in(text: str) -> str:
    """Put the digest of each password in its place, as the file's head says."""
    return re.sub(r"#<(\w+)>", lambda user: "#" + _digest(user[1]), text)


def granted(role: str) -> set[str]:
    """Return the commands that a user may send, on whatever keys."""
    return set(re.findall(r"\+([\w|]+)", RULES[role]))


class Roles:
    """A server with these users; its own `default` may do everything, for the test's own hand."""

    def __init__(self, server: embedded.EmbeddedServer) -> None:
        """Take a server that was started with :func:`users_file`."""
        self._port = server.port
        #: Address of the test's own hand.
        self.url = server.url
        self.admin: Any = redis_library.Redis.from_url(server.url)

    def url_of(self, role: str) -> str:
        """Address for a user."""
        return f"redis://{role}:{password(role)}@127.0.0.1:{self._port}/0"

    def forget(self) -> None:
        """Forget what was done and refused until now."""
        self.admin.execute_command("ACL", "LOG", "RESET")
        self.admin.config_resetstat()

    def used(self) -> set[str]:
        """Return the commands that were carried out since, in scripts too."""
        found = self.admin.info("commandstats").items()
        names = {name.removeprefix("cmdstat_") for name, stat in found if stat["calls"]}
        return names - _FOR_ALL

    def refused(self) -> set[str]:
        """Return what was refused since: commands, keys and channels."""
        log: Any = self.admin.execute_command("ACL", "LOG")
        return {entry["object"] for entry in map(_decoded, log)}


def users_file(folder: Path) -> Path:
    """Write the file with passwords, and a `default` for the test's own hand."""
    path = folder / "users.acl"
    path.write_text(filled_in(USERS.read_text()).replace("user default off\n", ""))
    return path


def _digest(role: str) -> str:
    return sha256(password(role).encode()).hexdigest()


def _decoded(entry: Any) -> dict[str, str]:
    """Read an entry of the log of refusals, which redis-py gives by either protocol."""
    pairs = entry.items() if isinstance(entry, dict) else zip(entry[::2], entry[1::2], strict=True)
    return {_text(name): _text(value) for name, value in pairs}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
