"""A node on which kubelet could start: for the tests of its gate, its files and its unit."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from protokube.core.disks.identity import Identity
from protokube.core.disks.model import Mounted
from protokube.core.etcd.model import DEFAULT_IMAGE
from protokube.core.etcd.template import render_manifest
from protokube.core.kubelet.paths import ARGS_PATH, CONFIG_PATH
from protokube.core.node.actions import WriteFile
from protokube.core.node.model import File, FileState, Link, UnitState
from protokube.core.observed import Observed
from protokube.core.steps import Plan
from tests.core.states import (
    CLUSTER,
    MEMBER,
    NOW,
    RAN,
    TARGET,
    UUID,
    VOLUME,
    changed,
    contents,
    mounted,
    planned,
    state,
)  # fmt: skip
from tests.rounds.process import templates

UNIT = "kubelet.service"
MANIFEST = "k8s.io/manifests/etcd.manifest"
LINK = "/etc/kubernetes/manifests/etcd.manifest"
IDENTITY = Identity(CLUSTER, "main", "a", VOLUME, UUID, "3.6.6", True)
DATA = ("k8s.io/", "var/", "var/etcd/", "var/etcd/data/", "var/etcd/data/member/")
MTIME = int((NOW - 1000) * 1e9)


def written(observed: Observed, **config: Any) -> dict[str, FileState]:
    """kubelet's files as this node would write them."""
    made = planned(changed(observed, files={}), **config)
    return {
        step.action.path: File(step.action.content, 0o644, MTIME)
        for step in made.steps
        if isinstance(step.action, WriteFile) and step.action.path in (ARGS_PATH, CONFIG_PATH)
    }


def with_files(observed: Observed) -> Observed:
    """The node with kubelet's files."""
    return changed(observed, files=written(observed))


def ready(**facts: Any) -> Observed:
    """Mounted, linked, files written, kubelet down; unless these facts say otherwise."""
    held = contents(*DATA, MANIFEST, "k8s.io/manifests/", identity=IDENTITY)
    text = render_manifest(
        templates()["main"], MEMBER, mount_point=TARGET, dns_suffix=f".internal.{CLUSTER}", image=DEFAULT_IMAGE,
        state="existing", hosts=False,
    )  # fmt: skip
    held = replace(held, texts={**held.texts, MANIFEST: text}, mtimes={**held.mtimes, MANIFEST: MTIME})
    observed = state(Mounted(), tags=RAN, mounts=(mounted(),), contents={VOLUME: held})
    link = Link(f"{TARGET}/{MANIFEST}", MTIME)
    return changed(changed(observed, files={**written(observed), LINK: link}), **facts)


def up(**changes: Any) -> UnitState:
    """kubelet's unit as it runs, for longer than its files."""
    return replace(UnitState("loaded", "active", "running", started_at=NOW - 500), **changes)


def unit_steps(made: Plan) -> list[str]:
    """What is planned for kubelet's unit."""
    return [step.action.kind for step in made.steps if step.action.subject == UNIT]


def waits(made: Plan) -> str:
    """What kubelet's unit waits for."""
    return "; ".join(one.reason for one in made.waiting if one.subject == UNIT)
