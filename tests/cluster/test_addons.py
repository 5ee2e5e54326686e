"""An addon channel on a real API server: applied, three-way, pruned, and not written when nothing differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from protokube.core.objects.assess import assess
from protokube.core.objects.channels import LEASE, LEASE_SECONDS, PRUNE_AFTER, record_key
from protokube.core.objects.model import CERTIFICATE, ChannelSource, ObjectsAssessment, ObjectWanted
from protokube.core.objects.plan import plan
from protokube.core.objects.requests import Reserved
from protokube.core.pki.model import PKI_DIR
from protokube.core.steps import Plan
from protokube.errors import ProviderError
from protokube.kubeapi.http import KubeError
from protokube.kubeapi.lease import LEASES, AddonLease
from protokube.kubeapi.node import NodeObjects
from tests.lab.api_server import ApiServer
from tests.lab.netns import Network
from tests.lab.trial import until

pytestmark = pytest.mark.root
T = TypeVar("T")

# No custom resource: an API server 1.20 that was built with Go 1.18 or newer ends at the first one (reflect2 walks
# maps in a way that Go gave up).
CHANNEL = """\
apiVersion: v1
kind: ServiceAccount
metadata: {name: one, namespace: addons}
---
apiVersion: v1
kind: Namespace
metadata: {name: addons}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: addons, labels: {first: yes-it-is}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - {name: web, image: example.com/web, resources: {limits: {cpu: 1000m, memory: 1024Mi}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: pruned}
data: {a: b}
"""


_NOTHING = ObjectWanted(
    {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "none"}}, "another program makes it", only_present=True
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    base: Path = tmp_path_factory.mktemp("api")
    with Network() as network, ApiServer(base, network.node("10.77.0.11/24", gateway="10.77.0.1")) as server:
        pki = base / "root" / PKI_DIR.lstrip("/")
        pki.mkdir(parents=True)
        (pki / CERTIFICATE).symlink_to(base / "admin")
        with server.inside():
            yield server


class Looker:
    """What a control-plane node does with its channel, reconcile by reconcile."""

    def __init__(self, server: ApiServer, folder: Path, node: str = "n1") -> None:
        (server.base / "root" / "addons").unlink(missing_ok=True)
        (server.base / "root" / "addons").symlink_to(folder)
        source = ChannelSource("core", "/addons")
        self.objects = NodeObjects(str(server.base / "root"), 6443, lambda _: "unread", lambda _: None, (source,))
        self.clock = 0.0
        self.objects.channels.now = lambda: self.clock
        self.node = node

    def judged(self) -> ObjectsAssessment:
        return assess((_NOTHING,), self.objects.look((_NOTHING.key,)), Reserved(), self.node)

    def once(self) -> list[str]:
        """A reconcile; a busy API server that gives no answer is asked again in the next one."""
        out = Plan()
        plan(patiently(self.judged), out)
        for step in out.steps:
            try:
                step.action.execute(self.objects)
            except KubeError as error:  # its kind isn't defined yet
                assert error.reason == "NoSuchKind", error
            except ProviderError:
                continue
        return [step.action.describe() for step in out.steps]

    def converge(self) -> int:
        for number in range(20):
            if not self.once():
                return number
        raise AssertionError(self.once())


def patiently(ask: Callable[[], T]) -> T:
    """What a busy API server answers in the end."""
    found: list[T] = []

    def answered() -> bool:
        try:
            found.append(ask())
        except KubeError:
            raise
        except ProviderError:
            return False
        return True

    until("the API server answers", answered, 240.0)
    return found[0]


def get(server: ApiServer, *words: str) -> Any:
    api = server.admin()
    return patiently(lambda: api.get(api.path(*words)))


def test_a_channels_life(server: ApiServer, tmp_path: Path) -> None:
    text = tmp_path / "all.yaml"
    text.write_text(CHANNEL)
    looker = Looker(server, tmp_path)
    assert looker.converge()
    web = get(server, "apps/v1", "Deployment", "addons", "web")
    assert web["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}
    assert get(server, "v1", "ServiceAccount", "addons", "one")
    assert get(server, "v1", "ConfigMap", "default", "pruned")

    # Nothing is written when nothing differs, though the API server has its own form of some values.
    versions = [get(server, "apps/v1", "Deployment", "addons", "web")["metadata"]["resourceVersion"]]
    record = record_key("core")
    versions.append(get(server, "v1", "ConfigMap", record.namespace, record.name)["metadata"]["resourceVersion"])
    assert looker.once() == []
    assert versions[0] == get(server, "apps/v1", "Deployment", "addons", "web")["metadata"]["resourceVersion"]

    # Three-way: a field that the channel drops goes, another's stays, and what somebody changed is put right.
    api = server.admin()
    path = api.path("apps/v1", "Deployment", "addons", "web")
    api.merge(path, {"metadata": {"labels": {"theirs": "kept"}}, "spec": {"replicas": 3}})
    api.merge(path, {"spec": {"template": {"metadata": {"labels": {"app": "web"}}}}})
    text.write_text(CHANNEL.replace(", labels: {first: yes-it-is}", ", labels: {second: one}"))
    looker.converge()
    web = get(server, "apps/v1", "Deployment", "addons", "web")
    assert web["metadata"]["labels"] == {"theirs": "kept", "second": "one"} and web["spec"]["replicas"] == 3

    # What the channel has no more goes; what it never applied, and what another hand made anew, stays.
    stranger = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stranger"}}
    api.create(api.path("v1", "ConfigMap", "default"), stranger)
    text.write_text(CHANNEL[: CHANNEL.index("apiVersion: v1\nkind: ConfigMap")])
    looker.converge()
    assert get(server, "v1", "ConfigMap", "default", "pruned"), "one look may be wrong"
    looker.clock += PRUNE_AFTER
    looker.converge()
    assert get(server, "v1", "ConfigMap", "default", "pruned") is None
    assert get(server, "v1", "ConfigMap", "default", "stranger")

    # A broken manifest changes nothing.
    text.write_text("a: [")
    assert looker.once() == [] and looker.judged().findings.unknown
    assert get(server, "apps/v1", "Deployment", "addons", "web")
    looker.objects.close()


def test_an_object_that_another_hand_has_made_anew_is_not_pruned(server: ApiServer, tmp_path: Path) -> None:
    text = tmp_path / "all.yaml"
    one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: anew}\n"
    text.write_text(one)
    looker = Looker(server, tmp_path)
    looker.converge()
    api = server.admin()
    path = api.path("v1", "ConfigMap", "default", "anew")
    assert api.delete(path)
    again = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "anew"}}
    api.create(api.path("v1", "ConfigMap", "default"), again)
    text.write_text(one.replace("anew", "other"))
    looker.converge()
    looker.clock += PRUNE_AFTER
    looker.converge()
    assert api.get(path), "the channel owns nothing of it"
    looker.objects.close()


def test_the_lease_goes_over_when_its_holder_is_silent(server: ApiServer) -> None:
    api = server.admin()
    clock = [0.0]
    one, two = (AddonLease(lambda: clock[0]) for _ in range(2))
    api.delete(f"{LEASES}/{LEASE}")
    assert not one.read(api).alive
    one.take(api, "n1")
    two.take(api, "n2")

    def held(by: AddonLease) -> tuple[str, bool]:
        found = by.read(api)
        return found.holder, found.alive

    assert held(one) == held(two) == ("n1", True)
    clock[0] += LEASE_SECONDS - 1
    one.take(api, "n1")
    assert held(two) == ("n1", True)
    clock[0] += LEASE_SECONDS - 1
    assert held(two) == ("n1", True), "it was renewed"
    clock[0] += 2
    assert held(two) == ("n1", False)
    two.take(api, "n2")
    one.take(api, "n1")
    assert held(one) == ("n2", True)
