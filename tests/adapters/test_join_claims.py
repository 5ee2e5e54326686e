"""The names that tokens have got certificates for are kept, and given to one request each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from protokube.core.objects.actions import DecideRequest
from protokube.core.objects.requests import Claim
from protokube.kubeapi import claims
from protokube.kubeapi.claims import alive_nodes, claim, claimed
from protokube.kubeapi.client import KubeApi
from protokube.kubeapi.http import KubeError
from protokube.kubeapi.requests import API, decide

NOW = datetime(2026, 11, 28, tzinfo=UTC)
PATH = "/api/v1/namespaces/kube-system/configmaps/protokube-joined"


class Server:
    """Objects by their paths; one that was changed since it was read isn't replaced."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.rival: str | None = None
        """A name that another control-plane node keeps right before the next write."""

    @property
    def api(self) -> KubeApi:
        return cast("KubeApi", self)

    def path(self, api_version: str, kind: str, namespace: str, name: str = "") -> str:
        assert (api_version, kind) == ("v1", "ConfigMap")
        return f"/api/v1/namespaces/{namespace}/configmaps" + (f"/{name}" if name else "")

    def get(self, path: str) -> dict[str, Any] | None:
        return self.objects.get(path)

    def list(self, path: str) -> Sequence[dict[str, Any]]:
        return [one for place, one in self.objects.items() if place.startswith(f"{path}/")]

    def create(self, path: str, manifest: dict[str, Any]) -> None:
        self._race()
        place = f"{path}/{manifest['metadata']['name']}"
        if place in self.objects:
            raise KubeError(409, "AlreadyExists", f"{place} already exists")
        self._put(place, manifest)

    def replace(self, path: str, manifest: dict[str, Any]) -> None:
        self._race()
        place = path.removesuffix("/approval")
        if self.objects[place]["metadata"]["resourceVersion"] != manifest["metadata"]["resourceVersion"]:
            raise KubeError(409, "Conflict", f"{place} has been modified")
        self._put(place, manifest)

    def _put(self, place: str, manifest: dict[str, Any]) -> None:
        version = int(self.objects.get(place, {"metadata": {}})["metadata"].get("resourceVersion", 0)) + 1
        self.objects[place] = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(version)}}

    def _race(self) -> None:
        if (name := self.rival) is not None:
            self.rival = None
            data = self.objects.get(PATH, {}).get("data", {})
            self._put(PATH, {"metadata": {"name": "protokube-joined"}, "data": {**data, name: "theirs 2026"}})

    def asks(self, name: str, uid: str) -> DecideRequest:
        self._put(f"{API}/{name}", {"metadata": {"name": name, "uid": uid}})
        return DecideRequest(name, uid, True, "no node is called w1 yet", Claim("w1"))

    def conditions(self, name: str) -> Sequence[str]:
        return [one["type"] for one in self.objects[f"{API}/{name}"].get("status", {}).get("conditions", ())]


def test_a_name_is_one_requests_for_good_unless_a_token_was_made_for_it() -> None:
    server = Server()
    assert claim(server.api, Claim("w1"), "u1", NOW) and claim(server.api, Claim("w2"), "u2", NOW)
    assert claimed(server.api) == {"w1": "u1", "w2": "u2"}
    assert claim(server.api, Claim("w1"), "u1", NOW), "a node that was killed in between goes on"
    assert not claim(server.api, Claim("w1"), "u3", NOW) and claimed(server.api)["w1"] == "u1"
    assert claim(server.api, Claim("w1", again=True), "u3", NOW) and claimed(server.api)["w1"] == "u3"


def test_a_request_is_approved_after_its_name_was_kept() -> None:
    server = Server()
    decide(server.api, server.asks("csr-1", "u1"))
    assert server.conditions("csr-1") == ["Approved"] and claimed(server.api) == {"w1": "u1"}
    del server.objects[f"{API}/csr-1"]  # the API server forgets it an hour later
    decide(server.api, server.asks("csr-2", "u2"))
    assert server.conditions("csr-2") == []


@pytest.mark.parametrize("there", [False, True])
def test_of_two_control_plane_nodes_one_gives_a_name(*, there: bool) -> None:
    server = Server()
    if there:
        claim(server.api, Claim("w0"), "u0", NOW)
    action, server.rival = server.asks("csr-1", "u1"), "w1"
    decide(server.api, action)
    assert server.conditions("csr-1") == [] and claimed(server.api)["w1"] == "theirs"
    action, server.rival = server.asks("csr-2", "u2"), "w5"
    decide(server.api, DecideRequest("csr-2", "u2", True, "", Claim("w6")))
    assert server.conditions("csr-2") == ["Approved"], "another name was kept meanwhile: it is written again"
    assert claimed(server.api).keys() >= {"w5", "w6"}


def test_the_latest_names_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "MOST", 2)
    server = Server()
    for number in range(3):
        claim(server.api, Claim(f"w{number}"), f"u{number}", NOW + timedelta(minutes=number))
    assert claimed(server.api) == {"w1": "u1", "w2": "u2"}
    claim(server.api, Claim("late"), "u9", NOW - timedelta(days=365))
    assert "late" in claimed(server.api), "the one that is given now, whatever the clock says"


def test_a_kubelet_with_a_lease_is_alive() -> None:
    server = Server()
    server.objects["/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/w7"] = {"metadata": {"name": "w7"}}
    assert alive_nodes(server.api) == {"w7"}
