"""kubelet's files on a real systemd: changed, disliked, faulty; and what the daemon says on the way."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.kubelet_standin import kubelet_script
from tests.lab.trial import first_woken_by
from tests.lab.unit_node import RECORD, UNIT, UnitNode

pytestmark = pytest.mark.root

KUBELET = "kubelet.service"
ARGS, CONFIG = "/etc/sysconfig/kubelet", "/var/lib/kubelet/config.yaml"
KUBECONFIG = "/var/lib/kubelet/kubeconfig"

DISLIKES = (
    'case "$*" in *--config*) if grep -qx "maxPods: 13" /var/lib/kubelet/config.yaml; '
    "then echo 13 is an unlucky number >&2; exit 1; fi ;; esac\nexec "
)
"""What only kubelet itself can know: the field, its type and its range are all right."""


class Node(UnitNode):
    """A node that is no master, so that kubelet is all there is; it crashes when maxPods is 13."""

    def __init__(self, base: Path, *, version: str = "1.36.2", **config: Any) -> None:
        inventory = "{cluster: dev.example.com, nodes: [{name: node-a, internalAddress: 10.1.2.3}]}\n"
        files = {
            "/etc/protokube/inventory.yaml": inventory,
            "/usr/bin/kubelet": kubelet_script(version, RECORD).replace("exec ", DISLIKES),
            f"/etc/systemd/system/{KUBELET}.d/quick.conf": "[Service]\nRestartSec=300ms\n",
        }
        own = {"master": False, "cloud": "local", "kubeletRestartsPerHour": 20, **config}
        super().__init__(base, "node-a", own, files=files)

    def pods(self) -> list[int | None]:
        """maxPods of every kubelet that got on its feet, in their order."""
        return [one["config"].get("maxPods") for one in self.kubelets()]

    def change(self, **more: Any) -> None:
        """Change the configuration, and have the daemon read it."""
        self.configure(**more)
        self.run("systemctl", "reload", UNIT)

    def active(self) -> bool:
        """Whether kubelet runs."""
        return self.show("ActiveState", KUBELET) == "active"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Node(tmp_path, kubelet={"maxPods": 40}) as node:
        yield node


def test_a_change_restarts_kubelet_once_and_says_why(node: Node) -> None:
    node.bring_up()
    assert node.said("kubelet restarts because") == 0

    node.change(kubelet={"maxPods": 42})
    node.until("kubelet runs with it", lambda: node.pods() == [40, 42])
    node.converged(2)
    node.change(kubelet={"maxPods": 42, "logLevel": 4})
    node.until("kubelet runs with a flag more", lambda: len(node.kubelets()) == 3)
    node.converged(3)

    assert "--v=4" in node.kubelets()[-1]["argv"]
    assert node.said(f"kubelet restarts because {CONFIG} changed") == 1
    assert node.said(f"kubelet restarts because {ARGS} changed") == 1
    node.change()
    node.converged(4)
    assert node.pods() == [40, 42, 42], "nothing has changed since"
    assert node.said("kubelet restarts because") == 2


def test_a_change_that_the_daemon_did_not_live_to_act_on(node: Node) -> None:
    """The files are newer than kubelet, whoever wrote them: the next daemon restarts it, the one after doesn't."""
    node.bring_up()
    node.run("systemctl", "stop", UNIT)
    node.configure(kubelet={"maxPods": 42})
    because = f"kubelet restarts because {CONFIG} changed after it was started"
    assert because in node.run("/usr/bin/protokube", "--dry-run").stdout
    node.configure(kubeletUnit="none")
    written = node.run("/usr/bin/protokube", "--once")
    assert written.returncode == 0, written.stderr
    assert "maxPods: 42" in node.path(CONFIG).read_text() and node.pods() == [40]

    node.configure(kubeletUnit=KUBELET)
    assert because in node.run("/usr/bin/protokube", "--dry-run").stdout
    assert node.pods() == [40]
    node.run("systemctl", "start", UNIT)
    node.until("kubelet runs with what is on disk", lambda: node.pods() == [40, 42])
    node.converged(2)
    assert node.said(because) == 1

    node.run("systemctl", "restart", UNIT)
    node.converged(3)
    assert node.pods() == [40, 42]


def test_a_kubelet_that_does_not_stay_up_is_told_and_a_better_configuration_taken(node: Node) -> None:
    node.bring_up()
    node.change(kubelet={"maxPods": 13})
    node.until("it is told", lambda: node.said("refused: kubelet: kubelet/not-coming-up"))
    node.until("systemd knows", lambda: "kubelet/not-coming-up" in node.show("StatusText"))
    assert "maxPods: 13" in node.path(CONFIG).read_text() and node.pods() == [40]
    node.change(kubelet={"maxPods": 43})
    node.until("kubelet has the better one", lambda: node.pods() == [40, 43])


