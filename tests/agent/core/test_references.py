"""What a container refers to, and what becomes of it."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from protokube.agent.core.checks import faults_of_spec
from protokube.agent.core.expand import environment
from protokube.agent.core.model import Container, spec_of
from protokube.agent.core.references import (
    CONFIG_MAP,
    SECRET,
    File,
    MissingError,
    Reference,
    TokenWanted,
    files_of,
    given_env,
    mounted,
    references,
    tokens,
)
from tests.agent.pods import UIDS, wanted


def data(**values: str) -> dict[str, Any]:
    return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}}


S, C = Reference(SECRET, "s"), Reference(CONFIG_MAP, "c")
FOUND = {S: data(a="1", b="2", **{"bad name": "x"}), C: {"data": {"a": "9"}, "binaryData": {"raw": "AP8="}}}


def variable(kind: str, name: str, key: str) -> dict[str, Any]:
    return {"env": [{"name": "x", "valueFrom": {kind: {"name": name, "key": key}}}]}


def one(**fields: Any) -> Container:
    pod = wanted(containers=[{"name": "c", "image": "host", **fields}])
    return spec_of(pod).containers[0]


def test_variables_of_its_own_win_and_expand_nothing_from_elsewhere() -> None:
    secret = {"secretKeyRef": {"name": "s", "key": "b"}}
    env = [{"name": "b", "valueFrom": secret}, {"name": "x", "value": "$(b) $(a)"}]
    container = one(env=env, envFrom=[{"secretRef": {"name": "s"}}])
    given = given_env(container, FOUND)
    assert dict(environment({}, container, "", given)) == {"a": "1", "b": "2", "x": "2 $(a)"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"env": [{"name": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "z"}}}]},
            "secret s: it has no key",
        ),
        (
            {"env": [{"name": "x", "valueFrom": {"configMapKeyRef": {"name": "z", "key": "a"}}}]},
            "map z: there is none",
        ),
        ({"env": [{"name": "x", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "raw"}}}]}, "is no text"),
        ({"envFrom": [{"secretRef": {"name": "z"}}]}, "secret z: there is none"),
    ],
)
def test_what_is_missing_is_said(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(MissingError, match=said):
        given_env(one(**fields), FOUND)


VOLUMES = [
    {"name": "all", "secret": {"secretName": "s", "defaultMode": 0o400}},
    {"name": "some", "configMap": {"name": "c", "items": [{"key": "raw", "path": "d/raw", "mode": 0o600}]}},
    {"name": "down", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    {
        "name": "token",
        "projected": {
            "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "c", "items": [{"key": "a", "path": "ca.crt"}]}},
            ]
        },
    },
    {"name": "unused", "secret": {"secretName": "other"}},
]


def test_volumes_are_files() -> None:
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("all", "some", "down", "token")]
    pod = wanted(
        uid=UIDS[1],
        volumes=VOLUMES,
        serviceAccountName="me",
        containers=[{"name": "c", "image": "host", "volumeMounts": mounts}],
    )
    pod["metadata"]["labels"] = {"b": 'say "x"', "a": "1"}
    spec = spec_of(pod)
    container = spec.containers[0]
    assert references(spec, container) == {S, C}
    wants = TokenWanted("me", "", 3607)
    assert tokens(spec, container) == {wants}
    files = {volume.name: files_of(volume, pod, FOUND, {wants: "t"}, spec) for volume in mounted(spec, container)}
    assert files["all"]["a"] == File(b"1", 0o400) and set(files["all"]) == {"a", "b", "bad name"}
    assert files["some"] == {"d/raw": File(b"\0\xff", 0o600)}
    assert files["down"] == {"labels": File(b'a="1"\nb="say \\"x\\""\n')}
    assert files["token"] == {"token": File(b"t"), "ca.crt": File(b"9")}
    assert list(faults_of_spec(pod["spec"], api=True)) == []


def test_a_file_outside_of_its_volume_is_refused() -> None:
    volume = {"name": "v", "configMap": {"name": "c", "items": [{"key": "a", "path": "../x"}]}}
    mounts = [{"name": "v", "mountPath": "/v"}]
    pod = wanted(volumes=[volume], containers=[{"name": "c", "image": "host", "volumeMounts": mounts}])
    spec = spec_of(pod)
    with pytest.raises(MissingError, match="a path within it"):
        files_of(spec.volumes[0], pod, FOUND, {}, spec)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]}, "persistentVolumeClaim"),
        ({"volumes": [{"name": "v", "projected": {"sources": [{"clusterTrustBundle": {}}]}}]}, "clusterTrustBundle"),
        ({"volumes": [{"name": "v", "downwardAPI": {"items": [{"resourceFieldRef": {}, "path": "x"}]}}]}, None),
        (
            {
                "volumes": [
                    {"name": "v", "downwardAPI": {"items": [{"resourceFieldRef": {"resource": "limits.cpu"}}]}}
                ]
            },
            "resourceFieldRef",
        ),
        ({"resourceClaims": [{"name": "x"}]}, "resourceClaims"),
    ],
)
def test_what_does_not_run_here_is_refused(spec: dict[str, Any], said: str | None) -> None:
    faults = list(faults_of_spec(wanted(**spec)["spec"], api=True))
    assert (said in " ".join(faults)) if said else not faults
