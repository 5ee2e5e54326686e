"""Calls over a message bus whose failures name the call and the remedy."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from dbus_next.constants import MessageType
from dbus_next.errors import AuthError, DBusError, InvalidAddressError
from dbus_next.message import Message
from dbus_next.signature import Variant

from protokube.errors import ProviderError
from protokube.host.busclient import Connection

__all__ = ["DEFAULT_ADDRESS", "Bus", "CallError", "Connection", "Message", "MessageType", "Variant"]

log = logging.getLogger("protokube")

DEFAULT_ADDRESS = "unix:path=/run/dbus/system_bus_socket"
BUS = "org.freedesktop.DBus"


class CallError(ProviderError):
    """The peer answered with an error. `name` is that error's."""

    def __init__(self, name: str, message: str) -> None:
        self.name = name
        super().__init__(message)


class Bus:
    """An open connection to the bus at `address`."""

    def __init__(self, connection: Connection, address: str) -> None:
        self.connection = connection
        self._where = f"system bus {address}"

    @classmethod
    async def open(
        cls, address: str, lost: Callable[[Connection], None], heard: Callable[[Message], None], remedy: str
    ) -> Bus:
        """Connect, and hand every message to `heard`. Raises ProviderError with the remedy."""
        try:
            connection = Connection(address, lost)
        except (OSError, InvalidAddressError) as error:
            raise ProviderError(f"system bus {address}: {error}; {remedy}") from error
        with contextlib.ExitStack() as opened:
            opened.callback(connection.close)
            try:
                await connection.connect()
            except (OSError, EOFError, AuthError, DBusError, ValueError) as error:
                raise ProviderError(f"system bus {address}: {error}; {remedy}") from error
            connection.add_message_handler(heard)
            opened.pop_all()
        return cls(connection, address)

    async def ask(
        self, to: str, path: str, interface: str, method: str, signature: str = "", body: tuple[Any, ...] = ()
    ) -> list[Any]:
        """Call a method and return its answer. Raises CallError for an error, ProviderError for a lost connection."""
        message = Message(
            destination=to, path=path, interface=interface, member=method, signature=signature, body=list(body)
        )
        try:
            reply = await self.connection.call(message)
        except (OSError, EOFError) as error:
            raise ProviderError(f"{self._where}: lost while calling {method}: {error!r}") from error
        if reply is None:
            raise ProviderError(f"{self._where}: closed while calling {method}")
        called = " ".join((method, *(one for one in body if isinstance(one, str))))
        log.debug("system bus: %s %s", path, called)
        if reply.message_type is MessageType.ERROR:
            said = reply.body[0] if reply.body else "no message"
            text = f"{self._where}: {called}: {said} ({reply.error_name}); see `journalctl -b _PID=1`"
            raise CallError(reply.error_name, text)
        result: list[Any] = reply.body
        return result

    async def match(self, rule: str) -> None:
        """Have the bus deliver signals by a rule. Raises ProviderError."""
        await self._rule("AddMatch", rule)

    async def unmatch(self, rule: str) -> None:
        """Undo a `match`. Raises ProviderError."""
        await self._rule("RemoveMatch", rule)

    def close(self) -> None:
        """End the connection; calls in flight get no reply."""
        self.connection.close()

    async def _rule(self, method: str, rule: str) -> None:
        await self.ask(BUS, "/org/freedesktop/DBus", BUS, method, "s", (f"type='signal',{rule}",))
