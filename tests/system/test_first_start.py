"""etcd killed before its first entry, on a volume that stays mounted: its empty log is put aside, and it serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adapters.test_blockdev_firststart import LOG, empty
from tests.lab.trial import FOR_ETCD, TrialNode, until, volume, write_inventory

pytestmark = [pytest.mark.root, pytest.mark.slow]

TAKE_BACK = "take-back-first-start"
WAL = "/mnt/master-main-a/var/etcd/data/member/wal"


def test_a_first_start_that_was_cut_off_is_taken_back_while_mounted(tmp_path: Path) -> None:
    inventory = write_inventory(tmp_path, volume("main-a", "main", "a/a", FOR_ETCD))
    with TrialNode(tmp_path / "a", inventory) as node:
        assert node.report()["exit"] == 0
        pods = node.start_pods()
        until("etcd serves", node.healthy)
        node.end(pods)
        empty(node.path(WAL))

        told, report = node.report("--dry-run"), node.report()

        assert TAKE_BACK in {step["action"] for step in told["steps"]}, told
        (step,) = [step for step in report["steps"] if step["action"] == TAKE_BACK]
        assert step["status"] == "done" and report["exit"] == 0, report
        assert not (node.path(WAL) / LOG).exists()
        pods = node.start_pods()
        until("etcd serves again", node.healthy)
        assert TAKE_BACK not in {step["action"] for step in node.report()["steps"]}
        node.end(pods)
