"""Any name server that takes dynamic updates (RFC 2136), such as BIND, Knot or PowerDNS.

Zones are found by their SOA, names read by single queries, and changed by one update for each zone (rfc2136_names has
what they contain). The server refuses an update whose condition no longer holds: the change is then made anew from a
fresh look, a few times.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.rrset
import dns.tsig
import dns.update
from msgspec import Struct

from protokube.core.dns.model import RecordChange, RecordSet
from protokube.core.dns.nameserver import parse_keyfile, parse_server
from protokube.core.dns.zones import NoZone, Zone
from protokube.core.model import Fault
from protokube.dnsprovider.rfc2136_names import ADDRESS_TYPES, SIGN_LABEL, Edit, Name, record_set
from protokube.errors import ConfigError, ProviderError

log = logging.getLogger("protokube")

CONNECT_LIMIT = 3.0
ANSWER_LIMIT = 3.0
ATTEMPTS = 5

_CONFLICTS = (dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN)
_NOT_HERE = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN, dns.rcode.REFUSED, dns.rcode.NOTAUTH)
_RCODES = {
    dns.rcode.NOTAUTH: "NOTAUTH: the server is not the primary of this zone, or the key is not valid for it; "
    "name the primary with --dns-server",
    dns.rcode.REFUSED: "REFUSED: the server does not allow it; grant the key zonesub ANY in the update-policy, "
    "or allow it in allow-update",
    dns.rcode.NOTZONE: "NOTZONE: the name lies outside of the zone; check --dns-zone-name",
    dns.rcode.SERVFAIL: "SERVFAIL: the server failed; its log says why (often a journal that it may not write)",
    dns.rcode.FORMERR: "FORMERR: the server did not understand the update",
    dns.rcode.NOTIMP: "NOTIMP: the server takes no dynamic updates",
}
_ERRORS: dict[type[Exception], str] = {
    dns.tsig.PeerBadKey: "BADKEY: the server does not know the key by this name and algorithm; compare "
    "--dns-tsig-keyfile with the server's key statement",
    dns.tsig.PeerBadSignature: "BADSIG: the server knows the key by another secret; compare --dns-tsig-keyfile with "
    "the server's key statement",
    dns.tsig.PeerBadTime: "BADTIME: the clocks of this machine and of the server differ by more than 300 s; set them",
    dns.tsig.PeerBadTruncation: "BADTRUNC: the server wants a longer signature; use hmac-sha256",
    dns.tsig.BadSignature: "the answer's signature is wrong: somebody between us and the server changes messages",
    dns.tsig.BadTime: "BADTIME: the answer was signed more than 300 s away from this machine's clock; set the clocks",
    dns.message.UnknownTSIGKey: "the answer is signed with another key than the request",
    dns.exception.Timeout: f"no answer within {ANSWER_LIMIT:.0f} s; check the route, and that TCP port is open",
    OSError: "no connection; check --dns-server, and that the server listens on TCP",
    EOFError: "the server closed the connection; its log says why",
    dns.exception.DNSException: "the answer can't be understood",
}


class Server(Struct, frozen=True):
    """Where a server listens (host, port), and the key that it knows us by."""

    address: tuple[str, int]
    key: dns.tsig.Key | None


def load_server(server: str, keyfile: Path | None = None) -> Server:
    """The server at HOST[:PORT], with the TSIG key in `keyfile`, in BIND's format; ConfigError with every fault."""
    address = parse_server(server)
    key = _read_key(keyfile) if keyfile is not None else None
    faults = [one for one in (address, key) if isinstance(one, Fault)]
    if isinstance(address, Fault) or isinstance(key, Fault):
        raise ConfigError(faults)
    return Server(address, key)