def test_a_kubelet_that_exits_until_its_runtime_is_up_is_started_soon_after(tmp_path: Path) -> None:
    """systemd doesn't restart it here: all starts are the daemon's, with growing pauses and no end."""
    runtime = "/run/containerd.sock"
    with Node(tmp_path, kubelet={"maxPods": 40}) as node:
        kubelet = node.path("/usr/bin/kubelet")
        text = kubelet.read_text()
        kubelet.write_text(
            text.replace(DISLIKES, f'case "$*" in *--config*) test -e {runtime} || exit 1 ;; esac\n{DISLIKES}')
        )
        node.path(f"/etc/systemd/system/{KUBELET}.d/quick.conf").write_text("[Service]\nRestart=no\n")
        node.run("systemctl", "daemon-reload")
        node.run("systemctl", "start", UNIT)
        node.until("it was started four times in vain", lambda: node.said(f"start {KUBELET}") >= 4)
        assert node.said("it was started in vain; next try in") and node.pods() == []
        node.path(runtime).touch()
        node.until("kubelet is up", lambda: node.pods() == [40])


def test_a_typo_at_boot_leaves_kubelet_with_its_last_good_files(node: Node) -> None:
    node.bring_up()
    node.run("systemctl", "stop", UNIT)
    node.run("systemctl", "stop", KUBELET)
    before = node.path(ARGS).read_bytes(), node.path(CONFIG).read_bytes()
    node.configure(kubelet={"maxPodz": 41})

    node.run("systemctl", "start", UNIT)

    node.until("kubelet is up again", lambda: node.pods() == [40, 40])
    node.until("it is told", lambda: "kubelet/configuration" in node.show("StatusText"))
    assert node.said("with the files of the last good configuration, since this one is faulty") >= 1
    assert "maxPods" in node.journal(UNIT), "the nearest name"
    assert (node.path(ARGS).read_bytes(), node.path(CONFIG).read_bytes()) == before
    node.change(kubelet={"maxPods": 41})
    node.until("kubelet has the mended one", lambda: node.pods() == [40, 40, 41])


def test_restarts_are_limited(tmp_path: Path) -> None:
    with Node(tmp_path, kubelet={"maxPods": 40}, kubeletRestartsPerHour=1) as node:
        node.bring_up()
        node.change(kubelet={"maxPods": 41})
        node.until("one start and one restart", lambda: node.pods() == [40, 41])
        node.until("they are at rest", lambda: node.journal(UNIT).splitlines().count("converged") >= 2)
        node.change(kubelet={"maxPods": 42})
        node.until("the file is written", lambda: "maxPods: 42" in node.path(CONFIG).read_text())
        node.until("it waits", lambda: node.said("restarted often enough, next in"))
        node.run("systemctl", "kill", "--kill-who=main", "--signal=USR1", UNIT)
        node.until("it was asked", lambda: node.said("woken by SIGUSR1"))
        assert node.pods() == [40, 41] and node.show("StatusText") != "converged"


@pytest.mark.parametrize(
    ("version", "field", "words"),
    [
        ("1.36.2", {"networkPlugin": "cni"}, "networkPlugin"),
        ("1.20.2", {"memorySwap": {"swapBehavior": "NoSwap"}}, "memorySwap"),
    ],
)
def test_a_field_of_another_version_is_refused_before_anything_is_written(
    tmp_path: Path, version: str, field: dict[str, Any], words: str
) -> None:
    with Node(tmp_path, version=version, kubelet=field) as node:
        node.run("systemctl", "start", UNIT)
        node.until("it is refused", lambda: node.said("refused: kubelet: kubelet/configuration"))
        assert words in node.journal(UNIT)
        assert not node.path(ARGS).exists() and not node.path(CONFIG).exists() and not node.kubelets()

        node.change(kubelet={"maxPods": 40})
        node.until("kubelet comes up", lambda: node.pods() == [40])
        before = node.path(ARGS).read_bytes(), node.path(CONFIG).read_bytes()
        refused = node.said("refused: kubelet: kubelet/configuration")
        node.change(kubelet={"maxPods": 41, **field})
        node.until("it is refused again", lambda: node.said("refused: kubelet: kubelet/configuration") > refused)
        assert (node.path(ARGS).read_bytes(), node.path(CONFIG).read_bytes()) == before
        assert node.active() and node.pods() == [40]


def test_the_kubeconfig_arrives(node: Node) -> None:
    node.bring_up()
    assert node.said("standalone") and "--kubeconfig" not in " ".join(node.kubelets()[0]["argv"])
    before = len(node.journal(UNIT))

    arriving = node.path(f"{KUBECONFIG}.new")
    arriving.write_text("{apiVersion: v1, kind: Config}\n")
    arriving.chmod(0o400)
    arriving.rename(node.path(KUBECONFIG))

    node.until("kubelet has it", lambda: len(node.kubelets()) == 2)
    assert f"--kubeconfig={KUBECONFIG}" in node.kubelets()[1]["argv"]
    node.until("the daemon knows", lambda: node.said("kubelet.service is active (running)") >= 2)
    assert not first_woken_by(node.journal(UNIT)[before:]).startswith("the clock")
    assert len(node.kubelets()) == 2


def test_sigkill_of_kubelet_is_left_to_systemd(node: Node) -> None:
    node.bring_up()
    node.run("systemctl", "kill", "--kill-who=main", f"--signal={signal.SIGKILL}", KUBELET)
    node.until("systemd has started it again", lambda: node.pods() == [40, 40])
    assert node.show("NRestarts", KUBELET) == "1" and node.said("start kubelet.service") == 1
