"""The name of a machine. kubelet registers under it, and certificates are made for it: it may never change later."""

from __future__ import annotations

import hashlib
import hmac
import re

from protokube.core.node.machine import MachineFacts
from protokube.core.node.settings import HOSTNAME_AUTO, HOSTNAME_KEEP

PATH = "/etc/hostname"
CLOUD_INIT_PATH = "/etc/cloud/cloud.cfg.d/99-nodeup.cfg"
CLOUD_INIT = """\
# Written by nodeup: a node that is renamed at a boot would register as a second one.
preserve_hostname: true
"""
DEFAULTS = ("", "(none)", "localhost", "localhost.localdomain", "debian")
"""The names that a machine has before it gets one of its own: every machine of one image has them."""

# At most 64 characters: the kernel takes no more (HOST_NAME_MAX).
_USABLE = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?")


def wanted_hostname(setting: str, machine: MachineFacts) -> tuple[str, str] | None:
    """The name that the machine is to have, and why; None when it keeps the name that it has."""
    running = machine.running
    if running is None or setting == HOSTNAME_KEEP:
        return None
    if setting != HOSTNAME_AUTO:
        return setting, "the configuration names the machine"
    cloud = running.cloud_hostname
    # Without a `local-hostname` in the metadata cloud-init hands out the name that the kernel has.
    if cloud and cloud.lower() not in DEFAULTS and _USABLE.fullmatch(cloud):
        return cloud, "the cloud names the machine"
    own = name_of(machine.machine_id) if machine.machine_id else running.hostname
    if running.hostname.lower() in (*DEFAULTS, own):
        return own, "a default name would be that of every machine of one image"
    return None


def name_of(machine_id: str) -> str:
    """A name that belongs to one machine. A hash, since machine-id(5) is not to be shown to others."""
    digest = hmac.new(machine_id.encode(), b"protokube host name", hashlib.sha256).hexdigest()
    return f"node-{digest[:10]}"
