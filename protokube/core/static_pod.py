"""The image and the environment of a static pod's first container, from an untrusted manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import yaml

from protokube.core.untrusted_yaml import load

_REMEMBERED = 32
"""How many manifests are kept parsed: a converged reconcile parses nothing again."""

_VERSION = r"([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})"
"""Bounded, since a volume's files are untrusted, and int() takes no more than 4300 digits."""
_TAG = re.compile(rf"v?{_VERSION}(?:-.*)?")

Version = tuple[int, int, int]


def manifest_env(text: str) -> Mapping[str, str]:
    """The environment of a manifest's first container; empty when the text isn't such a manifest."""
    container = _first_container(text)
    env = container.get("env")
    if not isinstance(env, list):
        return {}
    return {
        str(item["name"]): str(item.get("value", "")) for item in env if isinstance(item, dict) and "name" in item
    }


def manifest_image(text: str) -> str | None:
    """The image of a manifest's first container."""
    image = _first_container(text).get("image")
    return image if isinstance(image, str) else None


def image_version(image: str) -> Version | None:
    """The version that an image's tag names (`3.6.6-0`, `v3.5.21`), None for any other tag."""
    match = _TAG.fullmatch(image.rpartition(":")[2]) if ":" in image else None
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def spell_version(version: Version | None) -> str | None:
    """A version in words, `3.6.6`."""
    return ".".join(map(str, version)) if version else None


def is_version(text: str) -> bool:
    """Whether a text is a version as `spell_version` spells one."""
    return re.fullmatch(_VERSION, text) is not None


@lru_cache(maxsize=_REMEMBERED)
def _first_container(text: str) -> Mapping[str, object]:
    try:
        pod: Any = load(text)
        container = pod["spec"]["containers"][0]
    except (yaml.YAMLError, KeyError, IndexError, TypeError):
        return {}
    return container if isinstance(container, dict) else {}
