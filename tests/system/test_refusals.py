"""What may not be touched is refused with its evidence and stays as it is; the node's other volume comes up."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.disks import MIB, FaultDisk, LoopDisk, digest
from tests.lab.foreign import FOREIGN
from tests.lab.trial import TrialNode, both, tags, volume, write_inventory

pytestmark = pytest.mark.root

SIZE = 320 * MIB
MAIN = volume("main-a", "main", "a/a", "320MiB")
EVENTS = volume("events-a", "events", "a/a")
KOPS_IMAGE = "k8s.gcr.io/etcd:3.4.13-0"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TrialNode]:
    (tmp_path / "volumes").mkdir()
    with TrialNode(tmp_path / "a", write_inventory(tmp_path, MAIN, EVENTS)) as node:
        yield node


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Where the main volume's image is to stand."""
    return Path(tmp_path, MAIN["file"])


@contextmanager
def filesystem(image: Path, scratch: Path) -> Iterator[Path]:
    """A new ext4 in the image, mounted, made by somebody else."""
    with LoopDisk(image, SIZE) as disk:
        disk.make_ext4()
        with disk.mounted(scratch / "mounted") as root:
            yield root


def write(root: Path, *names: str, text: str = "data\n") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def kops_volume(root: Path, member: str = "a") -> None:
    """What kops's protokube and its etcd leave on a member's volume."""
    write(root, "var/etcd/data/member/snap/db", "var/etcd/data/member/wal/0.wal")
    env = [
        {"name": "ETCD_NAME", "value": f"etcd-{member}"},
        {"name": "ETCD_DATA_DIR", "value": "/var/etcd/data"},
        {"name": "ETCD_INITIAL_CLUSTER_STATE", "value": "new"},
        {
            "name": "ETCD_INITIAL_CLUSTER",
            "value": f"etcd-{member}=http://etcd-{member}.internal.dev.example.com:2380",
        },
    ]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "etcd-server", "namespace": "kube-system"},
        "spec": {"hostNetwork": True, "containers": [{"name": "etcd-container", "image": KOPS_IMAGE, "env": env}]},
    }
    write(root, "k8s.io/manifests/etcd.manifest", text=yaml.safe_dump(pod))


def only_refusal(report: dict[str, Any], subject: str = "main-a") -> tuple[str, str]:
    """The rule and the evidence of the one refusal."""
    assert report["exit"] == 1 and not report["settled"], report
    (refusal,) = report["refusals"]
    assert refusal["subject"] == subject
    return refusal["rule"], refusal["evidence"]


def assert_the_other_is_up(node: TrialNode, report: dict[str, Any]) -> None:
    """events serves, and nothing was done to main beyond attaching it."""
    done = {step["action"] for step in report["steps"] if step["subject"].startswith("main-a")}
    assert done <= {"attach-volume", "check-filesystem"}, done
    assert {step["status"] for step in report["steps"]} <= {"done"}, report
    assert not (report["unknown"] or report["waiting"]), report
    assert node.path("/mnt/master-events-a/k8s.io/identity.yaml").exists()
    assert not os.path.ismount(node.path("/mnt/master-main-a"))
    links = node.root / "etc/kubernetes/manifests"
    assert os.listdir(links) == ["etcd-events.manifest"] and (links / "etcd-events.manifest").is_symlink()


def assert_untouched(node: TrialNode, image: Path, rule: str, evidence: str) -> str:
    """Refused for this rule with this evidence, twice, and byte for byte as it was. Returns the evidence."""
    before = digest(image)
    report = node.report()
    said = only_refusal(report)
    assert said[0] == rule and evidence in said[1], said
    assert_the_other_is_up(node, report)
    assert digest(image) == before
    again = only_refusal(node.report())
    assert again[0] == rule and evidence in again[1], again
    assert digest(image) == before
    return said[1]


@pytest.mark.parametrize("kind", ["xfs", "btrfs", "swap", "gpt", "lvm", "luks", "two filesystems"])
def test_what_others_made(node: TrialNode, image: Path, tmp_path: Path, kind: str) -> None:
    make, evidence = FOREIGN[kind]
    with LoopDisk(image, SIZE) as disk:
        make(disk, tmp_path)
    assert_untouched(node, image, "format/not-blank", evidence)


@pytest.mark.parametrize("offset", [0, MIB - 1, SIZE - 1])
def test_a_single_byte(node: TrialNode, image: Path, offset: int) -> None:
    with LoopDisk(image, SIZE) as disk:
        disk.write(offset, b"\x01")
    assert_untouched(node, image, "format/not-blank", f"byte {offset} is 0x01")


