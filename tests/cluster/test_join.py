"""Machines join with bootstrap tokens, by a real API server and controllers: who gets a certificate, who not."""

from __future__ import annotations

import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from protokube.core.controlplane.skew import told_version
from protokube.core.objects.actions import DecideRequest
from protokube.core.objects.assess import assess
from protokube.core.objects.coredns import ClusterDns
from protokube.core.objects.model import BOOTSTRAPPERS, CERTIFICATE, ObjectFacts
from protokube.core.objects.requests import CLIENT, SERVING, Reserved
from protokube.core.objects.tokens import NAMESPACE, Token, secret_manifest, secret_name
from protokube.core.objects.wanted import ObjectsInput, wanted_objects
from protokube.core.pki.model import PKI_DIR
from protokube.kubeapi.client import KubeApi
from protokube.kubeapi.http import KubeError
from protokube.kubeapi.node import NodeObjects, ask_version
from protokube.kubeapi.requests import decide, watch_requests, workers
from protokube.pki.x509 import read_request
from tests.lab.api_server import ApiServer
from tests.lab.netns import Network
from tests.lab.trial import until

pytestmark = pytest.mark.root

USAGES = ("digital signature", "key encipherment", "client auth")
"""What kubelet 1.20 asks for, whatever its key."""
TOKEN = "abcdef.0123456789abcdef"
DNS = ClusterDns("10.96.0.10", "cluster.local", "registry.k8s.io/coredns:1.7.0")
INPUT = ObjectsInput("node-a", "https://10.77.0.11:6443", b64encode(b"CA").decode(), (1, 20, 2), DNS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    base: Path = tmp_path_factory.mktemp("api")
    with Network() as network, ApiServer(base, network.node("10.77.0.11/24", gateway="10.77.0.1")) as server:
        server.start_controller_manager()
        with server.inside():
            apply_all(server.admin())
            make_token(server.admin(), TOKEN, 3600)
            yield server


def look(api: KubeApi) -> ObjectFacts:
    keys = [one.key for one in wanted_objects(INPUT)]
    found = {key: api.get(api.path(key.api_version, key.kind, key.namespace, key.name)) for key in keys}
    return ObjectFacts(asked=True, found=found)


def apply_all(api: KubeApi) -> None:
    for one in assess(wanted_objects(INPUT), look(api), Reserved()).apply:
        api.apply(one.manifest)


def make_token(api: KubeApi, token: str, seconds: float, node: str = "") -> None:
    identity, _, secret = token.partition(".")
    until_when = datetime.fromtimestamp(time.time() + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    api.create(
        api.path("v1", "Secret", NAMESPACE), secret_manifest(Token(identity, until_when, "a test", node), secret)
    )


def decide_all(server: ApiServer) -> None:
    """What a control-plane node does with the requests that stand there."""
    pki = server.base / "root" / PKI_DIR.lstrip("/")
    if not pki.exists():
        pki.mkdir(parents=True)
        (pki / CERTIFICATE).symlink_to(server.base / "admin")
    objects = NodeObjects(str(server.base / "root"), 6443, read_request, lambda _: None)
    try:
        judged = assess(wanted_objects(INPUT), objects.look([one.key for one in wanted_objects(INPUT)]), Reserved())
        for each, verdict in judged.decide:
            objects.decide(DecideRequest(each.name, each.uid, verdict.approve, verdict.reason, verdict.claim))
    finally:
        objects.close()


def request(user: str, *organizations: str, dns: tuple[str, ...] = (), addresses: tuple[str, ...] = ()) -> str:
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in organizations]
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    names = [*map(x509.DNSName, dns), *(x509.IPAddress(ip_address(one)) for one in addresses)]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return b64encode(signed.public_bytes(Encoding.PEM)).decode()


def ask(api: KubeApi, name: str, encoded: str, signer: str = CLIENT, usages: tuple[str, ...] = USAGES) -> None:
    spec = {"request": encoded, "signerName": signer, "usages": list(usages)}
    kind = "CertificateSigningRequest"
    manifest = {"apiVersion": "certificates.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    api.create(api.path("certificates.k8s.io/v1", kind), manifest)


def status(server: ApiServer, name: str) -> dict[str, Any]:
    api = server.admin()
    found = api.get(api.path("certificates.k8s.io/v1", "CertificateSigningRequest", name=name))
    assert found is not None
    return dict(found.get("status") or {})


def denied(server: ApiServer, name: str) -> str:
    """The reason for which a request was denied."""
    found = status(server, name)
    (condition,) = found["conditions"]
    assert condition["type"] == "Denied" and "certificate" not in found
    return str(condition["message"])


def certified(server: ApiServer, name: str) -> str:
    until(f"{name} has a certificate", lambda: status(server, name).get("certificate"))
    return str(status(server, name)["certificate"])


def test_all_objects_stand_after_one_pass_and_nothing_is_left_to_do(server: ApiServer) -> None:
    assert assess(wanted_objects(INPUT), look(server.admin()), Reserved()).apply == ()


def test_an_api_server_tells_its_version_to_a_control_plane_node(server: ApiServer) -> None:
    folder = server.base / "asking" / PKI_DIR.lstrip("/")
    folder.mkdir(parents=True)
    (folder / CERTIFICATE).symlink_to(server.base / "admin")
    answer = ask_version(str(server.base / "asking"), f"https://{server.address}:6443/version")
    assert told_version(answer) == (1, 20, 2), answer


def test_another_owners_fields_and_unknown_ones_are_kept(server: ApiServer) -> None:
    api = server.admin()
    path = api.path("v1", "ConfigMap", "kube-public", "cluster-info")
    api.merge(path, {"metadata": {"annotations": {"example.com/by": "hand"}}, "data": {"more": "kept"}})
    config = next(one for one in wanted_objects(INPUT) if one.key.name == "cluster-info")
    api.merge(path, {"data": {"kubeconfig": "broken"}})
    api.apply(config.manifest)
    found = api.get(path)
    assert found is not None and found["data"]["more"] == "kept"
    assert found["data"]["kubeconfig"] == config.manifest["data"]["kubeconfig"]
    assert found["metadata"]["annotations"]["example.com/by"] == "hand"


def test_the_operators_corefile_stays(server: ApiServer) -> None:
    api = server.admin()
    path = api.path("v1", "ConfigMap", NAMESPACE, "coredns")
    api.merge(path, {"data": {"Corefile": "mine"}})
    apply_all(api)
    found = api.get(path)
    assert found is not None and found["data"]["Corefile"] == "mine"
    service = api.get(api.path("v1", "Service", NAMESPACE, "kube-dns"))
    assert service is not None and service["spec"]["clusterIP"] == "10.96.0.10"


def test_a_node_reads_what_kube_proxy_needs_and_no_secret(server: ApiServer) -> None:
    node = server.with_certificate("proxying", "system:node:worker-9", "system:nodes")
    for path in ("/api/v1/services", "/api/v1/nodes", "/apis/discovery.k8s.io/v1beta1/endpointslices"):
        node.list(path)
    with pytest.raises(KubeError):
        node.list("/api/v1/secrets")


def test_a_machine_with_a_token_gets_its_first_certificate(server: ApiServer) -> None:
    ask(server.with_token(TOKEN), "worker-1", request("system:node:worker-1", "system:nodes"))
    decide_all(server)
    assert certified(server, "worker-1")


def test_a_stolen_token_makes_no_node_that_exists_and_none_of_the_control_plane(server: ApiServer) -> None:
    api = server.admin()
    make_node(api, "taken", "10.9.1.1")
    make_node(api, "master-2", "10.9.1.2")
    api.merge("/api/v1/nodes/master-2", {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}})
    make_token(api, "fortkn.0123456789abcdef", 3600, "taken")
    make_token(api, "formst.0123456789abcdef", 3600, "master-2")
    thief, named = server.with_token(TOKEN), server.with_token("fortkn.0123456789abcdef")
    for door, name, node in (
        (thief, "as-taken", "taken"),
        (thief, "as-master", "master-2"),
        (named, "as-other", "fresh"),
        (server.with_token("formst.0123456789abcdef"), "as-master-by-name", "master-2"),
    ):
        ask(door, name, request(f"system:node:{node}", "system:nodes"))
    ask(thief, "twice-1", request("system:node:twice", "system:nodes"))
    ask(named, "back", request("system:node:taken", "system:nodes"))
    decide_all(server)
    ask(thief, "twice-2", request("system:node:twice", "system:nodes"))
    decide_all(server)
    for name in ("as-taken", "as-master", "as-other", "as-master-by-name", "twice-2"):
        assert denied(server, name)
    assert certified(server, "twice-1") and certified(server, "back")
    assert "taken" in workers(api) and "master-2" not in workers(api)


def test_a_name_that_a_token_got_is_not_given_again_when_its_request_is_forgotten(server: ApiServer) -> None:
    api = server.admin()
    ask(server.with_token(TOKEN), "kept-1", request("system:node:kept", "system:nodes"))
    decide_all(server)
    assert certified(server, "kept-1")
    assert api.delete(api.path("certificates.k8s.io/v1", "CertificateSigningRequest", name="kept-1"))
    ask(server.with_token(TOKEN), "kept-2", request("system:node:kept", "system:nodes"))
    api.create(
        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
        {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "alive"}},
    )
    ask(server.with_token(TOKEN), "alive-1", request("system:node:alive", "system:nodes"))
    decide_all(server)
    assert "another request has got a certificate for kept" in denied(server, "kept-2")
    assert "has the lease" in denied(server, "alive-1")


