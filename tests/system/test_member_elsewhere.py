"""A member whose volume got another id in the inventory: no empty etcd cluster takes the place of its data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.lab.trial import TrialNode, both, volume, write_inventory

pytestmark = pytest.mark.root


def test_a_renamed_volume_is_not_made_empty(tmp_path: Path) -> None:
    main, events = both()
    with TrialNode(tmp_path / "a", write_inventory(tmp_path, main, events)) as node:
        assert node.report()["settled"]
        node.power_cut()
        node.power_on()
        # Nothing on the machine names the new id: neither a link, nor a mount point, nor a state file.
        renamed = volume("main-2", "main", "a/a")
        write_inventory(tmp_path, renamed, events)
        shutil.rmtree(node.root / "etc/kubernetes")
        report = node.report()
        assert [(one["subject"], one["rule"]) for one in report["refusals"]] == [
            ("main-2", "volume/member-elsewhere")
        ]
        assert main["file"] in report["refusals"][0]["evidence"] and not report["settled"]
        assert not Path(tmp_path, renamed["file"]).exists()
        write_inventory(tmp_path, main, events)
        assert node.report()["settled"]
