"""Every contract of import-linter fails once it is broken: a contract that can't fail promises nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]

OFFENCES = {
    "The house is built one way": ("observe/observer.py", "import protokube.daemon"),
    "The core's concerns stand on one another in one order": (
        "core/volumes/model.py",
        "import protokube.core.disks.model",
    ),
    "Within a concern: plan, assess, model": ("core/etcd/assess.py", "import protokube.core.etcd.plan"),
    "The engine of component configuration knows no component": (
        "core/component/values.py",
        "import protokube.core.kubelet.paths",
    ),
    "The engine is built one way": ("core/component/flags.py", "import protokube.core.component.schema"),
    "Planners are strangers to one another": ("core/kubelet/plan.py", "import protokube.core.etcd.plan"),
    "Observing knows no planner": ("observe/observer.py", "import protokube.core.dns.plan"),
    "Observing is built one way": ("observe/asking.py", "import protokube.observe.wanted"),
    "The daemon is built one way": ("daemon/words.py", "import protokube.daemon.pace"),
    "The daemon knows no planner": ("daemon/serve.py", "import protokube.core.plan"),
    "Adapters are strangers to one another": ("host/files.py", "import protokube.host.blockdev"),
    "Stores are strangers, and sealing knows none of them": ("store/sealed.py", "import protokube.store.file"),
    "Clouds are strangers, and real disks know nothing of images": (
        "cloudprovider/static/provider.py",
        "import protokube.cloudprovider.loopfile.images",
    ),
    "What one cloud is made of serves no other": (
        "cloudprovider/aws/provider.py",
        "import protokube.cloudprovider.static.provider",
    ),
    "Children that touch disks import next to nothing": ("host/disk/disklock.py", "import protokube.errors"),
    "cryptography lives where something is issued or sealed": ("host/files.py", "import cryptography"),
    "The core does no I/O and knows no clock": ("core/dns/names.py", "import socket"),
    "botocore lives in awsclient, for aws, route53 and s3": ("host/files.py", "import botocore"),
    "Every other vendor library lives in its one adapter": ("host/files.py", "import dns"),
    "The agent stands on the house, which knows nothing of it": ("host/files.py", "import protokube.agent.ports"),
    "protokube knows nothing of nodeup": ("host/files.py", "import nodeup.options"),
    "The agent takes core, host and errors, and not the daemon": ("agent/loop.py", "import protokube.config"),
    "The agent is built one way": ("agent/core/plan.py", "import protokube.agent.ports"),
    "aiohttp lives at the edges of the agent, the hub and kubeleet": ("agent/loop.py", "import aiohttp"),
    "The agent's core does no I/O and knows no clock": ("agent/core/plan.py", "import time"),
    "The hub's core does no I/O and knows no clock": ("hub/core/audit.py", "import time"),
    "The hub's core is built one way": ("hub/core/names.py", "import protokube.hub.core.checks"),
    "The hub takes core, host and errors, and not the daemon": ("hub/desk.py", "import protokube.config"),
    "The hub is built one way": ("hub/gate.py", "import protokube.hub.server"),
    "Hub and daemon never meet in one process": ("host/files.py", "import protokube.hub.core.names"),
    "kubeleet stands on the agent, and nothing stands on kubeleet": (
        "agent/loop.py",
        "import protokube.kubeleet.keys",
    ),
    "kubeleet takes the agent, and neither the daemon nor the hub": (
        "kubeleet/keys.py",
        "import protokube.hub.core.names",
    ),
    "kubeleet is built one way": ("kubeleet/connect.py", "import protokube.kubeleet.reading"),
    "kubeleet's core does no I/O and knows no clock": ("kubeleet/core/watch.py", "import time"),
    "redis lives in kubeleet's connections": ("kubeleet/keys.py", "import redis"),
    "nodeup stands on protokube's core, ports and host, and not on its daemon": (
        "../nodeup/facts.py",
        "import protokube.reconcile",
    ),
    "What a machine is to have is judged before it is planned": (
        "core/node/wanted.py",
        "import protokube.core.node.needs",
    ),
}


def contracts() -> list[str]:
    """The names of the contracts that there are."""
    with (CHECKOUT / "pyproject.toml").open("rb") as file:
        return [one["name"] for one in tomllib.load(file)["tool"]["importlinter"]["contracts"]]


def test_every_contract_has_its_offence() -> None:
    assert sorted(contracts()) == sorted(OFFENCES)


@pytest.mark.parametrize("name", OFFENCES)
def test_a_contract_fails_once_it_is_broken(name: str, tmp_path: Path) -> None:
    for package in ("protokube", "nodeup"):
        shutil.copytree(CHECKOUT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    where, offence = OFFENCES[name]
    module = tmp_path / "protokube" / where
    module.write_text(f"{module.read_text()}\n{offence}  # noqa\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert re.search(rf"^{re.escape(name)} BROKEN\b", done.stdout, flags=re.MULTILINE), done.stdout