def test_a_request_of_a_token_that_was_deleted_meanwhile_is_denied(server: ApiServer) -> None:
    api = server.admin()
    make_token(api, "sudden.0123456789abcdef", 3600)
    ask(server.with_token("sudden.0123456789abcdef"), "sudden", request("system:node:sudden", "system:nodes"))
    assert api.delete(api.path("v1", "Secret", NAMESPACE, secret_name("sudden")))
    decide_all(server)
    assert "was deleted" in denied(server, "sudden")


def test_a_verdict_is_on_one_request_and_not_on_the_next_of_its_name(server: ApiServer) -> None:
    api = server.admin()
    path = api.path("certificates.k8s.io/v1", "CertificateSigningRequest", name="exchanged")
    ask(server.with_token(TOKEN), "exchanged", request("system:node:good", "system:nodes"))
    found = api.get(path)
    assert found is not None and api.delete(path)
    ask(server.with_token(TOKEN), "exchanged", request("system:node:bad", "system:nodes"))
    decide(api, DecideRequest("exchanged", found["metadata"]["uid"], True, "the one before"))
    assert not status(server, "exchanged").get("conditions")
    assert api.delete(path)


@pytest.mark.parametrize(
    ("name", "user", "groups", "usages"),
    [
        ("wrong-group", "system:node:w", ("system:masters",), USAGES),
        ("more-groups", "system:node:w", ("system:nodes", "system:masters"), USAGES),
        ("no-node", "admin", ("system:nodes",), USAGES),
        (
            "server-usage",
            "system:node:w",
            ("system:nodes",),
            ("digital signature", "key encipherment", "server auth"),
        ),
    ],
)
def test_what_is_no_nodes_request_gets_none(
    server: ApiServer, name: str, user: str, groups: tuple[str, ...], usages: tuple[str, ...]
) -> None:
    ask(server.with_token(TOKEN), name, request(user, *groups), usages=usages)
    ask(server.with_token(TOKEN), f"after-{name}", request(f"system:node:after-{name}", "system:nodes"))
    decide_all(server)
    assert certified(server, f"after-{name}"), "the controllers have seen the later request"
    assert "certificate" not in status(server, name)
    assert denied(server, name)


