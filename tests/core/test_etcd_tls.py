"""Which members use TLS, which certificates they need, and what tells that etcd ever ran."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from protokube.core.disks.identity import Identity
from protokube.core.disks.model import VolumeContents
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.etcd.model import EtcdFacts, EtcdPeerMember, EtcdSettings, MountedMember, PeerAnswers
from protokube.core.etcd.template import render_manifest
from protokube.core.etcd.tls import member_certificates, pki_needs, uses_tls
from protokube.core.model import Unknown
from protokube.core.node.model import NodeFacts, OnVolume
from tests.core.test_etcd_bootstrap import assessed, volume
from tests.rounds.process import templates

SUFFIX = ".internal.c.example.com"
ON, OFF = EtcdSettings(templates=templates(), tls="on"), EtcdSettings(templates=templates(), tls="off")
AUTO = EtcdSettings(templates=templates(), tls="auto", store_shared=True)
LOCAL = EtcdSettings(templates=templates(), tls="auto")


def member(manifest: bool | None = None, *, data: bool = False, identity: str | None = None) -> MountedMember:
    """Member a of main; `manifest` says whether its manifest has TLS, None that there is none."""
    own, template = volume("a"), templates()["main"]
    texts: dict[str, str] = {} if identity is None else {IDENTITY_PATH: identity}
    if manifest is not None:
        texts[template.manifest] = render_manifest(
            template,
            own.member,
            mount_point="/m",
            dns_suffix=SUFFIX,
            image="x",
            state="new",
            hosts=False,
            tls=manifest,
        )
    entries = frozenset({f"{template.data_dir}/member/"} if data else ())
    contents = VolumeContents(entries, texts, {}, uuid="u")
    return MountedMember(own, template, "/link", OnVolume("/m", (1, 1)), contents)


def answers(scheme: str) -> PeerAnswers:
    return PeerAnswers({"b": (EtcdPeerMember("etcd-b", (f"{scheme}://etcd-b:2380",), ()),)})


@pytest.mark.parametrize(("settings", "new"), [(ON, True), (OFF, False), (AUTO, True), (LOCAL, False)])
def test_a_new_cluster_follows_the_settings(settings: EtcdSettings, new: bool) -> None:
    assert uses_tls(settings, member(), None) is new
    assert uses_tls(settings, member(), Unknown("silent")) is new


@pytest.mark.parametrize("settings", [ON, OFF, AUTO, LOCAL])
def test_a_member_that_ran_stays_as_it_is(settings: EtcdSettings) -> None:
    assert not uses_tls(settings, member(False, data=True), None)
    assert uses_tls(settings, member(True, data=True), None)
    assert uses_tls(settings, member(True, data=True), answers("http"))
    assert not uses_tls(settings, member(data=True), None), "kops's etcd, for example"


@pytest.mark.parametrize("settings", [ON, AUTO])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_member_that_joins_does_as_the_cluster_does(settings: EtcdSettings, scheme: str) -> None:
    assert uses_tls(settings, member(), answers(scheme)) is (scheme == "https")


def test_a_template_without_tls_has_none() -> None:
    plain = member()
    assert not uses_tls(ON, replace(plain, template=replace(plain.template, supports_tls=False)), None)


def test_both_certificates_of_a_member_are_for_servers_and_for_clients() -> None:
    """etcd's gateway dials its own port with the server's certificate: one without clientAuth answers code 14."""
    certificates = member_certificates(member(), SUFFIX)
    assert [one.name for one in certificates] == ["etcd-server-main", "etcd-peer-main"]
    assert all(one.server and one.client for one in certificates)


def test_a_peer_s_certificate_knows_no_address() -> None:
    _, peer = member_certificates(member(), SUFFIX)
    assert peer.addresses == () and peer.authority == "etcd-peers-main"
    assert peer.dns == (f"etcd-a{SUFFIX}", f"peers.etcd{SUFFIX}")


def needs(*members: MountedMember, settings: EtcdSettings = ON, ran: bool = False) -> tuple[list[str], str]:
    volumes = assessed(volume("a"), volume("b", ran=ran))
    facts = EtcdFacts(0.0, None, None, NodeFacts({}))  # type: ignore[arg-type]
    found = pki_needs(settings, facts, volumes, members)
    assert found.authorities == ("etcd-peers-events", "etcd-peers-main")
    return [one.name for one in found.wanted], found.etcd_ran


def test_a_node_without_tls_needs_no_certificate() -> None:
    assert needs(member(), settings=OFF) == ([], "")
    assert needs() == ([], "")


def test_a_client_s_certificate_comes_with_the_first_member() -> None:
    assert needs(member())[0] == ["etcd-server-main", "etcd-peer-main", "etcd-client"]


def test_tags_data_and_identity_tell_that_etcd_ran() -> None:
    assert needs(member())[1] == ""
    assert needs(member(), ran=True)[1] == "vol-b"
    assert needs(member(True, data=True))[1] == "vol-a"
    started = Identity("c.example.com", "main", "a", "vol-a", "u", None, True)
    assert needs(member(identity=started.render()))[1] == "vol-a"
    assert needs(member(identity=replace(started, started=False).render()))[1] == ""
