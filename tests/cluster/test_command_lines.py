"""Every command line that protokube's tables render is taken by the real binaries of 1.20.2.

With --version a binary reads all its flags, and refuses unknown ones and values that are none, before it prints.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from protokube.core.component.schema import Field
from protokube.core.controlplane.render import Rendered
from protokube.core.kubelet.identity import kubeconfig
from tests.core.test_controlplane_tables import configurable, edge_of, legal, nested, rendered, with_gate
from tests.lab.component_facts import COMPONENTS
from tests.lab.kubernetes import VERSION, program

pytestmark = pytest.mark.root

UNBUILT = ("cloudProviderGCE",)
"""Flags of a cloud's provider, which .ci/build-kubernetes leaves out."""
TURNS = 6
"""More than any field has legal values that are tried."""


def values_of(component: str, field: Field) -> list[Any]:
    """The legal values of a field in this version."""
    edge = edge_of(component, field)
    return [legal(component, field, VERSION)] if edge is None else [*edge.old, *edge.both]


def made(component: str, turn: int) -> Rendered:
    """All fields that the version knows at once, each with another of its legal values."""
    fields = [
        field for field in configurable(component) if field.places[0] != "." and not field.name.startswith(UNBUILT)
    ]
    layers = [
        with_gate(field, nested(field.name, found[turn % len(found)]))
        for field in fields
        if (found := values_of(component, field))
    ]
    outcome = rendered(component, VERSION, *layers)
    assert isinstance(outcome, Rendered), outcome
    return outcome


def run(component: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program(component), *argv], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("turn", range(TURNS))
def test_every_flag_with_every_legal_value_is_taken(component: str, turn: int) -> None:
    flags = made(component, turn).flags
    done = run(component, *flags, "--version")
    assert done.returncode == 0 and done.stdout == f"Kubernetes v{VERSION}\n", done.stderr[-2000:]


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_flag_that_it_does_not_know_is_seen(component: str) -> None:
    done = run(component, "--no-such-flag=1", "--version")
    assert done.returncode != 0 and "unknown flag: --no-such-flag" in done.stderr


@pytest.mark.parametrize("component", ["kube-scheduler", "kube-proxy"])
def test_the_default_configuration_file_is_read_without_a_complaint(component: str, tmp_path: Path) -> None:
    outcome = rendered(component, VERSION)
    assert isinstance(outcome, Rendered)
    (text,) = outcome.files.values()
    client = tmp_path / "kubeconfig"
    client.write_text(kubeconfig("https://127.0.0.1:6443", str(tmp_path)))
    for name in ("ca.crt", "tls.crt", "tls.key"):
        (tmp_path / name).write_text("")
    config = tmp_path / "config.yaml"
    config.write_text(text.replace(f"/var/lib/{component}/kubeconfig", str(client)))
    written = tmp_path / "written.yaml"
    done = run(component, f"--config={config}", f"--write-config-to={written}")
    assert written.exists(), done.stderr[-2000:]
    assert "unknown field" not in done.stderr and "strict decod" not in done.stderr