def test_foreign_data_on_an_ext4(node: TrialNode, image: Path, tmp_path: Path) -> None:
    with filesystem(image, tmp_path) as root:
        write(root, "home/me/thesis.tex")
    assert_untouched(
        node, image, "volume/foreign-data", "the volume holds home/, which neither protokube nor kops makes"
    )


def test_an_empty_ext4_that_somebody_else_made(node: TrialNode, image: Path, tmp_path: Path) -> None:
    with filesystem(image, tmp_path):
        pass
    assert_untouched(node, image, "volume/unknown-filesystem", "an empty ext4 filesystem with UUID")


@pytest.mark.parametrize("size", [64 * MIB, SIZE + 512, SIZE - 512])
def test_an_image_of_another_size(node: TrialNode, image: Path, size: int) -> None:
    image.touch()
    os.truncate(image, size)
    evidence = f"{image} has {size} bytes, the inventory says {SIZE}"
    assert_untouched(node, image, "volume/status", evidence)


def test_a_kops_volume_is_adopted(node: TrialNode, image: Path, tmp_path: Path) -> None:
    with filesystem(image, tmp_path) as root:
        kops_volume(root)

    report = node.report()

    assert report["exit"] == 0 and report["settled"], report
    formatted = [step["subject"] for step in report["steps"] if step["action"] == "format-volume"]
    assert formatted == ["events-a"]
    mount = node.path("/mnt/master-main-a")
    assert (mount / "var/etcd/data/member/snap/db").read_text() == "data\n"
    pod = yaml.safe_load((mount / "k8s.io/manifests/etcd.manifest").read_text())
    (container,) = pod["spec"]["containers"]
    env = {one["name"]: one["value"] for one in container["env"]}
    assert (env["ETCD_INITIAL_CLUSTER_STATE"], env["ETCD_NAME"]) == ("existing", "etcd-a")
    assert container["image"] == KOPS_IMAGE
    assert yaml.safe_load((mount / "k8s.io/identity.yaml").read_text())["started"] is True
    assert (node.root / "etc/kubernetes/manifests/etcd.manifest").is_symlink()

    again = node.report()
    assert (again["exit"], again["steps"]) == (0, [])


def test_a_kops_volume_of_another_member(node: TrialNode, image: Path, tmp_path: Path) -> None:
    with filesystem(image, tmp_path) as root:
        kops_volume(root, "b")
    assert_untouched(node, image, "volume/foreign-data", "ETCD_NAME=etcd-b, expected etcd-a")


def test_a_kops_volume_with_more_on_it(node: TrialNode, image: Path, tmp_path: Path) -> None:
    with filesystem(image, tmp_path) as root:
        kops_volume(root)
        write(root, "backup/etcd.db")
    assert_untouched(node, image, "volume/foreign-data", "the volume holds backup/, which")


def test_etcds_data_without_a_manifest(node: TrialNode, image: Path, tmp_path: Path) -> None:
    """Nobody can tell whose it is."""
    with filesystem(image, tmp_path) as root:
        write(root, "var/etcd/data/member/snap/db")
    assert_untouched(node, image, "volume/foreign-data", "without the manifest that says whose it is")


def settle_and_switch_off(node: TrialNode) -> None:
    report = node.report()
    assert report["exit"] == 0, report
    node.power_cut()


def test_a_clone_under_another_volume_id(node: TrialNode, image: Path, tmp_path: Path) -> None:
    """A snapshot was restored into a new volume, which got the old one's tags."""
    settle_and_switch_off(node)
    clone = volume("main-z", "main", "a/a", "320MiB")
    shutil.copy(image, tmp_path / clone["file"])
    write_inventory(tmp_path, clone, EVENTS)
    before = digest(tmp_path / clone["file"])
    node.power_on()

    report = node.report()

    rule, evidence = only_refusal(report, "main-z")
    assert rule == "volume/clone" and "says volume main-a" in evidence
    assert digest(tmp_path / clone["file"]) == before
    assert not (node.root / "etc/kubernetes/manifests/etcd.manifest").is_symlink()
    assert (node.root / "etc/kubernetes/manifests/etcd-events.manifest").is_symlink()


