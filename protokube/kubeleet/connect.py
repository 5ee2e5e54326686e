"""Connections to Redis. Nothing is ever tried again in here: a script that runs twice, or a BLMOVE that moves two, is
what redis-py's own retries would make of a lost answer. Who calls decides.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from msgspec import Struct
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from protokube.core.model import Fault
from protokube.errors import ConfigError, OutcomeUnknownError, ProviderError
from protokube.kubeleet.core.settings import OLDEST, SETTINGS, Target, version_of, weak_settings

LIMIT = 5.0
"""Seconds that a call may take."""
BLOCK = 4
"""Seconds that a blocking move waits in Redis: less than its connection's limit, LIMIT + BLOCK."""
SENTINEL_LIMIT = 1.0
AGAIN = 1.0
"""Seconds before a connection is tried again."""

Word = str | bytes | int
log = logging.getLogger(__name__)


class Link:
    """One connection, for one call at a time. After an error it is of no more use."""

    def __init__(self, client: Redis, where: str) -> None:
        self._client: Any = client  # redis-py's types don't know this method
        self._where = where
        self._turn = asyncio.Lock()
        self._broken: str | None = None

    async def call(self, *words: Word) -> Any:
        """Execute a command.

        Raises ProviderError when Redis refused it, and OutcomeUnknownError when no answer came.
        """
        async with self._turn:
            return await self._call(*words)

    async def run(self, script: str, keys: Sequence[str], args: Sequence[Word] = ()) -> Any:
        """Run a script of ours. Redis may have forgotten it, as after a failover: then it is sent once more."""
        text, sha = _script(script)
        rest = (len(keys), *keys, *args)
        async with self._turn:
            try:
                return await self._call("EVALSHA", sha, *rest)
            except _ForgottenError:
                return await self._call("EVAL", text, *rest)

    async def _call(self, *words: Word) -> Any:
        if self._broken is not None:
            raise ProviderError(self._broken)
        what = f"redis {self._where}: {words[0]!s}"
        try:
            return await _contained(self._client.execute_command(*words))
        except NoScriptError as error:
            raise _ForgottenError from error
        except ResponseError as error:
            raise ProviderError(f"{what}: {error}") from error
        except (RedisError, OSError) as error:
            self._broken = f"{what}: {_words(error)}"
            raise OutcomeUnknownError(self._broken) from error


class _ForgottenError(Exception):
    """Redis doesn't know the script. Nothing was run."""


class Files(Struct, frozen=True):
    """Files that say who we are and whom to believe. `auth` holds a password, or USER:PASSWORD."""

    auth: str | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


NO_FILES = Files()


class Connector:
    """Makes connections to one Redis. Raises ConfigError for files that can't be used."""

    def __init__(self, target: Target, files: Files = NO_FILES) -> None:
        self.target = target
        self.weak: Sequence[str] = ()
        """What of Redis's settings may lose pods, as it was seen last."""
        user, password = _credentials(files.auth)
        self._options: dict[str, Any] = {"db": target.db, "username": user, "password": password}
        self._tls = _tls(target, files)
        self._options |= self._tls

    @asynccontextmanager
    async def link(self, *, blocks: bool = False, inspects: bool = True) -> AsyncIterator[Link]:
        """A connection to the master. `blocks`: for blocking calls. `inspects`: look at its settings as well.

        Raises ProviderError when there is none now.
        """
        limit = LIMIT + BLOCK if blocks else LIMIT
        host, port = await self._master() if self.target.sentinels else (self.target.host, self.target.port)
        where = f"{host}:{port}" if host else str(self.target)
        address: dict[str, Any] = {"unix_socket_path": self.target.path} if self.target.path else {}
        client = _client(limit, host=host, port=port, **address, **self._options)
        link = Link(client, where)
        try:
            role, *_ = await link.call("ROLE")
            if role != b"master":
                raise ProviderError(f"redis {where}: it is a {role.decode()}, the master was expected")
            if inspects:
                await self._inspect(link, where)
            yield link
        finally:
            await client.aclose()

    def blocking(self) -> AbstractAsyncContextManager[Link]:
        """A connection for blocking calls."""
        return self.link(blocks=True, inspects=False)

    async def _master(self) -> tuple[str, int]:
        """Where the Sentinels say that the master is."""
        options = {**_PLAIN, "socket_timeout": SENTINEL_LIMIT, "socket_connect_timeout": SENTINEL_LIMIT, **self._tls}
        asked: Any = _SENTINEL(self.target.sentinels, sentinel_kwargs=options)
        try:
            host, port = await _contained(asked.discover_master(self.target.master))
            return str(host), int(port)
        except (RedisError, OSError) as error:
            raise ProviderError(f"redis {self.target}: {_words(error)}") from error
        finally:
            for one in asked.sentinels:
                await one.aclose()

    async def _inspect(self, link: Link, where: str) -> None:
        """Refuse a Redis that is too old, and warn of settings that may lose pods, as often as they change."""
        try:
            info = await link.call("INFO", "server")
            given = [await link.call("CONFIG", "GET", name) for name in SETTINGS]
        except OutcomeUnknownError:
            raise
        except ProviderError as error:
            weak = [f"its settings can't be read ({error}): whether it keeps what it is told isn't known"]
        else:
            version = str(info["redis_version"])
            if version_of(version) < OLDEST:
                raise ProviderError(
                    f"redis {where}: version {version}; at least {OLDEST[0]}.{OLDEST[1]} was expected"
                )
            weak = weak_settings(_pairs(given), bool(self.target.sentinels))
        if weak != self.weak:
            for text in weak:
                log.warning("redis %s: %s", where, text)
        self.weak = weak


