"""Where Redis is, and whether it is set up to keep what it is told."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from protokube.core.model import Fault
from protokube.errors import ConfigError

REDIS_PORT, SENTINEL_PORT = 6379, 26379
OLDEST = (6, 2)
"""BLMOVE and LPOS are of 6.2."""
SETTINGS = ("appendonly", "appendfsync", "maxmemory-policy", "min-replicas-to-write", "min-replicas-max-lag")


class Target(Struct, frozen=True):
    """Where Redis is: an address, a socket's path, or a master's name and its Sentinels."""

    host: str = ""
    port: int = REDIS_PORT
    db: int = 0
    tls: bool = False
    path: str | None = None
    sentinels: tuple[tuple[str, int], ...] = ()
    master: str = ""

    def __str__(self) -> str:
        if self.sentinels:
            return f"master {self.master} of {', '.join(f'{host}:{port}' for host, port in self.sentinels)}"
        return self.path or f"{self.host}:{self.port}"


def read_target(url: str) -> Target:
    """Read `redis://HOST`, `unix://PATH` or `redis+sentinel://h1:26379,h2/NAME/DB`. Raises ConfigError.

    `rediss` instead of `redis` is with TLS.
    """

    def fault(text: str) -> ConfigError:
        return ConfigError([Fault("--redis", text)])

    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise fault("user and password are seen by everybody on a command line; give them with --redis-auth-file")
    try:
        if parts.scheme == "unix":
            return Target(path=parts.path)
        if parts.scheme in ("redis", "rediss"):
            if not parts.hostname:
                raise fault(f"a host was expected, got {url!r}")
            db = int(parts.path.strip("/") or 0)
            return Target(parts.hostname, parts.port or REDIS_PORT, db, parts.scheme == "rediss")
        if parts.scheme in ("redis+sentinel", "rediss+sentinel"):
            hosts = [
                one.rpartition(":") if ":" in one else (one, "", SENTINEL_PORT) for one in parts.netloc.split(",")
            ]
            master, _, number = parts.path.strip("/").partition("/")
            if not master or not all(host for host, _, _ in hosts):
                raise fault(f"{parts.scheme}://HOST:PORT,HOST:PORT/NAME was expected, got {url!r}")
            sentinels = tuple((host, int(port)) for host, _, port in hosts)
            tls = parts.scheme == "rediss+sentinel"
            return Target(db=int(number or 0), tls=tls, sentinels=sentinels, master=master)
    except ValueError as error:
        raise fault(f"{url!r}: {error}") from error
    raise fault(f"redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel:// was expected, got {url!r}")


def version_of(text: str) -> tuple[int, ...]:
    """A version's numbers."""
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


def weak_settings(settings: Mapping[str, str], sentinel: bool) -> list[str]:
    """What of Redis's own settings may lose pods, one text each. `sentinel`: there are replicas to fail over to."""
    checks = [
        ("appendonly", ("yes",), "a crash loses what was written since the last snapshot"),
        ("appendfsync", ("everysec", "always"), "a power cut loses more than a second"),
        ("maxmemory-policy", ("noeviction",), "a full memory evicts queues"),
    ]
    texts = [
        f"{name} is {settings.get(name, 'unknown')}, {' or '.join(good)} was expected: {why}"
        for name, good, why in checks
        if settings.get(name) not in good
    ]
    if sentinel:
        replicas, lag = (int(settings.get(name) or 0) for name in SETTINGS[3:])
        if replicas < 1:
            texts.append(
                "min-replicas-to-write is 0, at least 1 was expected: a master cut off takes writes that are lost"
            )
        elif not 1 <= lag <= 10:
            texts.append(
                f"min-replicas-max-lag is {lag}, 1 to 10 was expected: the longer, the more writes can be lost"
            )
    return texts


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches this name or address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def is_loopback_header(host: str) -> bool:
    """Whether a request's Host, with a port or without, is this machine's: a page of another name has its own."""
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False
