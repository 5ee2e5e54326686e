"""How an operator names a DNS server and its TSIG key: `HOST[:PORT]` and BIND's key file, read strictly."""

from __future__ import annotations

import base64
import re

from msgspec import Struct

from protokube.core.model import Fault

DNS_PORT = 53
STRONG = ("hmac-sha256", "hmac-sha384", "hmac-sha512")
_WEAK = ("hmac-md5", "hmac-md5.sig-alg.reg.int", "hmac-sha1", "hmac-sha224")
_COMMENT = re.compile(r'("[^"\n]*")|/\*.*?\*/|//[^\n]*|#[^\n]*', re.DOTALL)
_KEY = re.compile(r'key\s+("[^"]+"|[^\s{";]+)\s*\{([^{}]*)\}\s*;', re.IGNORECASE)
_FIELD = re.compile(r'\s*([a-z-]+)\s+("[^"]*"|[^\s;"]+)\s*;', re.IGNORECASE)


class TsigKey(Struct, frozen=True):
    """A TSIG key. `secret` is in base64 and never shown."""

    name: str
    algorithm: str
    secret: str

    def __repr__(self) -> str:
        return f"TsigKey({self.name!r}, {self.algorithm!r})"


def parse_server(text: str) -> tuple[str, int] | Fault:
    """Parse `HOST`, `HOST:PORT`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:PORT` into (host, port)."""
    bracketed = re.fullmatch(r"\[([^\[\]]+)\](?::([^:]*))?", text)
    plain = re.fullmatch(r"([^:\[\]\s]+)(?::([^:]*))?", text)
    bare = re.fullmatch(r"[0-9a-fA-F.:]*:[0-9a-fA-F.:]*:[0-9a-fA-F.:]*(%\w+)?", text)
    if bare:
        return text, DNS_PORT
    match = bracketed or plain
    if match is None:
        return Fault("--dns-server", f"{text!r}: expected HOST, HOST:PORT or [IPV6]:PORT")
    host, port = match.groups()
    if port is None:
        return host, DNS_PORT
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
        return Fault("--dns-server", f"{text!r}: the port {port!r} is no number from 1 to 65535")
    return host, int(port)


def parse_keyfile(text: str, place: str) -> TsigKey | Fault:
    """Parse the one key of a file in BIND's format, as tsig-keygen writes it. `place` names the file in messages."""
    bare = _COMMENT.sub(lambda match: match.group(1) or " ", text)
    keys = list(_KEY.finditer(bare))
    if len(keys) != 1 or _KEY.sub("", bare).strip():
        found = f"{len(keys)} keys" if keys else "no key"
        return Fault(place, f'{found} and nothing else expected: key "NAME" {{ algorithm …; secret "…"; }};')
    name, body = keys[0].groups()
    fields = {match.group(1).lower(): match.group(2).strip('"') for match in _FIELD.finditer(body)}
    if _FIELD.sub("", body).strip() or set(fields) != {"algorithm", "secret"}:
        return Fault(place, f"the key {name} must have an algorithm and a secret, and nothing else")
    algorithm = fields["algorithm"].lower().rstrip(".")
    if algorithm in _WEAK:
        return Fault(place, f"the algorithm {algorithm} is too weak; make a key with tsig-keygen -a {STRONG[0]}")
    if algorithm not in STRONG:
        return Fault(place, f"the algorithm {algorithm!r} is not known; expected {', '.join(STRONG)}")
    try:
        secret = base64.b64decode(fields["secret"], validate=True)
    except ValueError as error:  # binascii.Error, or letters beyond ASCII
        return Fault(place, f"the key {name}'s secret is no base64: {error}")
    if not secret:
        return Fault(place, f"the key {name}'s secret is empty")
    return TsigKey(name.strip('"'), algorithm, fields["secret"])
