"""What a static pod's manifest says of its first container, whoever wrote it."""

from __future__ import annotations

import pytest

from protokube.core.etcd.model import DEFAULT_IMAGE
from protokube.core.static_pod import image_version, is_version, manifest_env, manifest_image, spell_version

POD = "spec: {containers: [{image: r/etcd:3.5.9, env: [{name: A, value: x}, {name: B}, {value: y}, z]}, {image: x}]}"


def test_versions() -> None:
    assert image_version("registry.k8s.io/etcd:3.6.6-0") == (3, 6, 6)
    assert image_version("localhost:5000/etcd") is None
    assert image_version(f"registry.k8s.io/etcd:{'9' * 5000}.6.6-0") is None, "a volume's manifest may say anything"
    assert image_version(DEFAULT_IMAGE) is not None


def test_a_version_is_spelled_as_it_is_read() -> None:
    spelled = spell_version(image_version("r/etcd:v3.10.1-0"))
    assert spelled == "3.10.1" and is_version(spelled)
    assert spell_version(None) is None


def test_the_first_container_counts() -> None:
    assert manifest_image(POD) == "r/etcd:3.5.9"
    assert manifest_env(POD) == {"A": "x", "B": ""}


@pytest.mark.parametrize("text", ["", "[]", "{", "spec: {containers: []}", "spec: {containers: [1]}", "spec: 1"])
def test_what_is_no_manifest_says_nothing(text: str) -> None:
    assert manifest_env(text) == {} and manifest_image(text) is None