def test_a_clone_for_another_member(node: TrialNode, image: Path, tmp_path: Path) -> None:
    """The original is there too: its UUID tells, even before anything was written to the filesystem."""
    settle_and_switch_off(node)
    original = volume("main-a", "main", "a/a", "320MiB") | {"zone": "elsewhere"}
    clone = volume("main-b", "main", "b/a,b", "320MiB")
    shutil.copy(image, tmp_path / clone["file"])
    write_inventory(tmp_path, original, clone, EVENTS)
    before = digest(tmp_path / clone["file"])
    node.power_on()

    rule, evidence = only_refusal(node.report(), "main-b")
    assert rule == "volume/clone" and "main-a" in evidence
    assert digest(tmp_path / clone["file"]) == before


def test_two_volumes_of_one_member(node: TrialNode, image: Path, tmp_path: Path) -> None:
    twin = volume("main-z", "main", "a/a", "320MiB")
    write_inventory(tmp_path, MAIN, twin, EVENTS)

    report = node.report()

    assert report["exit"] == 1 and not report["settled"]
    assert {one["rule"] for one in report["refusals"]} == {"volume/duplicate-member"}
    said = {one["subject"]: one["evidence"] for one in report["refusals"]}
    assert said.keys() == {"main-a", "main-z"}
    assert said["main-a"].endswith("also stands on main-z") and said["main-z"].endswith("also stands on main-a")
    assert_the_other_is_up(node, report)
    assert sorted(path.name for path in image.parent.glob("*.img")) == ["events-a.img"]


def test_a_blank_disk_of_a_volume_that_had_a_filesystem(node: TrialNode, image: Path) -> None:
    """What the cloud remembers is believed before what the disk doesn't say."""
    settle_and_switch_off(node)
    os.truncate(image, 0)
    os.truncate(image, SIZE)
    node.power_on()

    before = digest(image)
    rule, evidence = only_refusal(node.report())
    assert rule == "volume/lost-filesystem"
    assert "is tagged protokube.k8s.io/filesystem=" in evidence and "data was lost" in evidence
    assert digest(image) == before


def test_nothing_is_formatted_where_that_is_forbidden(node: TrialNode, image: Path, tmp_path: Path) -> None:
    report = node.report("--no-format")

    assert report["exit"] == 1
    assert {one["subject"]: one["rule"] for one in report["refusals"]} == dict.fromkeys(
        ("main-a", "events-a"), "format/forbidden"
    )
    assert all("--no-format is set" in one["evidence"] for one in report["refusals"])
    for made in (tmp_path / "volumes").glob("*.img"):
        assert not made.read_bytes().strip(b"\0")

    assert node.report()["exit"] == 0, "without it both are formatted"
    assert node.report("--no-format")["exit"] == 0, "and what is formatted is used"


def test_a_refusal_is_told_before_the_fact(node: TrialNode, image: Path, tmp_path: Path) -> None:
    """A dry run doesn't know the disk before it is attached, and says so; after the refusal it knows."""
    with LoopDisk(image, SIZE) as disk:
        FOREIGN["swap"][0](disk, tmp_path)
    before = digest(image)
    plan = node.report("--dry-run")
    assert plan["exit"] == 0
    depends = {step["depends"] for step in plan["steps"] if step["subject"] == "main-a"}
    assert "the disk proves blank" in depends
    assert digest(image) == before


def test_the_text_report_names_the_rule_and_the_evidence(node: TrialNode, image: Path) -> None:
    with LoopDisk(image, SIZE) as disk:
        disk.write(5, b"\x07")
    done = node.once()
    assert done.returncode == 1
    assert "main-a: format/not-blank: " in done.stdout and "byte 5 is 0x07" in done.stdout
    assert "Not converged." in done.stdout


def test_a_disk_that_can_not_be_read(node: TrialNode, tmp_path: Path) -> None:
    """What can't be read isn't blank; a disk of the machine's own (`device`), which comes to its senses later."""
    with FaultDisk(tmp_path / "fault") as fault:
        device = {"id": "main-a", "device": fault.device, "size": "64MiB", "tags": tags("main", "a/a")}
        write_inventory(tmp_path, device, EVENTS)
        fault.mode("badread")

        report = node.report()

        rule, evidence = only_refusal(report)
        assert rule == "format/not-blank" and "read error at byte" in evidence
        assert_the_other_is_up(node, report)
        fault.mode("healthy")
        assert fault.read(0, MIB) == bytes(MIB)
        assert node.report()["exit"] == 0
        assert (node.root / "etc/kubernetes/manifests/etcd.manifest").is_symlink()
        node.power_cut()


