"""A path has one writer, and a unit comes from somewhere; else the configuration is refused."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from protokube.core.node.image import image_wanted
from protokube.core.node.machine import MachineFacts
from protokube.core.node.model import File
from protokube.core.node.needs import NodeupFacts, needs
from protokube.core.node.settings import ExtraUnit
from protokube.core.node.unit_files import extra_enablement
from protokube.core.node.wants import Wanted
from protokube.core.steps import Plan
from tests.core.test_nodeup_wanted import MACHINE, UNITS, judged, settings, tree

IMAGE = replace(MACHINE, running=None)
HASH = "0f" * 32


def rules(out: Wanted) -> dict[str, str]:
    return {one.subject: one.rule for one in out.findings.refusals}


def image(text: str, machine: MachineFacts = IMAGE) -> Wanted:
    out = judged(machine, text)
    image_wanted(out, machine, settings(text), UNITS)
    return out


def image_plan(text: str) -> Plan:
    out = image(text)
    facts = tree(out)
    for path in IMAGE.packaged_units.values():
        facts = facts.with_file(path, File("", 0o644, 0))
    return needs(out, NodeupFacts(IMAGE, facts))


@pytest.mark.parametrize("path", ["/etc/systemd/system/swap.target", "/etc/hostname", "/etc/protokube/config.yaml"])
def test_a_file_that_nodeup_makes_is_no_extra_file(path: str) -> None:
    out = judged(text=f"hostname: node-b\nfiles: [{{path: {path}, content: x}}]\n")
    assert rules(out)[path] == "files/ours"
    assert "x" not in [file.content for file in out.files]


def test_an_asset_does_not_replace_a_file_that_nodeup_makes() -> None:
    asset = f"{{path: /etc/crictl.yaml, sha256: '{HASH}', urls: [file:///x]}}"
    out = judged(text=f"assets: [{asset}]\n")
    assert rules(out) == {"/etc/crictl.yaml": "files/ours"} and out.assets == ()


@pytest.mark.parametrize("path", ["/etc/hostname", "/etc/machine-id", "/var/lib/systemd/random-seed"])
def test_an_image_is_not_given_what_belongs_to_one_machine(path: str) -> None:
    out = image(f"files: [{{path: {path}, content: x}}]\n")
    assert rules(out) == {path: "image/identity"}
    assert "x" not in [file.content for file in out.files]


def test_an_image_enables_no_unit_that_it_lacks() -> None:
    found = image_plan("units: [{name: misspelt.service, enabled: true}]\n")
    assert [(one.subject, one.rule) for one in found.refusals] == [("misspelt.service", "unit/missing")]
    assert not found.converged


@pytest.mark.parametrize(
    "text",
    [
        "units: [{name: a.service, enabled: true, content: 'WantedBy=multi-user.target'}]",
        "units: [{name: getty@tty2.service, enabled: true}]",
        "units: [{name: containerd.service, enabled: true}]",
        "units: [{name: a.service, enabled: true}]\n"
        f"assets: [{{archive: file:///x.tgz, sha256: '{HASH}', extract: {{'*': /etc/systemd/system/}}}}]",
    ],
    ids=["content", "instance", "package", "archive"],
)
def test_a_unit_may_come_in_several_ways(text: str) -> None:
    assert "unit/missing" not in [one.rule for one in image_plan(f"{text}\n").refusals]


def test_spaces_around_the_equals_sign_enable_a_unit_too() -> None:
    """systemd.syntax(7): whitespace immediately before or after the "=" is ignored."""
    unit = ExtraUnit("a.service", "[Install]\nWantedBy = multi-user.target\n", True)
    assert extra_enablement(unit, "/x").links == ("/etc/systemd/system/multi-user.target.wants/a.service",)


@pytest.mark.parametrize("key", ["WantedBy", "RequiredBy", "Alias"])
def test_a_unit_that_is_to_be_linked_elsewhere_is_refused(key: str) -> None:
    path = "/etc/systemd/system/a.service"
    out = judged(text=f'units: [{{name: a.service, enabled: true, content: "[Install]\\n{key}=../../x"}}]\n')
    assert rules(out) == {path: "unit/install"}
    assert not [link for each in out.enabled for link in each.links if ".." in link]
