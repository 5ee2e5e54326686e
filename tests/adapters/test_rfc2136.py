"""Dynamic updates on a real BIND: keys, zones, conditions, and the server's answers explained."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rdatatype
import dns.tsig
import dns.update
import pytest

from protokube.core.dns.model import ChangeKind, OwnedRecord, RecordChange
from protokube.dnsprovider.rfc2136 import Rfc2136, load_server
from protokube.errors import ConfigError, ProviderError
from tests.lab.bind import Bind

pytestmark = pytest.mark.root

API, ETCD = "api.internal.c1.test", "etcd-a.internal.c1.test"


@pytest.fixture
def bind(tmp_path: Path) -> Iterator[Bind]:
    with Bind(tmp_path, ("c1.test", "internal.c1.test")) as bind:
        yield bind


def client(bind: Bind, keyfile: Path | None = None, zone: str | None = None) -> Rfc2136:
    return Rfc2136(load_server(bind.server, keyfile or bind.keyfile), zone=zone)


def put(name: str, value: str, owner: str = "i-1") -> RecordChange:
    return RecordChange(ChangeKind.UPSERT, name, "A", (value,), 60, owner, name.startswith("api"))


def drop(name: str, value: str, owner: str) -> RecordChange:
    return RecordChange(ChangeKind.DELETE, name, "A", (), 60, owner, name.startswith("api"), (value,))


def test_one_batch_may_touch_two_zones(bind: Bind) -> None:
    client(bind).change([put(API, "10.0.0.1"), put("api.c1.test", "192.0.2.1")])
    assert bind.values(API, "A") == {"10.0.0.1"}
    assert bind.values("api.c1.test", "A") == {"192.0.2.1"}


def test_an_operator_sees_who_wrote_what(bind: Bind) -> None:
    client(bind).change([put(API, "10.0.0.1"), put(API, "10.0.0.2", "i-2"), put(ETCD, "10.0.0.1")])
    expected = {'"protokube" "i-1" "A" "10.0.0.1"', '"protokube" "i-2" "A" "10.0.0.2"'}
    assert bind.values(f"_protokube.{API}", "TXT") == expected
    assert bind.values(f"_protokube.{ETCD}", "TXT") == {'"protokube" "i-1" "A" "10.0.0.1"'}


def test_text_records_of_others_beside_ours_stay(bind: Bind) -> None:
    bind.add(f"_protokube.{ETCD}", "TXT", '"a note"')
    client(bind).change([put(ETCD, "10.0.0.1")])
    client(bind).change([put(ETCD, "10.0.0.2", "i-2")])
    assert '"a note"' in bind.values(f"_protokube.{ETCD}", "TXT")
    assert client(bind).record_sets(frozenset({ETCD}))[ETCD].owned == (OwnedRecord("A", ("10.0.0.2",), 60, "i-2"),)


def test_an_ipv6_server(tmp_path: Path) -> None:
    with Bind(tmp_path, host="::1") as bind:
        assert bind.server.startswith("[::1]:")
        client(bind).change([put(API, "10.0.0.1")])
        assert bind.values(API, "A") == {"10.0.0.1"}
        bind.stop()
        with pytest.raises(ProviderError, match=rf"\[::1\]:{bind.port}.*listens on TCP"):
            client(bind).record_sets(frozenset({API}))


@pytest.mark.parametrize("algorithm", ["hmac-sha384", "hmac-sha512"])
def test_stronger_keys(bind: Bind, algorithm: str) -> None:
    bind.stop()
    bind.make_key("protokube", algorithm, bind.keyfile)
    bind.start()
    client(bind).change([put(API, "10.0.0.1")])
    assert bind.values(API, "A") == {"10.0.0.1"}


class Between(Rfc2136):
    """Lets something happen once between the look and the update."""

    meanwhile: Callable[[], None] | None = None

    def _ask(self, sock: socket.socket, message: dns.message.Message) -> dns.message.Message:
        if isinstance(message, dns.update.UpdateMessage) and self.meanwhile is not None:
            happens, self.meanwhile = self.meanwhile, None
            happens()
        return super()._ask(sock, message)


def test_an_address_that_is_claimed_in_between_is_not_taken_away(bind: Bind) -> None:
    client(bind).change([put(API, "10.0.0.1", "i-1"), put(API, "10.0.0.3", "i-3")])
    remover = Between(load_server(bind.server, bind.keyfile))
    remover.meanwhile = lambda: client(bind).change([put(API, "10.0.0.1", "i-2")])
    remover.change([drop(API, "10.0.0.1", "i-1")])
    assert bind.values(API, "A") == {"10.0.0.1", "10.0.0.3"}
    assert bind.values(f"_protokube.{API}", "TXT") == {
        '"protokube" "i-2" "A" "10.0.0.1"',
        '"protokube" "i-3" "A" "10.0.0.3"',
    }


def test_a_cname_that_appears_in_between_is_an_error_not_a_loss(bind: Bind) -> None:
    writer = Between(load_server(bind.server, bind.keyfile))
    writer.meanwhile = lambda: bind.add(API, "CNAME", "lb.c1.test.")
    with pytest.raises(ProviderError, match="a CNAME stands there"):
        writer.change([put(API, "10.0.0.1")])
    assert bind.values(API, "CNAME") == {"lb.c1.test."}


class Slow(Rfc2136):
    """Lets something happen once between the answer for A and the next question."""

    meanwhile: Callable[[], None] | None = None

    def _ask(self, sock: socket.socket, message: dns.message.Message) -> dns.message.Message:
        answer = super()._ask(sock, message)
        if message.question[0].rdtype == dns.rdatatype.A and self.meanwhile is not None:
            happens, self.meanwhile = self.meanwhile, None
            happens()
        return answer


def test_a_change_while_it_reads_is_not_taken_for_an_unmanaged_address(bind: Bind) -> None:
    client(bind).change([put(API, "10.0.0.1"), put(API, "10.0.0.2", "i-2")])
    reader = Slow(load_server(bind.server, bind.keyfile))
    reader.meanwhile = lambda: client(bind).change([put(API, "10.0.0.9", "i-2")])
    owned = reader.record_sets(frozenset({API}))[API].owned
    assert owned == (OwnedRecord("A", ("10.0.0.1",), 60, "i-1"), OwnedRecord("A", ("10.0.0.9",), 60, "i-2"))


# --- wildcards and zone cuts ---


def serial(bind: Bind) -> str:
    (found,) = bind.values("c1.test", "SOA")
    return found.split()[2]


def test_asking_whether_a_name_is_in_use_changes_nothing(bind: Bind) -> None:
    bind.add("*.c1.test", "A", "192.0.2.9")
    before = serial(bind)
    assert client(bind).record_sets(frozenset({"api.c1.test"}))["api.c1.test"].owned == ()
    assert serial(bind) == before


def test_a_name_with_an_owner_record_is_known_to_be_real(bind: Bind) -> None:
    """A converged node sends no update at all, wildcard or not."""
    bind.add("*.c1.test", "A", "192.0.2.9")
    client(bind).change([put("api.c1.test", "192.0.2.1")])
    reader = Between(load_server(bind.server, bind.keyfile))
    reader.meanwhile = lambda: pytest.fail("an update was sent")
    found = reader.record_sets(frozenset({"api.c1.test"}))["api.c1.test"]
    assert found.owned == (OwnedRecord("A", ("192.0.2.1",), 60, "i-1"),)


def test_a_wildcard_that_leads_into_another_zone_of_the_server_does_not_hide_its_own(bind: Bind) -> None:
    """The answer holds the SOA of the target's zone, which holds the name as well, but isn't where it stands."""
    bind.add("*.internal.c1.test", "CNAME", "nothing.c1.test.")
    client(bind).change([put(API, "10.0.0.1")])
    assert bind.values(API, "A") == {"10.0.0.1"}


def test_a_real_cname_that_leads_in_a_circle_is_seen(bind: Bind) -> None:
    bind.add(API, "CNAME", f"{API}.")
    (found,) = client(bind).record_sets(frozenset({API}))[API].unmanaged
    assert (found.type, found.values) == ("CNAME", (API,))


def test_a_parent_zone_is_refused_where_the_server_has_the_child(bind: Bind) -> None:
    """What is written below the cut of the parent is never answered."""
    parent = client(bind, zone="c1.test")
    found = parent.record_sets(frozenset({API, "api.c1.test"}))
    assert found["api.c1.test"].refusal is None
    refusal = found[API].refusal
    assert refusal is not None
    assert refusal[0] == "dns/delegated" and "internal.c1.test NS ns.internal.c1.test" in refusal[1]
    with pytest.raises(ProviderError, match="dns/delegated"):
        parent.change([put(API, "10.0.0.1")])


def test_nothing_is_written_below_a_cut(bind: Bind) -> None:
    bind.add("dev.c1.test", "NS", "ns.elsewhere.test.")
    before = serial(bind)
    with pytest.raises(ProviderError, match=r"dev\.c1\.test NS ns\.elsewhere\.test.*dns/delegated"):
        client(bind, zone="c1.test").change([put("api.dev.c1.test", "10.0.0.1")])
    assert serial(bind) == before


@pytest.mark.parametrize("zone", [None, "c1.test"])
def test_a_dname_takes_names_away_as_well(bind: Bind, zone: str | None) -> None:
    bind.add("dev.c1.test", "DNAME", "other.test.")
    refusal = client(bind, zone=zone).record_sets(frozenset({"api.dev.c1.test"}))["api.dev.c1.test"].refusal
    assert refusal is not None
    assert refusal[0] == "dns/delegated" and "dev.c1.test DNAME other.test" in refusal[1]


class Resolver(Rfc2136):
    """Hears the answers as a resolver gives them: it isn't authoritative for anything."""

    def _ask(self, sock: socket.socket, message: dns.message.Message) -> dns.message.Message:
        answer = super()._ask(sock, message)
        answer.flags &= ~dns.flags.AA
        return answer