@pytest.mark.parametrize("token", ["abcdef.0123456789abcdee", "zzzzzz.0123456789abcdef", "abcdef", TOKEN.upper()])
def test_a_token_that_nobody_made_opens_nothing(server: ApiServer, token: str) -> None:
    with pytest.raises(KubeError) as refused:
        server.with_token(token).list("/apis/certificates.k8s.io/v1/certificatesigningrequests")
    assert refused.value.status == 401


def test_a_token_reads_nothing_else(server: ApiServer) -> None:
    for path in ("/api/v1/nodes", f"/api/v1/namespaces/{NAMESPACE}/secrets", "/api/v1/pods"):
        with pytest.raises(KubeError) as refused:
            server.with_token(TOKEN).list(path)
        assert refused.value.status == 403


def test_an_expired_token_and_a_deleted_one_open_nothing(server: ApiServer) -> None:
    make_token(server.admin(), "expire.0123456789abcdef", -5)
    make_token(server.admin(), "delete.0123456789abcdef", 3600)
    path = "/apis/certificates.k8s.io/v1"
    assert server.with_token("delete.0123456789abcdef").get(path)
    api = server.admin()
    assert api.delete(api.path("v1", "Secret", NAMESPACE, secret_name("delete")))
    for token in ("expire.0123456789abcdef", "delete.0123456789abcdef"):

        def closed(token: str = token) -> bool:
            try:
                server.with_token(token).get(path)
            except KubeError as error:
                return error.status == 401
            return False

        until(f"{token} is no longer taken", closed)


