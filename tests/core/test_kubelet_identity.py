"""kubelet's certificates and kubeconfig on a control-plane node."""

from __future__ import annotations

import pytest
import yaml
from msgspec.structs import replace

from protokube.core.kubelet.assess import assess
from protokube.core.kubelet.backoff import UnitTracking
from protokube.core.kubelet.gate import Gate
from protokube.core.kubelet.identity import CLIENT, SERVING, certificates, kubeconfig, node_user
from protokube.core.kubelet.join import CA_PATH, TOKEN_PATH
from protokube.core.kubelet.model import KubeletAssessment, KubeletBinary, KubeletNode
from protokube.core.kubelet.paths import ARGS_PATH, BOOTSTRAP_PATH, CONFIG_PATH, KUBECONFIG_PATH
from protokube.core.kubelet.schema import kubelet_schema
from protokube.core.model import Moment
from protokube.core.node.model import File, FileState
from protokube.core.observed import Observed
from tests.core.kubelet_states import ready, up
from tests.core.states import INSTANCE, NOW, changed, config_of

BOTH = frozenset({CLIENT, SERVING})
PKI = "/var/lib/protokube/pki"


def judged(
    observed: Observed,
    names: frozenset[str] = BOTH,
    uptime: float = 5.0,
    *,
    control_plane: bool = True,
    serving_issued: float | None = None,
) -> KubeletAssessment:
    settings = replace(config_of().kubelet, master=True, control_plane=control_plane)
    facts = KubeletNode(
        Moment(NOW, uptime), INSTANCE, observed.node, observed.kubelet, names, serving_issued=serving_issued
    )
    return assess(settings, facts, UnitTracking(), Gate())


def texts(made: KubeletAssessment) -> dict[str, str]:
    return {one.path: one.text for one in made.files}


def _as_written(made: KubeletAssessment) -> dict[str, FileState]:
    return {one.path: File(one.text, 0o644, int((NOW - 1000) * 1e9)) for one in made.files}


def _with_kubelet(version: str) -> Observed:
    """A node without kubelet's files whose kubelet takes every flag that protokube may give it."""
    observed = changed(ready(), files={})
    flags = frozenset(field.flag for field in kubelet_schema().fields.values() if field.flag)
    return replace(observed, kubelet=replace(observed.kubelet, binary=KubeletBinary(version, flags)))


def test_the_certificates_are_the_nodes_own() -> None:
    client, serving = certificates(INSTANCE)
    user = f"system:node:{INSTANCE.name}"
    assert (
        (client.common_name, client.organizations)
        == (user, ("system:nodes",))
        == (node_user(INSTANCE.name), ("system:nodes",))
    )
    assert client.client and not client.server and not client.dns
    assert serving.server and not serving.client and serving.dns == (INSTANCE.name,)
    assert serving.addresses == INSTANCE.internal


def test_a_kubeconfig_names_files_and_holds_no_certificate() -> None:
    read = yaml.safe_load(kubeconfig("https://127.0.0.1:6443", "/pki/kubelet"))
    (cluster,), (user,), (context,) = read["clusters"], read["users"], read["contexts"]
    assert cluster["cluster"] == {"server": "https://127.0.0.1:6443", "certificate-authority": "/pki/kubelet/ca.crt"}
    assert user["user"] == {"client-certificate": "/pki/kubelet/tls.crt", "client-key": "/pki/kubelet/tls.key"}
    assert context["name"] == read["current-context"]
    assert context["context"] == {"cluster": cluster["name"], "user": user["name"]}


def test_all_files_are_written_at_once_when_the_certificates_are_there() -> None:
    made = texts(judged(changed(ready(), files={})))
    assert set(made) == {ARGS_PATH, CONFIG_PATH, KUBECONFIG_PATH}
    assert f"--kubeconfig={KUBECONFIG_PATH}" in made[ARGS_PATH]
    config = yaml.safe_load(made[CONFIG_PATH])
    assert config["tlsCertFile"] == f"{PKI}/{SERVING}/tls.crt"
    assert config["tlsPrivateKeyFile"] == f"{PKI}/{SERVING}/tls.key"
    assert config["authentication"] == {"x509": {"clientCAFile": f"{PKI}/{CLIENT}/ca.crt"}}
    assert "authorization" not in config, "kubelet's own default asks the API server"
    assert "https://127.0.0.1:6443" in made[KUBECONFIG_PATH]


def test_kubelet_waits_for_its_first_certificates_no_longer_than_for_volumes() -> None:
    bare = changed(ready(), files={})
    for names in (frozenset[str](), frozenset({CLIENT}), frozenset({SERVING})):
        early = judged(bare, names)
        assert not early.files and early.unit is None
        assert [one.reason for one in early.findings.waiting] == ["its certificates are awaited"]
    late = judged(bare, frozenset(), uptime=1000.0)
    assert KUBECONFIG_PATH not in texts(late) and "--kubeconfig" not in texts(late)[ARGS_PATH]


