"""A real redis-server or Sentinel on loopback, unpacked into build/redis (`make test`): own directory, own port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

ROOT = Path(__file__).parents[2] / "build/redis/root"
BIN = ROOT / "usr/bin"
ENVIRONMENT = {**os.environ, "LD_LIBRARY_PATH": f"{ROOT}/usr/lib/{os.uname().machine}-linux-gnu"}
LIMIT = 120.0
DURABLE = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": ""}


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind((host, 0))
        port: int = one.getsockname()[1]
        return port


class RedisServer:
    """One server. `config` is what its configuration file says besides; a tuple for a line of several words."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", *, sentinel: bool = False, **config: Any) -> None:
        self.folder, self.host, self.sentinel = folder, host, sentinel
        self.config = ({} if sentinel else DURABLE) | {key.replace("_", "-"): value for key, value in config.items()}
        self.lines: list[str] = []
        self.port = free_port(host)
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://{self.host}:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        path = self.folder / "redis.conf"
        given = {"port": self.port, "bind": self.host, "dir": self.folder, "protected-mode": "no", **self.config}
        if not (self.sentinel and path.exists()):  # a Sentinel keeps what it knows in its file
            lines = [f"{key} {value if value != '' else chr(34) * 2}" for key, value in given.items()]
            path.write_text("\n".join([*lines, *self.lines]) + "\n")
        program = "redis-sentinel" if self.sentinel else "redis-server"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, str(BIN / program), str(path)], env=ENVIRONMENT, stdout=log, stderr=log
            )
        until(lambda: self._answers())

    def client(self, **options: Any) -> redis.Redis:
        """A client that tries nothing twice."""
        return redis.Redis(
            self.host,
            self.port,
            socket_timeout=LIMIT / 2,  # a disk that is busy with others' work holds a server up for seconds
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            single_connection_client=True,
            **options,
        )

    def do(self, *words: Any) -> Any:
        """One command, by a connection of its own."""
        with self.client() as client:
            return client.execute_command(*words)

    def cli(self, *words: str) -> str:
        """One command by redis-cli."""
        done = subprocess.run(
            [BIN / "redis-cli", "-h", self.host, "-p", str(self.port), *words],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
        )
        return done.stdout

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP freezes it."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(LIMIT)
            self.process = None

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError((self.folder / "log").read_text())
        try:
            return bool(self.do("PING"))
        except RedisError:
            return False


def until(condition: Any, limit: float = LIMIT, every: float = 0.05) -> Any:
    """Wait until a condition holds; what it gave."""
    end = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(every)
    return found


@contextmanager
def redis_server(folder: Path, **config: Any) -> Iterator[RedisServer]:
    """A server that is up, and ends with the block."""
    server = RedisServer(folder, **config)
    try:
        server.start()
        yield server
    finally:
        server.kill()


class Fleet:
    """Three servers, the first of them the master, and three Sentinels over them."""

    def __init__(self, folder: Path, *, replicas_to_write: int, max_lag: int = 10, down_after: int = 1000) -> None:
        more: dict[str, Any] = {"min_replicas_to_write": replicas_to_write, "min_replicas_max_lag": max_lag}
        self.servers = [RedisServer(folder / f"r{n}", repl_diskless_sync_delay=0, **more) for n in range(3)]
        self.sentinels = [RedisServer(folder / f"s{n}", sentinel=True) for n in range(3)]
        for server in self.servers[1:]:
            server.lines = [f"replicaof 127.0.0.1 {self.servers[0].port}"]
        for sentinel in self.sentinels:
            sentinel.lines = [
                f"sentinel monitor pods 127.0.0.1 {self.servers[0].port} 2",
                f"sentinel down-after-milliseconds pods {down_after}",
                "sentinel failover-timeout pods 5000",
            ]

    @property
    def url(self) -> str:
        """How kubeleet finds it."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in self.sentinels)}/pods/0"

    def master(self) -> RedisServer:
        """Where the Sentinels say that the master is; waits until they agree and it is one."""

        def found() -> RedisServer | None:
            said = {self._said(one) for one in self.sentinels}
            port = said.pop()
            server = next((one for one in self.servers if one.port == port), None)
            if said or server is None:
                return None
            try:
                return server if server.do("ROLE")[0] == b"master" else None
            except RedisError:
                return None

        server: RedisServer = until(found)
        return server

    def replicated(self) -> None:
        """Wait until both replicas have all that the first server has acknowledged so far."""
        with self.servers[0].client() as client:  # WAIT counts for its own connection's writes alone
            client.execute_command("SET", "written", "here")
            until(lambda: client.execute_command("WAIT", 2, 1000) == 2)

    @staticmethod
    def _said(sentinel: RedisServer) -> int | None:
        try:
            return int(sentinel.do("SENTINEL GET-MASTER-ADDR-BY-NAME", "pods")[1])
        except RedisError:
            return None

    @contextmanager
    def running(self) -> Iterator[Fleet]:
        """All of them, in sync and known to each other."""
        with ExitStack() as ends:
            for one in (*self.servers, *self.sentinels):
                ends.callback(one.kill)
                one.start()
            until(lambda: self.servers[0].do("INFO", "replication")["connected_slaves"] == 2)
            until(lambda: all(self._knows_all(one) for one in self.sentinels))
            yield self

    @staticmethod
    def _knows_all(sentinel: RedisServer) -> bool:
        info = sentinel.do("INFO", "sentinel")
        return "slaves=2,sentinels=3" in str(info) or (
            info["master0"]["slaves"] == 2 and info["master0"]["sentinels"] == 3
        )
