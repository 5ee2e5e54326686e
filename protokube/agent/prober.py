"""Makes probes and hooks: an HTTP request, a connection, or a command in the container. The time-out is ours."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence

from protokube.agent.core.model import Container, Handler, HttpGet
from protokube.agent.ports import ExecResult
from protokube.errors import ProviderError

Execute = Callable[[Sequence[str], float], Awaitable[ExecResult]]

_ENOUGH = 256
"""Bytes of an answer or of output that messages show."""


async def probe(
    handler: Handler, container: Container, host: str, limit: float, execute: Execute
) -> tuple[bool, str]:
    """Run a probe once: whether it passes, and why not. A failing probe raises nothing."""
    try:
        async with asyncio.timeout(limit):
            if handler.exec is not None:
                result = await execute(handler.exec.command, limit)
                said = result.output[:_ENOUGH].decode(errors="replace").strip()
                return result.code == 0, f"exit code {result.code}: {said}"
            if handler.http_get is not None:
                status = await _http_status(handler.http_get, container, host)
                return 200 <= status < 400, f"HTTP {status}"
            assert handler.tcp_socket is not None, "a pod's probes were checked"
            port = number(container, handler.tcp_socket.port)
            _, writer = await asyncio.open_connection(handler.tcp_socket.host or host, port)
            writer.close()
            return True, "connected"
    except TimeoutError:
        return False, f"no answer within {limit:g} s"
    except (OSError, ProviderError, ValueError) as error:
        return False, str(error)


def number(container: Container, port: int | str) -> int:
    """A port's number, also of one that is given by name."""
    if isinstance(port, int):
        return port
    return next(one.container_port for one in container.ports if one.name == port)


async def _http_status(asked: HttpGet, container: Container, host: str) -> int:
    """Ask, and return the status. Raises OSError, or ValueError for an answer that isn't HTTP."""
    host, port = asked.host or host, number(container, asked.port)
    secure = _lenient() if asked.scheme.upper() == "HTTPS" else None
    reader, writer = await asyncio.open_connection(host, port, ssl=secure)
    try:
        headers = {"Host": f"{host}:{port}", "User-Agent": "kube-probe/1.0", "Connection": "close"}
        headers |= {header.name: header.value for header in asked.http_headers}
        lines = [
            f"GET {asked.path or '/'} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
            "",
            "",
        ]
        writer.write("\r\n".join(lines).encode())
        await writer.drain()
        line = await reader.readline()
        version, _, rest = line.decode(errors="replace").partition(" ")
        if not version.startswith("HTTP/") or not rest[:3].isdigit():
            raise ValueError(f"no HTTP answer: {line[:_ENOUGH]!r}")
        return int(rest[:3])
    finally:
        writer.close()


def _lenient() -> ssl.SSLContext:
    """As kubelet's probes do, take any certificate: only whether it answers counts."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
