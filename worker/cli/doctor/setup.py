"""What is to be said of settings, of files with secrets, and of the ways to others. Pure.

No value of a secret is said: only names of variables, paths, modes and hosts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from api_contracts.client.brokers import broker_place, is_amqp
from api_contracts.client.servers import Server
from worker.cli.doctor.finding import Finding, advice, bad, good
from worker.settings import Settings, variable

#: What a permission bit lets everybody do: read.
_ALL_READ: Final = 0o004
_READ_ON_THE_WAY: Final = "whoever is on the way reads it"


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A file with a secret: what is set to it, where it is, and who may read it.

    ``fixed``: it lies on what cannot be written here, as orchestrators mount their secrets; who may
    read it is said there.
    """

    named_by: str
    path: Path
    mode: int
    fixed: bool


def check_settings(mistakes: tuple[str, ...]) -> Iterator[Finding]:
    """Give each mistake in the environment its line."""
    if not mistakes:
        yield good("settings", "complete")
    for mistake in mistakes:
        yield bad("settings", mistake, "correct this variable")


def check_credentials(
    folder: Path, keys: Mapping[str, str] | str, judged: Mapping[str, str]
) -> Iterator[Finding]:
    """Check the keys that tasks may name.

    ``keys`` says what is wrong with each file, or with the folder; ``judged`` what the router has
    against a key, of those that it judged.
    """
    check = "credentials"
    if isinstance(keys, str):
        yield bad(check, f"{folder}: {keys}", "look at ROUTER_WORKER_CREDENTIALS_DIR")
        return
    for name, fault in keys.items():
        if fault:
            yield bad(check, f"{folder / name}: {fault}", "put a key there, or take the file away")
        elif complaint := judged.get(name):
            remedy = "mend that, or put another key there: no restart is needed"
            yield bad(check, f"{folder / name}: {complaint}", remedy)
    usable = [name for name, fault in keys.items() if not fault]
    taken = [name for name in usable if judged.get(name) == ""]
    known = f"; the router takes {', '.join(taken)}" if taken else ""
    yield good(check, f"{folder} has {', '.join(usable) or 'none'}{known}")


def check_files(files: tuple[SecretFile, ...]) -> Iterator[Finding]:
    """Say which files with secrets everybody on this machine may read."""
    check = "secrets"
    seen = [file for file in files if file.mode & _ALL_READ and not file.fixed]
    for file in seen:
        says = f"{file.path} ({file.named_by}) has mode {file.mode:03o}: everybody here may read it"
        yield advice(check, says, f"chmod o-rwx {file.path}")
    if files and not seen:
        yield good(check, f"{len(files)} in files, none of which everybody may read")


def check_ways(settings: Settings) -> Iterator[Finding]:
    """Say what goes unencrypted, or to nobody knows whom. Inside one machine, nothing is said."""
    redis_url = settings.redis_url.get_secret_value()
    broker_url = settings.broker_url.get_secret_value()
    urls = {"REDIS_URL": redis_url}
    if broker_url != redis_url:
        urls[variable("broker_url")] = broker_url
    for name, url in urls.items():
        yield from (_way_to_rabbitmq if is_amqp(url) else _way_to_redis)(name, url)
    router = urlsplit(settings.base_url)
    if router.scheme == "http" and not _is_here(router.hostname or ""):
        says = f"{variable('base_url')} is http: the key goes to {router.hostname} unencrypted"
        yield advice("tls", says, f"set it to https://…; {_READ_ON_THE_WAY}")


def _way_to_redis(name: str, url: str) -> Iterator[Finding]:
    server = Server.parse(url)
    if all(_is_here(host) for host, _ in server.hosts):
        return
    if url.startswith(("rediss://", "rediss-cluster://")):
        yield _certificate(name, url, server)
    else:
        what, secure = "prompts, answers and its password", "rediss"
        if server.cluster:
            secure = "rediss-cluster"
        yield _unencrypted(name, what, str(server), f"{secure}://")
    user = server.username or urlsplit(url).username
    if user in {None, "", "default"}:
        says = f"{name} names no user: it speaks as `default`, who mostly may do everything"
        remedy = "give each program a user of its own: deploy/redis/users.acl"
        yield advice("user", says, remedy)


def _way_to_rabbitmq(name: str, url: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    if _is_here(parts.hostname or ""):
        return
    if parts.scheme == "amqps":
        yield good("tls", f"{name} is encrypted, and the certificate is checked")
    else:
        # A task that a producer has sent whole carries its prompt.
        yield _unencrypted(name, "messages and its password", broker_place(url), "amqps://")
    if parts.username in {None, "", "guest"}:
        says = f"{name} names no user of ours: it speaks as `guest`, who mostly may do everything"
        remedy = "give each program a user of its own: deploy/README.md says what each may do"
        yield advice("user", says, remedy)


def _unencrypted(name: str, what: str, where: str, instead: str) -> Finding:
    says = f"{name} is unencrypted: {what} go so to {where}"
    remedy = f"right in a private network; elsewhere {_READ_ON_THE_WAY}: use {instead}"
    return advice("tls", says, remedy)


def _certificate(name: str, url: str, server: Server) -> Finding:
    if dict(parse_qsl(urlsplit(url).query)).get("ssl_cert_reqs") == "none":
        says = f"{name} has ssl_cert_reqs=none: {server} may be anybody"
        return advice("tls", says, "name its authority in place of that: ssl_ca_certs=PATH")
    return good("tls", f"{name} is encrypted, and the certificate is checked")


def _is_here(host: str) -> bool:
    """Tell whether a host is this machine by its name alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
