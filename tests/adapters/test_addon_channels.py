"""What is found out about addon channels at an API server, and what of a fault stays with its channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.json import encode

from protokube.core.model import Unknown
from protokube.core.objects.channels import LEASE, LEASE_SECONDS, PRUNE_AFTER, manager, record_key
from protokube.core.objects.model import Applied, ChannelFacts, ChannelSource, Manifest, ObjectKey, Written, key_of
from protokube.errors import ProviderError
from protokube.kubeapi.channels import Channels
from protokube.kubeapi.client import Kind, KubeApi
from protokube.kubeapi.http import KubeError
from protokube.kubeapi.lease import LEASES, AddonLease


class Api:
    """An API server that has objects, and refuses to apply some."""

    def __init__(self) -> None:
        self.objects: dict[str, Manifest] = {}
        self.refused: set[str] = set()

    def kind(self, api_version: str, kind: str) -> Kind:
        return Kind(api_version, kind, kind not in {"Namespace"})

    def path(self, api_version: str, kind: str, namespace: str = "", name: str = "") -> str:
        return f"{api_version}/{kind}/{namespace}/{name}"

    def get(self, path: str) -> Manifest | None:
        return self.objects.get(path)

    def apply(self, manifest: Manifest, owner: str, *, dry_run: bool = False) -> Manifest:
        assert dry_run and owner
        if manifest["metadata"]["name"] in self.refused:
            raise KubeError(422, "Invalid", "spec.selector: field is immutable")
        return manifest

    def has(self, manifest: Manifest, *owners: str) -> None:
        key = key_of(manifest)
        fields = [{"manager": one} for one in owners]
        metadata = {"uid": f"of {key}", **manifest["metadata"], "managedFields": fields}
        self.objects[self.path(key.api_version, key.kind, key.namespace, key.name)] = {
            **manifest,
            "metadata": metadata,
        }

    def replace(self, path: str, manifest: Manifest) -> Manifest:
        version = str(int(manifest["metadata"]["resourceVersion"]) + 1)
        self.objects[path] = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": version}}
        return self.objects[path]

    def recorded(self, channel: str, *keys: ObjectKey, text: str = "") -> None:
        key = record_key(channel)
        data = {"applied": encode([Applied(one, "") for one in keys]).decode(), "text": text, "node": "n2"}
        metadata = {"name": key.name, "namespace": key.namespace}
        self.has({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def config(name: str, value: str = "1") -> Manifest:
    metadata = {"name": name, "namespace": "x"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"v": value}}


def text(name: str, value: str = "1") -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: x}}\ndata: {{v: '{value}'}}\n---\n"


def look(channels: Channels, api: Api) -> Mapping[str, ChannelFacts]:
    found: Any = channels.look(cast("KubeApi", api))
    return {one.name: one for one in found["channels"]}


def two(root: Path, now: Callable[[], float] = lambda: 0.0, **texts: str) -> Channels:
    for name, one in texts.items():
        (root / name).mkdir(exist_ok=True)
        (root / name / "all.yaml").write_text(one)
    return Channels(str(root), tuple(ChannelSource(name, f"/{name}") for name in texts), AddonLease(), now)


def test_an_object_that_the_server_refuses_leaves_the_other_channel_and_the_look_alone(tmp_path: Path) -> None:
    api = Api()
    api.has(config("one"), manager("a"))
    api.refused = {"one"}
    found = look(two(tmp_path, a=text("one", "2"), b=text("two")), api)
    assert found["a"].wanted == Unknown("spec.selector: field is immutable")
    assert found["b"].differing == {ObjectKey("v1", "ConfigMap", "two", "x")}


def test_without_the_lease_no_channel_is_known(tmp_path: Path) -> None:
    class NoLease(Api):
        def get(self, path: str) -> Manifest | None:
            if "leases" in path:
                raise KubeError(500, "InternalError", "no etcd")
            return super().get(path)

    assert look(two(tmp_path, a=text("one")), NoLease())["a"].wanted == Unknown("the lease can't be read: no etcd")


def test_an_object_must_be_missing_for_a_while_before_it_may_go(tmp_path: Path) -> None:
    api, clock = Api(), [0.0]
    one = key_of(config("one"))
    api.has(config("one"), manager("a"))
    api.recorded("a", one)
    channels = two(tmp_path, lambda: clock[0], a=text("other"))
    assert look(channels, api)["a"].held.keys() == look(channels, api)["a"].owned == {one}
    clock[0] = PRUNE_AFTER - 1
    two(tmp_path, a=text("one"))
    assert not look(channels, api)["a"].owned, "it is back"
    two(tmp_path, a=text("other"))
    clock[0] = PRUNE_AFTER + 1
    assert look(channels, api)["a"].held.keys() == {one}, "and the time begins anew"
    clock[0] *= 2
    assert look(channels, api)["a"].owned == {one} and not look(channels, api)["a"].held


def test_what_another_channel_wants_is_left_to_it(tmp_path: Path) -> None:
    api, clock = Api(), [0.0]
    api.has(config("one"), manager("a"))
    api.recorded("a", key_of(config("one")))
    channels = two(tmp_path, lambda: clock[0], a=text("other"), b=text("one"))
    found = look(channels, api)
    assert not found["a"].owned and not found["b"].foreign
    (tmp_path / "b/all.yaml").write_text("a: [")
    look(channels, api)
    clock[0] = 2 * PRUNE_AFTER
    (why,) = look(channels, api)["a"].held.values()
    assert why == "the channel b, which may want it, can't be read"


def test_an_object_that_shows_in_two_groups_is_one(tmp_path: Path) -> None:
    api = Api()
    old = {**config("one"), "apiVersion": "extensions/v1beta1"}
    for each in (old, config("one")):
        api.has({**each, "metadata": {**each["metadata"], "uid": "u"}}, manager("a"))
    api.recorded("a", key_of(old))
    assert not look(two(tmp_path, a=text("one")), api)["a"].owned


def test_what_nobody_of_the_channels_has_applied_is_foreign(tmp_path: Path) -> None:
    api = Api()
    api.has(config("one"), "kubectl")
    api.has(config("two"), manager("a"))
    assert look(two(tmp_path, a=text("one") + text("two")), api)["a"].foreign == {key_of(config("one"))}


def test_a_text_that_was_the_records_and_has_not_changed_is_known_as_overtaken(tmp_path: Path) -> None:
    api = Api()
    channels = two(tmp_path, a=text("one"))
    mine = look(channels, api)["a"]
    assert not mine.unchanged, "nobody has agreed yet"
    api.recorded("a", text="theirs")
    assert not look(channels, api)["a"].unchanged, "it may be the newer one"
    api.recorded("a", text=mine.text)
    assert look(channels, api)["a"].unchanged
    api.recorded("a", text="theirs")
    found = look(channels, api)["a"]
    assert found.unchanged and found.written == Written("theirs", "n2")
    two(tmp_path, a=text("one", "2"))
    assert not look(channels, api)["a"].unchanged


def test_the_lease_is_renewed_within_a_pass_and_a_lost_one_ends_it() -> None:
    api, clock = Api(), [0.0]
    served = cast("KubeApi", api)
    path = f"{LEASES}/{LEASE}"
    api.objects[path] = {"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": "n1"}}
    lease = AddonLease(lambda: clock[0])
    lease.read(served)
    lease.keep(served)
    renewed = api.objects[path]["metadata"]["resourceVersion"]
    assert renewed == "2"
    lease.keep(served)
    assert api.objects[path]["metadata"]["resourceVersion"] == renewed, "that was just now"
    clock[0] += LEASE_SECONDS / 2
    lease.keep(served)
    assert api.objects[path]["metadata"]["resourceVersion"] == "3"
    api.objects[path] = {**api.objects[path], "spec": {"holderIdentity": "n2"}}
    clock[0] += LEASE_SECONDS / 2
    with pytest.raises(ProviderError, match="from n1 to n2"):
        lease.keep(served)
