"""Any name server that takes dynamic updates (RFC 2136), such as BIND, Knot or PowerDNS.

Zones are found by their SOA records. Names are read by single queries, and changed by one update for each zone
(rfc2136_names builds it). The server refuses an update whose condition is no longer met: the names are then read
again, and the update is built again, a few times.

An answer may come from a wildcard, and then nothing stands at the name itself (RFC 4592). An update's conditions
ignore wildcards (RFC 2136, 3.2). So an answer without an owner record is checked: an update that changes nothing is
sent, on the condition that the name is in use.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

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
from protokube.core.dns.zones import NoZone, Zone, delegated, suffixes
from protokube.core.model import Fault
from protokube.dnsprovider.rfc2136_names import ADDRESS_TYPES, OWNER_LABEL, Edit, Name, record_set
from protokube.errors import ConfigError, ProviderError

log = logging.getLogger("protokube")

CONNECT_LIMIT = 3.0
ANSWER_LIMIT = 3.0
ATTEMPTS = 5

M = TypeVar("M", bound=dns.message.Message)

_CONFLICTS = (dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN)
_ALIASES = (dns.rdatatype.CNAME, dns.rdatatype.DNAME)
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
    dns.tsig.BadSignature: "the answer's signature is wrong: something between us and the server changes messages",
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
    local = False
    watch: tuple[Path, ...] = ()

    def __init__(self, server: Server, *, zone: str | None = None) -> None:
        self._address = server.address
        self._key = server.key
        self._zone_option = None if zone is None else _plain(zone)
        self._pinned: dict[str, Zone] = {}

    # --- the port ---

    def record_sets(self, names: frozenset[str]) -> Mapping[str, RecordSet]:
        """Read the records under each name; a name that no zone can take has a `refusal`."""
        found: dict[str, RecordSet] = {}
        if not names:
            return found
        with self._connection("read " + ", ".join(sorted(names))) as sock:
            for name in sorted(names):
                zone = self._zone(sock, name)
                if isinstance(zone, NoZone):
                    found[name] = RecordSet(name, coexists=True, refusal=(zone.rule, zone.evidence))
                else:
                    found[name] = record_set(name, zone.name, self._read(sock, zone, name))
        return found

    def change(self, changes: Sequence[RecordChange]) -> None:
        """Apply one batch: one update for each zone that its names lie in, each as a whole or not at all."""
        with self._connection("change " + ", ".join(sorted({change.name for change in changes}))) as sock:
            batches: dict[Zone, list[RecordChange]] = {}
            for change in changes:
                zone = self._zone(sock, change.name)
                if isinstance(zone, NoZone):
                    raise ProviderError(f"{self._where}: can't change {change.name}: {zone.evidence} ({zone.rule})")
                batches.setdefault(zone, []).append(change)
            for zone, ours in batches.items():
                self._send(sock, zone, ours)

    def recover(self) -> None:
        """Nothing: a server takes a batch whole or not at all."""

    # --- reading ---

    def _zone(self, sock: socket.socket, name: str) -> Zone | NoZone:
        if name not in self._pinned:
            found = self._chosen_zone(sock, name)
            if isinstance(found, NoZone):
                return found
            self._pinned[name] = found
        return self._pinned[name]

    def _chosen_zone(self, sock: socket.socket, name: str) -> Zone | NoZone:
        """The zone that the server finds for the name, or the one that the operator names, if nothing bars it."""
        option = self._zone_option
        if option is None:
            return self._find_zone(sock, name)
        zone = Zone(option, option)
        if not zone.contains(name):
            return NoZone("dns/no-zone", f"no zone holds {name}; seen: {option}, named by --dns-zone-name")
        found = self._find_zone(sock, name)
        if isinstance(found, NoZone):
            return found if found.rule == "dns/delegated" else zone
        if found.name in zone.cuts(name):
            servers = self._rrsets(self._ask(sock, self._query(found.name, dns.rdatatype.NS)), found.name)
            return delegated(name, option, _text(next(iter(servers), None), found.name))
        return zone

    def _find_zone(self, sock: socket.socket, name: str) -> Zone | NoZone:
        for place in suffixes(name):  # an alias hides the zone that it stands in, a wildcard's too: ask above it
            answer = self._ask(sock, self._query(place, dns.rdatatype.SOA))
            if not any(rrset.rdtype in _ALIASES for rrset in answer.answer):
                break
        seen = ""
        for rrset in (*answer.answer, *answer.authority):
            zone = Zone(_plain(rrset.name.to_text()), _plain(rrset.name.to_text()))
            if rrset.rdtype == dns.rdatatype.SOA and zone.contains(name):
                if answer.flags & dns.flags.AA:
                    return zone
                seen = f"; seen: {zone.name}, which it only knows from other servers"
        cut = _referral(answer, name)
        if cut is not None:
            parent = self._find_zone(sock, _plain(cut.name.parent().to_text()))
            return parent if isinstance(parent, NoZone) else delegated(name, parent.name, _text(cut))
        if answer.rcode() not in _NOT_HERE:
            self._check(answer.rcode(), f"find the zone of {name}")
        code = dns.rcode.to_text(answer.rcode())
        return NoZone(
            "dns/no-zone", f"{self._where} serves no zone that holds {name} (SOA asked, {code} answered){seen}"
        )

    def _read(self, sock: socket.socket, zone: Zone, name: str) -> Name:
        """Read the records of one moment: addresses and owner records take several queries, but change in one update.

        While they don't fit together they are read again, until they fit or are the same twice.
        """
        found = self._read_once(sock, zone, name)
        for _ in range(ATTEMPTS):
            if found.fits:
                break
            before, found = found, self._read_once(sock, zone, name)
            if found == before:
                break
        return found

    def _read_once(self, sock: socket.socket, zone: Zone, name: str) -> Name:
        found = Name()
        for type_ in ADDRESS_TYPES:
            answer = self._answer(sock, name, dns.rdatatype.from_text(type_))
            cut = _referral(answer, name) or _dname(answer)
            if cut is not None and _plain(cut.name.to_text()) in zone.cuts(name):
                return Name(cut=_text(cut))
            for rrset in self._rrsets(answer, name):
                if rrset.rdtype == dns.rdatatype.CNAME:
                    found.cname = _plain(rrset[0].to_text())
                else:
                    found.addresses[type_] = tuple(sorted(rdata.to_text() for rdata in rrset)), rrset.ttl
        beside = f"{OWNER_LABEL}.{name}"
        texts = self._rrsets(self._answer(sock, beside, dns.rdatatype.TXT), beside)
        found.texts = next((rrset for rrset in texts if rrset.rdtype == dns.rdatatype.TXT), None)
        if not found.owner_records:
            if (found.addresses or found.cname is not None) and not self._is_in_use(sock, zone, name):
                found.addresses, found.cname = {}, None
            if found.texts is not None and not self._is_in_use(sock, zone, beside):
                found.texts = None
        return found

    def _is_in_use(self, sock: socket.socket, zone: Zone, name: str) -> bool:
        """Whether any record stands at the name itself: the answer to a query may come from a wildcard."""
        condition = self._signed(dns.update.UpdateMessage(dns.name.from_text(zone.name)))
        condition.present(dns.name.from_text(name))
        code = self._ask(sock, condition).rcode()
        if code != dns.rcode.NXDOMAIN:
            self._check(code, f"see whether {name} is in use")
        return code != dns.rcode.NXDOMAIN

    def _answer(self, sock: socket.socket, name: str, type_: dns.rdatatype.RdataType) -> dns.message.Message:
        answer = self._ask(sock, self._query(name, type_))
        # With a CNAME the answer's code describes the target, which may be missing or lead in a circle.
        if answer.rcode() != dns.rcode.NXDOMAIN and not self._rrsets(answer, name):
            self._check(answer.rcode(), f"read {name} {type_.name}")
        return answer

    def _rrsets(self, answer: dns.message.Message, name: str) -> list[dns.rrset.RRset]:
        return [rrset for rrset in answer.answer if rrset.name == dns.name.from_text(name)]

    def _query(self, name: str, type_: dns.rdatatype.RdataType) -> dns.message.Message:
        return self._signed(dns.message.make_query(dns.name.from_text(name), type_, flags=0))

    def _signed(self, message: M) -> M:
        if self._key is not None:
            message.use_tsig(self._key)
        return message

    # --- writing ---

    def _send(self, sock: socket.socket, zone: Zone, changes: Sequence[RecordChange]) -> None:
        for _ in range(ATTEMPTS):
            update = dns.update.UpdateMessage(dns.name.from_text(zone.name))
            for name in sorted({change.name for change in changes}):
                current = self._read(sock, zone, name)
                if current.cut is not None:
                    refusal = delegated(name, zone.name, current.cut)
                    raise ProviderError(f"{self._where}: can't change {name}: {refusal.evidence} ({refusal.rule})")
                Edit(update, name, current).apply([change for change in changes if change.name == name])
            if not update.update:
                return
            code = self._ask(sock, self._signed(update)).rcode()
            if code not in _CONFLICTS:
                self._check(code, f"update zone {zone.name}")
                return
        names = ", ".join(sorted({change.name for change in changes}))
        raise ProviderError(
            f"{self._where}: {names} changed each of the {ATTEMPTS} times that it was read, or a CNAME stands there; "
            "the next reconcile reads it again"
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


def _referral(answer: dns.message.Message, name: str) -> dns.rrset.RRset | None:
    """The NS records with which the server refers us elsewhere, at or above a name; not those of the root."""
    if answer.flags & dns.flags.AA:
        return None
    fitting = (
        rrset
        for rrset in answer.authority
        if rrset.rdtype == dns.rdatatype.NS and dns.name.from_text(name).is_subdomain(rrset.name)
    )
    return next((rrset for rrset in fitting if rrset.name != dns.name.root), None)


def _dname(answer: dns.message.Message) -> dns.rrset.RRset | None:
    """The DNAME record that redirects all names below it."""
    return next((rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.DNAME), None)


def _text(record: dns.rrset.RRset | None, name: str = "") -> str:
    """A zone cut's record for people."""
    if record is None:
        return f"{name} NS"
    targets = sorted(_plain(rdata.to_text()) for rdata in record)
    return f"{_plain(record.name.to_text())} {dns.rdatatype.to_text(record.rdtype)} {', '.join(targets)}"
