"""nodeup is killed before each effect on assets, and in the midst of each write: the next run ends the same."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protokube.core.node.assets import Asset, Extract
from tests.lab.asset_files import Machine, restarted, tar

OLD = {"/opt/cni/bin/bridge": b"old bridge", "/opt/cni/bin/loopback": b"old loopback", "/bin/kubelet": b"old kubelet"}
NEW = {path: os.urandom(3000) for path in OLD}

_EFFECTS = {"os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate"}
_KILLED = 9


class Killer:
    """Ends this process before its n-th effect, as SIGKILL would."""

    def __init__(self, number: int) -> None:
        self.left = number

    def count(self) -> bool:
        """Whether this is the one."""
        self.left -= 1
        return self.left == 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        creates = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if (event in _EFFECTS or creates) and self.count():
            os._exit(_KILLED)

    def halving(self, write: Callable[..., int]) -> Callable[..., int]:
        """A write that ends in its midst when it is the one. Writes raise no audit event."""

        def written(opened: int, data: memoryview, *where: int) -> int:
            if self.count():
                write(opened, data[: len(data) // 2], *where)
                os._exit(_KILLED)
            return write(opened, data, *where)

        return written


def killed(machine: Machine, assets: list[Asset], number: int) -> bool:
    """Run in a process of its own that is killed at its n-th effect; False when it had fewer."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            killer = Killer(number)
            sys.addaudithook(killer)
            os.pwrite = killer.halving(os.pwrite)
            for asset in assets:
                restarted(machine).converge(asset)
            code = 0
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, _KILLED), status
    return status == _KILLED


def served(folder: Path, contents: dict[str, bytes]) -> list[Asset]:
    medium = folder / "media"
    medium.mkdir(exist_ok=True)
    packed = tar(*((path.rpartition("/")[2], data) for path, data in contents.items() if path.startswith("/opt")))
    kubelet = contents["/bin/kubelet"]
    (medium / "kubelet").write_bytes(kubelet)
    (medium / "cni.tgz").write_bytes(packed)
    return [
        Asset((f"file://{medium}/kubelet",), hashlib.sha256(kubelet).hexdigest(), path="/bin/kubelet"),
        Asset(
            (f"file://{medium}/cni.tgz",),
            hashlib.sha256(packed).hexdigest(),
            extract=(Extract("*", "/opt/cni/bin/"),),
        ),
    ]


@pytest.mark.parametrize("before", [{}, OLD], ids=["fresh", "over an old version"])
def test_killed_at_every_effect_it_ends_the_same(tmp_path: Path, before: dict[str, bytes]) -> None:
    number = 0
    while True:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        machine = Machine(folder)
        if before:
            for asset in served(folder, before):
                machine.converge(asset)
        assets = served(folder, NEW)
        died = killed(machine, assets, number)
        assert set(before) <= machine.below(), number
        for path in machine.below():
            if not path.endswith(".protokube-new"):
                assert machine.path(path).read_bytes() in (NEW[path], before.get(path)), (number, path)
        again = restarted(machine)
        for asset in assets:
            again.converge(asset)
        assert {path: machine.path(path).read_bytes() for path in machine.below()} == NEW, number
        assert not [one.name for one in machine.cache.iterdir() if ".part" in one.name], number
        assert [again.converge(asset) for asset in assets] == [[], []]
        if not died:
            break
    assert number > 25
