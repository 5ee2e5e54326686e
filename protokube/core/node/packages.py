"""Which packages a machine needs, by what it has, what assets bring, and what the operator lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from protokube.core.node import clock
from protokube.core.node.assets import Asset
from protokube.core.node.containerd import CONTAINERD_PACKAGES, PLUGIN_PACKAGES
from protokube.core.node.machine import AFTER_INSTALLATION, MachineFacts
from protokube.core.node.machine_actions import package_name
from protokube.core.node.settings import NodeupSettings

KMOD = "kmod"


def packages(
    settings: NodeupSettings,
    machine: MachineFacts,
    programs: Mapping[str, str],
    assets: Iterable[Asset],
    modules: Set[str],
) -> dict[str, str]:
    """The packages to install, with their reasons. `programs`: what there is or assets bring, by name. `modules`:
    what the running kernel is to load."""
    found: dict[str, str] = {}
    # What the operator lists may be another package for the same need: apt would refuse both, and so all others too.
    listed = {package_name(name) for name in settings.packages}
    if "containerd" not in programs and machine.containerd is None and not listed & set(CONTAINERD_PACKAGES):
        found["containerd"] = "the runtime that kubelet starts containers with"
    extracted = [one.target for asset in assets for one in asset.extract]
    plugins = bool(machine.plugins) or bool({*machine.packages, *listed} & set(PLUGIN_PACKAGES))
    if not plugins and not any("cni" in target for target in extracted):
        found["containernetworking-plugins"] = "containerd connects pods with them"
    running = machine.running
    if (
        running is not None
        and running.can_load
        and modules - running.modules
        and KMOD not in {*machine.packages, *listed}
    ):
        found[KMOD] = "it loads kernel modules"
    if clock.time_package({*machine.packages, *listed}) is None:
        found["systemd-timesyncd"] = "nothing here keeps the clock, and certificates need it"
    for name in settings.packages:
        plain, _, version = name.partition("=")
        installed = machine.packages.get(plain.partition(":")[0])
        if installed is None:
            found[name] = "the configuration lists it"
        elif version and installed not in (version, AFTER_INSTALLATION):
            found[name] = f"the configuration lists it in this version, and {installed} is installed"
    return found
