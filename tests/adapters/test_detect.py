"""Which cloud a machine is in, by what its /sys says."""

from __future__ import annotations

from pathlib import Path

import pytest

from protokube.cloudprovider.detect import detect_cloud

UUID = "ec2cefac-dce1-eed5-4e48-83ad3ef51bfb"
XEN = {"sys_vendor": "Xen", "product_uuid": UUID.upper(), "product_serial": UUID}
MACHINES = {
    "Nitro": ("aws", {"sys_vendor": "Amazon EC2", "bios_version": "1.0", "product_name": "m5.large"}),
    "bare metal": ("aws", {"sys_vendor": "Amazon EC2", "product_name": "c6g.metal"}),
    "Xen": ("aws", XEN | {"bios_version": "4.2.amazon", "bios_vendor": "Xen"}),
    "Xen, newer": ("aws", XEN | {"bios_version": "4.11.amazon"}),
    "Xen, paravirtual": ("aws", {"../../../hypervisor/version/extra": ".amazon"}),
    "one of 4,096 of libvirt's": ("local", {"sys_vendor": "QEMU", "product_uuid": UUID, "bios_version": "1.16.2"}),
    "OpenStack, whose serial is the UUID": (
        "local",
        {"sys_vendor": "OpenStack Foundation", "product_uuid": UUID, "product_serial": UUID},
    ),
    "Xen elsewhere": ("local", XEN | {"bios_version": "4.17.2", "../../../hypervisor/version/extra": ".2"}),
    "what only mentions it": ("local", {"sys_vendor": "Not Amazon EC2", "bios_version": "amazon"}),
    "no firmware that says anything": ("local", {}),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_ec2_is_known_by_what_nobody_else_says(machine: str, tmp_path: Path) -> None:
    cloud, said = MACHINES[machine]
    for name, text in said.items():
        path = (tmp_path / "class/dmi/id" / name).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert detect_cloud(tmp_path) == cloud