def test_a_zone_that_the_server_only_knows_from_others_is_named(bind: Bind) -> None:
    resolver = Resolver(load_server(bind.server, bind.keyfile))
    refusal = resolver.record_sets(frozenset({"api.c1.test"}))["api.c1.test"].refusal
    assert refusal is not None
    assert refusal[0] == "dns/no-zone" and "seen: c1.test, which it only knows from other servers" in refusal[1]


def test_a_name_outside_of_the_zone_that_is_named(bind: Bind) -> None:
    refusal = client(bind, zone="internal.c1.test").record_sets(frozenset({"api.c1.test"}))["api.c1.test"].refusal
    assert refusal == ("dns/no-zone", "no zone holds api.c1.test; seen: internal.c1.test, named by --dns-zone-name")


# --- errors ---


def test_a_key_that_the_server_does_not_know(bind: Bind, tmp_path: Path) -> None:
    bind.make_key("unknown", "hmac-sha256", tmp_path / "k")
    with pytest.raises(ProviderError, match=r"BADKEY.*--dns-tsig-keyfile"):
        client(bind, tmp_path / "k").change([put(API, "10.0.0.1")])


def test_a_key_with_another_secret(bind: Bind, tmp_path: Path) -> None:
    bind.make_key("protokube", "hmac-sha256", tmp_path / "k")
    with pytest.raises(ProviderError, match=r"BADSIG.*secret"):
        client(bind, tmp_path / "k").change([put(API, "10.0.0.1")])


