"""What is found out about addon channels at an API server, and what of a fault stays with its channel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from protokube.core.model import Unknown
from protokube.core.objects.channels import manager
from protokube.core.objects.model import ChannelFacts, ChannelSource, Manifest, ObjectKey, key_of
from protokube.kubeapi.channels import Channels
from protokube.kubeapi.client import Kind, KubeApi
from protokube.kubeapi.http import KubeError
from protokube.kubeapi.lease import AddonLease


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


def config(name: str, value: str = "1") -> Manifest:
    metadata = {"name": name, "namespace": "x"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"v": value}}


def text(name: str, value: str = "1") -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: x}}\ndata: {{v: '{value}'}}\n---\n"


def look(channels: Channels, api: Api) -> Mapping[str, ChannelFacts]:
    found: Any = channels.look(cast("KubeApi", api))
    return {one.name: one for one in found["channels"]}


def two(root: Path, **texts: str) -> Channels:
    for name, one in texts.items():
        (root / name).mkdir(exist_ok=True)
        (root / name / "all.yaml").write_text(one)
    return Channels(str(root), tuple(ChannelSource(name, f"/{name}") for name in texts), AddonLease())


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