_SENTINEL: Any = Sentinel
_PLAIN: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "protocol": 2}


def _client(limit: float, **options: Any) -> Redis:
    return Redis(
        **_PLAIN, socket_timeout=limit, socket_connect_timeout=LIMIT, single_connection_client=True, **options
    )


async def _contained(call: Coroutine[Any, Any, Any]) -> Any:
    """Await a call of redis-py's in a task of its own.

    When a machine thaws, the call's time-out may cancel the task after the call has returned. That ended the task of
    a group without a word, and its worker took no more pods (seen with redis-py 8.1, Python 3.11).
    """
    task = asyncio.ensure_future(call)
    try:
        await asyncio.wait({task})
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    if task.cancelled():
        raise TimeoutError("it was cut short")
    return task.result()


@cache
def _script(name: str) -> tuple[str, str]:
    """A script's text and SHA-1."""
    text = resources("protokube.kubeleet").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")
    return text, hashlib.sha1(text.encode()).hexdigest()


def _pairs(given: Sequence[Sequence[bytes]]) -> Mapping[str, str]:
    """CONFIG GET's answers: a name and its value each, nothing for a name that this Redis doesn't know."""
    return {one[0].decode(): one[1].decode() for one in given if one}


def _words(error: Exception) -> str:
    return str(error) or ("no connection" if isinstance(error, NoConnectionError) else type(error).__name__)


def _credentials(path: str | None) -> tuple[str | None, str | None]:
    if path is None:
        return None, None
    try:
        user, colon, password = Path(path).read_text(encoding="utf-8").strip().partition(":")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Fault("--redis-auth-file", f"{path}: {error}")]) from error
    return (user, password) if colon else (None, user)


def _tls(target: Target, files: Files) -> dict[str, Any]:
    """redis-py's options for TLS, none without it. Raises ConfigError with every fault."""
    given = {"ca": files.ca, "cert": files.certificate, "key": files.key}
    faults = []
    for name, path in given.items():
        if path is not None and not target.tls:
            faults.append(
                Fault(f"--redis-{name}-file", "it is for rediss:// alone: without TLS nobody shows anything")
            )
        elif path is not None and not Path(path).is_file():
            faults.append(Fault(f"--redis-{name}-file", f"{path}: there is no such file"))
    if (files.certificate is None) != (files.key is None):
        faults.append(Fault("--redis-cert-file", "it goes together with --redis-key-file; give both, or neither"))
    if faults:
        raise ConfigError(faults)
    if not target.tls:
        return {}
    own = {"ssl_ca_certs": files.ca, "ssl_certfile": files.certificate, "ssl_keyfile": files.key}
    return {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True, **own}


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group; the others follow from it."""
    error = group.exceptions[0]
    return first_error(error) if isinstance(error, BaseExceptionGroup) else error