def test_a_node_renews_its_own_certificate_and_no_other(server: ApiServer) -> None:
    node = server.with_certificate("node-1", "system:node:worker-1", "system:nodes")
    ask(node, "renewal", request("system:node:worker-1", "system:nodes"))
    ask(node, "foreign", request("system:node:worker-2", "system:nodes"))
    assert certified(server, "renewal")
    ask(node, "renewal-2", request("system:node:worker-1", "system:nodes"))
    assert certified(server, "renewal-2")
    assert "certificate" not in status(server, "foreign")


def test_tokens_are_of_a_group_that_protokube_alone_gives(server: ApiServer) -> None:
    api = server.admin()
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": TOKEN}}
    answer = api.create("/apis/authentication.k8s.io/v1/tokenreviews", review)
    assert BOOTSTRAPPERS in answer["status"]["user"]["groups"]


SERVES = ("digital signature", "key encipherment", "server auth")


def make_node(api: KubeApi, name: str, *addresses: str) -> None:
    api.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    claimed = [{"type": "InternalIP", "address": one} for one in addresses]
    api.merge(f"/api/v1/nodes/{name}/status", {"status": {"addresses": claimed}})


def test_a_kubelet_gets_a_serving_certificate_of_its_own_names_alone(server: ApiServer) -> None:
    api = server.admin()
    make_node(api, "serving-1", "10.9.0.1")
    make_node(api, "serving-2", "10.9.0.2", "10.96.0.1")
    one = server.with_certificate("serving-1", "system:node:serving-1", "system:nodes")
    two = server.with_certificate("serving-2", "system:node:serving-2", "system:nodes")
    own = {"dns": ("serving-1",), "addresses": ("10.9.0.1",)}
    user = "system:node:serving-1"

    ask(one, "own", request(user, "system:nodes", **own), SERVING, SERVES)
    ask(one, "foreign-address", request(user, "system:nodes", addresses=("10.9.0.2",)), SERVING, SERVES)
    ask(one, "foreign-name", request(user, "system:nodes", dns=("kubernetes",)), SERVING, SERVES)
    ask(
        one,
        "as-another",
        request("system:node:serving-2", "system:nodes", dns=("serving-2",)),
        SERVING,
        SERVES,
    )
    ask(one, "a-master", request(user, "system:masters", **own), SERVING, SERVES)
    ask(one, "a-client", request(user, "system:nodes", **own), SERVING, USAGES)
    ask(
        two,
        "a-service",
        request("system:node:serving-2", "system:nodes", addresses=("10.96.0.1",)),
        SERVING,
        SERVES,
    )
    ask(server.with_token(TOKEN), "a-token", request(user, "system:nodes", **own), SERVING, SERVES)
    decide_all(server)

    issued = x509.load_pem_x509_certificate(b64decode(certified(server, "own")))
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["serving-1"]
    for name in ("foreign-address", "foreign-name", "as-another", "a-master", "a-client", "a-service", "a-token"):
        assert denied(server, name)
    decide_all(server)
    stands = api.get(api.path("certificates.k8s.io/v1", "CertificateSigningRequest", name="own"))
    assert stands is not None
    decide(api, DecideRequest("own", stands["metadata"]["uid"], False, "a second verdict counts for nothing"))
    assert [each["type"] for each in status(server, "own")["conditions"]] == ["Approved"]


def test_a_request_is_heard_of_at_once(server: ApiServer) -> None:
    heard = threading.Event()

    def listen() -> None:
        with server.inside():
            watch_requests(server.admin(), heard.set)

    decide_all(server)
    threading.Thread(target=listen, daemon=True).start()
    node = server.with_certificate("heard", "system:node:heard", "system:nodes")

    def asked() -> bool:
        name = f"heard-{time.monotonic_ns()}"  # the watch may begin after the first one
        ask(node, name, request("system:node:heard", "system:nodes", dns=("heard",)), SERVING, SERVES)
        return heard.wait(1.0)

    until("the request is heard of", asked)
