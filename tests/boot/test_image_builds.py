"""docs/image-builds.md, run as it is written: trees and machines become images, and images become nodes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab import stock
from tests.lab.documents import blocks
from tests.lab.first_boot import KUBELET, Checks
from tests.lab.mkosi_image import IMAGE, PAGE, documented
from tests.lab.netns import Network
from tests.lab.site import ADDRESS, BITS, MACHINE
from tests.lab.systemd_node import SystemdNode
from tests.lab.trial import CHECKOUT, CLUSTER, volume
from tests.lab.unit_node import LOOPS

pytestmark = [pytest.mark.root, pytest.mark.slow]

NAMES = ("main-a", "events-a")


class Container(SystemdNode):
    """A machine that starts from an image."""

    def run(self, command: str, *, check: bool = True) -> str:  # type: ignore[override]
        return super().run("sh", "-c", command, check=check).stdout


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    shutil.copy(CHECKOUT / "build/protokube.pyz", folder)
    (folder / "kubelet").write_text(KUBELET)
    return folder


@pytest.fixture(params=[*stock.SUITES, "mkosi"])
def image(request: pytest.FixtureRequest, tmp_path: Path, mirror: Path) -> Iterator[Path]:
    """A tree that mmdebstrap made, after the page's hook; or one that mkosi has made with the page's files."""
    if request.param == "mkosi":
        assert IMAGE.exists(), "`make test-boot` builds it"
        yield IMAGE
        return
    (tmp_path / "image.yaml").write_text(json.dumps(documented(mirror, str(mirror))))
    (builder, *_) = blocks(PAGE, "sh")
    hook = builder.partition("--customize-hook='")[2].partition("'")[0]
    assert hook.startswith("nodeup ")
    with stock.copy_of(request.param, tmp_path / "stock") as root:
        command = hook.replace("nodeup", f"PYTHONPATH={CHECKOUT} {sys.executable} -m nodeup", 1)
        done = subprocess.run(
            ["sh", "-c", command, "hook", root], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield root


def inventory(name: str) -> dict[str, str]:
    """What one machine gets at its first boot."""
    volumes = [{**volume(one, one.removesuffix("-a"), "a/a"), "file": f"/srv/{one}.img"} for one in NAMES]
    document = {"cluster": CLUSTER, "zone": "local", "nodes": [{"name": name, "internalAddress": MACHINE}]}
    # The lab has set up the network, of which networkd knows nothing: it would wait two minutes for it.
    online = "/etc/systemd/system/systemd-networkd-wait-online.service.d/lab.conf"
    return {
        "/etc/protokube/inventory.yaml": json.dumps({**document, "volumes": volumes}),
        online: "[Service]\nExecStart=\nExecStart=/bin/true\n",
    }


def test_machines_of_one_image_become_nodes_of_their_own(image: Path, tmp_path: Path) -> None:
    identities = []
    with ExitStack() as stack:
        network = stack.enter_context(Network(f"{ADDRESS}/{BITS}"))
        for name in ("node-a", "node-b"):
            machine = Container(
                tmp_path / name,
                name,
                files=inventory(name),
                binds=LOOPS,
                netns=network.node(f"{MACHINE}/{BITS}", gateway=ADDRESS).name,
                all_capabilities=True,
                image=image,
                bare=True,
            )
            with machine:
                Checks(machine, tmp_path / name).is_a_node()
                assert machine.run("systemctl is-enabled kubelet.service || true").strip() in ("disabled", "static")
                identities.append(
                    machine.run("hostname; cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub").split()
                )
    (name_a, id_a, _, key_a, *_), (name_b, id_b, _, key_b, *_) = identities
    assert (name_a, name_b) == ("node-a", "node-b")
    assert id_a != id_b
    assert key_a != key_b


def test_packer_s_script_makes_a_clean_image_and_starts_nothing(tmp_path: Path, mirror: Path) -> None:
    files = {"/etc/apt/sources.list": "", "/provision.sh": blocks(PAGE, "bash")[-1]}
    with Container(
        tmp_path / "node", files=files, all_capabilities=True, image=stock.ROOTS / "bookworm", bare=True
    ) as machine:
        machine.path("/srv").joinpath("kubelet").write_text(KUBELET)
        shutil.copy((CHECKOUT / "build/protokube.deb").resolve(), machine.path("/tmp/protokube.deb"))
        machine.path("/tmp/image.yaml").write_text(json.dumps(documented(mirror, "/srv", package=True)))

        machine.run("rm -f /etc/apt/sources.list.d/* && sh /provision.sh")

        assert machine.run("cat /etc/machine-id") == ""
        assert machine.run("systemctl is-active protokube kubelet || true").split() == ["inactive"] * 2
        assert machine.run("systemctl is-enabled protokube nodeup").split() == ["enabled"] * 2