class Rfc2136:
    """One name server. Without a zone's name in `zone`, it is asked for the SOA above each name."""

    private = False

    def __init__(self, server: Server, *, zone: str | None = None) -> None:
        self._address = server.address
        self._key = server.key
        self._zone_option = None if zone is None else _plain(zone)
        self._pinned: dict[str, Zone] = {}

    # --- the port ---

    def record_sets(self, names: frozenset[str]) -> Mapping[str, RecordSet]:
        """What stands under each name; a name without a zone has a `refusal`."""
        found: dict[str, RecordSet] = {}
        if not names:
            return found
        with self._connection("read " + ", ".join(sorted(names))) as sock:
            for name in sorted(names):
                zone = self._zone(sock, name)
                if isinstance(zone, NoZone):
                    found[name] = RecordSet(name, coexists=True, refusal=(zone.rule, zone.evidence))
                else:
                    found[name] = record_set(name, self._read(sock, name))
        return found

    def change(self, changes: Sequence[RecordChange]) -> None:
        """Apply one batch: one update for each zone that its names lie in, each as a whole or not at all."""
        with self._connection("change " + ", ".join(sorted({change.name for change in changes}))) as sock:
            batches: dict[str, list[RecordChange]] = {}
            for change in changes:
                zone = self._zone(sock, change.name)
                if isinstance(zone, NoZone):
                    raise ProviderError(f"{self._where}: can't change {change.name}: {zone.evidence} ({zone.rule})")
                batches.setdefault(zone.name, []).append(change)
            for zone_name, ours in batches.items():
                self._send(sock, zone_name, ours)

    def recover(self) -> None:
        """Nothing: a server takes a batch whole or not at all."""

    # --- reading ---

    def _zone(self, sock: socket.socket, name: str) -> Zone | NoZone:
        option = self._zone_option
        if option is not None:
            zone = Zone(option, option)
            return zone if zone.holds(name) else NoZone("dns/no-zone", f"{name} lies outside of zone {option}")
        if name not in self._pinned:
            found = self._find_zone(sock, name)
            if isinstance(found, NoZone):
                return found
            self._pinned[name] = found
        return self._pinned[name]

    def _find_zone(self, sock: socket.socket, name: str) -> Zone | NoZone:
        answer = self._ask(sock, self._query(name, dns.rdatatype.SOA))
        for rrset in (*answer.answer, *answer.authority):
            zone = Zone(_plain(rrset.name.to_text()), _plain(rrset.name.to_text()))
            if rrset.rdtype == dns.rdatatype.SOA and answer.flags & dns.flags.AA and zone.holds(name):
                return zone
        if answer.rcode() not in _NOT_HERE:
            self._check(answer.rcode(), f"find the zone of {name}")
        code = dns.rcode.to_text(answer.rcode())
        return NoZone("dns/no-zone", f"{self._where} serves no zone that holds {name} (SOA asked, {code} answered)")

    def _read(self, sock: socket.socket, name: str) -> Name:
        """What stands there, of one moment: addresses and owners are several queries, but change in one update.

        Where they don't fit together they are asked for again, until they fit or are found so twice.
        """
        found = self._look(sock, name)
        for _ in range(ATTEMPTS):
            if found.fits:
                break
            before, found = found, self._look(sock, name)
            if found == before:
                break
        return found

    def _look(self, sock: socket.socket, name: str) -> Name:
        found = Name()
        for type_ in ADDRESS_TYPES:
            rrsets = self._rrsets(sock, name, dns.rdatatype.from_text(type_))
            for rrset in rrsets:
                if rrset.rdtype == dns.rdatatype.CNAME:
                    found.cname = _plain(rrset[0].to_text())
                elif _plain(rrset.name.to_text()) == name:
                    found.addresses[type_] = tuple(sorted(rdata.to_text() for rdata in rrset)), rrset.ttl
        signs = self._rrsets(sock, f"{SIGN_LABEL}.{name}", dns.rdatatype.TXT)
        found.signs = next((rrset for rrset in signs if rrset.rdtype == dns.rdatatype.TXT), None)
        return found

    def _rrsets(self, sock: socket.socket, name: str, type_: dns.rdatatype.RdataType) -> list[dns.rrset.RRset]:
        answer = self._ask(sock, self._query(name, type_))
        if answer.rcode() != dns.rcode.NXDOMAIN:  # said of a CNAME's missing target as well
            self._check(answer.rcode(), f"read {name} {type_.name}")
        return [rrset for rrset in answer.answer if rrset.name == dns.name.from_text(name)]

    def _query(self, name: str, type_: dns.rdatatype.RdataType) -> dns.message.Message:
        query = dns.message.make_query(dns.name.from_text(name), type_, flags=0)
        if self._key is not None:
            query.use_tsig(self._key)
        return query

    # --- writing ---

    def _send(self, sock: socket.socket, zone: str, changes: Sequence[RecordChange]) -> None:
        for _ in range(ATTEMPTS):
            update = dns.update.UpdateMessage(dns.name.from_text(zone))
            for name in sorted({change.name for change in changes}):
                ours = [change for change in changes if change.name == name]
                Edit(update, name, self._read(sock, name)).apply(ours)
            if not update.update:
                return
            if self._key is not None:
                update.use_tsig(self._key)
            code = self._ask(sock, update).rcode()
            if code not in _CONFLICTS:
                self._check(code, f"update zone {zone}")
                return
        names = ", ".join(sorted({change.name for change in changes}))
        raise ProviderError(
            f"{self._where}: {names} changed each of the {ATTEMPTS} times that it was read, or a CNAME stands there; "
            "the next round reads it again"
        )

    # --- calls ---

    @property
    def _where(self) -> str:
        host, port = self._address
        return f"name server {f'[{host}]' if ':' in host else host}:{port}"

    @contextmanager
    def _connection(self, what: str) -> Iterator[socket.socket]:
        try:
            with socket.create_connection(self._address, timeout=CONNECT_LIMIT) as sock:
                sock.setblocking(False)
                yield sock
        except (dns.exception.DNSException, OSError, EOFError) as error:
            advice = next(text for kind, text in _ERRORS.items() if isinstance(error, kind))
            raise ProviderError(
                f"{self._where}: can't {what}: {str(error) or type(error).__name__}; {advice}"
            ) from error

    def _ask(self, sock: socket.socket, message: dns.message.Message) -> dns.message.Message:
        answer = dns.query.tcp(message, self._address[0], timeout=ANSWER_LIMIT, sock=sock)
        asked = "; ".join(f"{one.name} {dns.rdatatype.to_text(one.rdtype)}" for one in message.question)
        kind, code = dns.opcode.to_text(message.opcode()), dns.rcode.to_text(answer.rcode())
        log.debug("%s: %s %s: %s", self._where, kind, asked, code)
        return answer

    def _check(self, code: dns.rcode.Rcode, what: str) -> None:
        if code != dns.rcode.NOERROR:
            advice = _RCODES.get(code, f"the server answered {dns.rcode.to_text(code)}")
            raise ProviderError(f"{self._where}: can't {what}: {advice}")


def _read_key(path: Path) -> dns.tsig.Key | Fault:
    try:
        key = parse_keyfile(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        return Fault("--dns-tsig-keyfile", f"{path} can't be read: {error}")
    if isinstance(key, Fault):
        return key
    try:
        return dns.tsig.Key(key.name, key.secret, key.algorithm)
    except dns.exception.DNSException as error:
        return Fault(str(path), f"the key's name {key.name!r} is no DNS name: {error}")


def _plain(name: str) -> str:
    return name.rstrip(".").lower()