def test_both_volumes_refused_still_gives_kubelets_files(node: TrialNode, tmp_path: Path) -> None:
    for one in both():
        path = tmp_path / one["file"]
        path.touch()
        os.truncate(path, 17 * MIB)
    report = node.report()
    assert report["exit"] == 1
    assert {one["rule"] for one in report["refusals"]} == {"volume/status"}
    assert (node.root / "var/lib/kubelet/config.yaml").exists()
    assert not (node.root / "etc/kubernetes/manifests/etcd.manifest").is_symlink()


# --- the way to the mount points ------------------------------------------------------------------------


def test_a_link_on_the_way_to_the_mount_points_is_followed(node: TrialNode) -> None:
    """On ostree systems /mnt leads to var/mnt."""
    (node.root / "var/mnt").mkdir(parents=True)
    (node.root / "mnt").symlink_to("var/mnt")
    report = node.report()
    assert report["exit"] == 0 and report["settled"], report
    assert os.path.ismount(node.path("/var/mnt/master-main-a"))
    again = node.report()
    assert (again["exit"], again["steps"], again["refusals"]) == (0, [], [])


@pytest.mark.parametrize(
    ("target", "evidence"),
    [
        ("var/absent", "/mnt is a symbolic link to var/absent, which is absent: make that directory"),
        ("etc/file", "/mnt is a symbolic link to etc/file, where no directory is: make one there"),
        ("../elsewhere", "by a symbolic link: replace the link by a directory"),
        (None, "/mnt is not a directory: move it away"),
    ],
)
def test_nothing_is_begun_when_the_way_leads_nowhere(
    node: TrialNode, image: Path, target: str | None, evidence: str
) -> None:
    write(node.root, "etc/file")
    (node.root.parent / "elsewhere").mkdir()
    if target is None:
        (node.root / "mnt").touch()
    else:
        (node.root / "mnt").symlink_to(target)
    report = node.report()
    rule, said = only_refusal(report)
    assert rule == "mount/path" and evidence in said, said
    assert not [step for step in report["steps"] if step["action"] in ("attach-volume", "format-volume")]
    assert not image.exists(), "the image is made when it is attached"
    (node.root / "mnt").unlink()
    assert node.report()["settled"]


def test_a_mount_point_that_is_a_link_is_refused_before_anything_is_formatted(node: TrialNode) -> None:
    (node.root / "mnt/elsewhere").mkdir(parents=True)
    (node.root / "mnt/master-main-a").symlink_to("elsewhere")
    rule, said = only_refusal(node.report())
    assert rule == "mount/path" and "/mnt/master-main-a is no directory" in said
    (node.root / "mnt/master-main-a").unlink()
    assert node.report()["settled"]


@pytest.mark.parametrize("over", ["/mnt", "/mnt/master-main-a"])
def test_a_mount_that_hides_a_volume_is_named(node: TrialNode, over: str) -> None:
    assert node.report()["settled"]
    assert node.run("mount", "-t", "tmpfs", "tmpfs", str(node.root) + over).returncode == 0
    report = node.report("--interval", "1")  # which bounds its pauses
    evidence = {one["subject"]: (one["rule"], one["evidence"]) for one in report["refusals"]}
    rule, said = evidence["main-a"]
    assert rule == "mount/covered" and "tmpfs (0:" in said and over in said, report
    assert not report["steps"] and "kernel's log" not in str(report), report
    assert node.run("umount", str(node.root) + over).returncode == 0
    assert node.report()["settled"]


# --- another data directory -----------------------------------------------------------------------------


def test_a_data_directory_of_the_templates_own(node: TrialNode, tmp_path: Path) -> None:
    """Its member, once started, is found again, mounted and after a reboot."""
    shipped = Path(__file__).parents[2] / "templates/etcd"
    shutil.copytree(shipped, tmp_path / "templates")
    for path in (tmp_path / "templates").glob("*.yaml"):
        path.write_text(path.read_text().replace("var/etcd/data", "data/etcd"))
    options = ("--template-dir", str(tmp_path / "templates"))
    assert node.report(*options)["settled"]
    (node.path("/mnt/master-main-a") / "data/etcd/member/snap").mkdir(parents=True)
    assert node.report(*options)["settled"]
    node.power_cut()
    node.power_on()
    report = node.report(*options)
    assert report["settled"], report
    assert not [step for step in report["steps"] if step["action"] in ("make-directory", "write-file")], report
    identity = yaml.safe_load((node.path("/mnt/master-main-a") / "k8s.io/identity.yaml").read_text())
    assert identity["started"] is True