def test_a_changed_kubeconfig_restarts_a_running_kubelet() -> None:
    stands = _as_written(judged(changed(ready(), files={})))
    assert judged(changed(ready(), files=stands, unit=up())).unit is None
    newer = stands | {KUBECONFIG_PATH: replace(stands[KUBECONFIG_PATH], mtime_ns=int((NOW - 5) * 1e9))}
    restarted = judged(changed(ready(), files=newer, unit=up())).unit
    assert restarted is not None and restarted.restart and KUBECONFIG_PATH in restarted.reason


@pytest.mark.parametrize(
    ("version", "issued", "restarts"),
    [
        ("1.20.2", NOW - 5, True),
        ("1.30.9", NOW - 5, True),
        ("1.31.0", NOW - 5, False),
        ("1.20.2", NOW - 1000, False),
        ("1.20.2", NOW + 60, False),
        ("1.20.2", None, False),
    ],
)
def test_an_exchanged_serving_certificate_restarts_a_kubelet_that_reads_it_once(
    version: str, issued: float | None, restarts: bool
) -> None:
    bare = _with_kubelet(version)
    runs = changed(bare, files=_as_written(judged(bare)), unit=up())
    unit = judged(runs, serving_issued=issued).unit
    assert (unit is not None and unit.restart and f"{PKI}/{SERVING}" in unit.reason) == restarts


def test_a_serving_certificate_of_another_hand_restarts_nothing() -> None:
    bare = _with_kubelet("1.20.2")
    runs = changed(bare, files=_as_written(judged(bare, frozenset({CLIENT}), uptime=1000.0)), unit=up())
    assert judged(runs, frozenset({CLIENT}), uptime=1000.0, serving_issued=NOW - 5).unit is None


def test_a_node_without_a_control_plane_gets_no_identity() -> None:
    made = texts(judged(changed(ready(), files={}), control_plane=False))
    assert set(made) == {ARGS_PATH, CONFIG_PATH} and "tlsCertFile" not in made[CONFIG_PATH]


def test_a_machine_that_joins_asks_with_its_token_and_no_file_holds_it() -> None:
    dns = ("10.96.0.10", "cluster.local")
    settings = replace(config_of().kubelet, master=False, api="https://10.0.0.9:6443", cluster_dns=dns)
    bare = changed(ready(), files={})
    facts = KubeletNode(Moment(NOW, 5.0), INSTANCE, bare.node, bare.kubelet)
    made = texts(assess(settings, facts, UnitTracking(), Gate()))
    assert set(made) == {ARGS_PATH, CONFIG_PATH, BOOTSTRAP_PATH}, "its kubeconfig is kubelet's own"
    assert f"--bootstrap-kubeconfig={BOOTSTRAP_PATH}" in made[ARGS_PATH]
    assert f"--kubeconfig={KUBECONFIG_PATH}" in made[ARGS_PATH]
    config = yaml.safe_load(made[CONFIG_PATH])
    assert (config["clusterDNS"], config["clusterDomain"]) == (["10.96.0.10"], "cluster.local")
    assert config["serverTLSBootstrap"] and config["rotateCertificates"]
    assert config["authentication"] == {"x509": {"clientCAFile": CA_PATH}}
    first = yaml.safe_load(made[BOOTSTRAP_PATH])
    assert first["users"][0]["user"] == {"tokenFile": TOKEN_PATH}
    assert first["clusters"][0]["cluster"] == {
        "server": "https://10.0.0.9:6443",
        "certificate-authority": CA_PATH,
    }


def test_a_joined_kubelet_restarts_when_it_is_to_trust_others() -> None:
    settings = replace(config_of().kubelet, master=False, api="https://10.0.0.9:6443")
    bare = changed(ready(), files={})
    facts = KubeletNode(Moment(NOW, 5.0), INSTANCE, bare.node, bare.kubelet)
    made = texts(assess(settings, facts, UnitTracking(), Gate()))
    long_ago, now = int((NOW - 900) * 1e9), int((NOW - 5) * 1e9)
    files = {path: File(text, 0o644, long_ago) for path, text in made.items()} | {CA_PATH: File("ca", 0o644, now)}
    stands = changed(ready(), files=files, unit=up())
    facts = KubeletNode(Moment(NOW, 5.0), INSTANCE, stands.node, stands.kubelet)
    unit = assess(settings, facts, UnitTracking(), Gate()).unit
    assert unit is not None and unit.restart and CA_PATH in unit.reason