def test_a_clock_that_is_wrong(bind: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)  # no time namespace changes the time of day
    with pytest.raises(ProviderError, match=r"BADTIME.*clock"):
        client(bind).change([put(API, "10.0.0.1")])


def test_an_update_without_a_key_is_refused(bind: Bind) -> None:
    with pytest.raises(ProviderError, match=r"REFUSED.*update-policy"):
        Rfc2136(load_server(bind.server)).change([put(API, "10.0.0.1")])


def test_a_zone_that_the_server_is_not_the_primary_of(bind: Bind) -> None:
    elsewhere = client(bind, zone="other.test")
    with pytest.raises(ProviderError, match=r"REFUSED|NOTAUTH"):
        elsewhere.change([put("api.other.test", "10.0.0.1")])


def test_notauth_is_explained(tmp_path: Path) -> None:
    """The name is readable here, but the zone that the operator named isn't one of this server's."""
    with Bind(tmp_path) as bind, pytest.raises(ProviderError, match=r"NOTAUTH.*not the primary"):
        client(bind, zone="internal.c1.test").change([put(API, "10.0.0.1")])


def test_a_zone_that_failed_to_load_is_an_error_not_a_missing_zone(tmp_path: Path) -> None:
    bind = Bind(tmp_path, ("c1.test", "broken.test"))
    (bind.work / "broken.test.db").write_text("this is no zone file\n")
    with bind, pytest.raises(ProviderError, match=r"SERVFAIL.*log"):
        client(bind).record_sets(frozenset({"api.broken.test"}))


def test_a_connection_that_is_cut(bind: Bind) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        broken = Rfc2136(load_server(f"127.0.0.1:{port}", bind.keyfile))
        listener.settimeout(5)
        threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True).start()
        with pytest.raises(ProviderError, match="connection"):
            broken.record_sets(frozenset({API}))


def test_bad_configuration_names_every_fault(tmp_path: Path) -> None:
    (tmp_path / "k").write_text('key "a" { algorithm hmac-md5; secret "AAAA"; };')
    with pytest.raises(ConfigError) as caught:
        load_server("host:dns", tmp_path / "k")
    assert len(caught.value.faults) == 2
    with pytest.raises(ConfigError, match="can't be read"):
        load_server("127.0.0.1", tmp_path / "missing")
    (tmp_path / "k").write_text('key "a..b" { algorithm hmac-sha256; secret "AAAA"; };')
    with pytest.raises(ConfigError, match=r"'a\.\.b' is no DNS name"):
        load_server("127.0.0.1", tmp_path / "k")
