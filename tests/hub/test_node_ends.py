"""However nokubelet ends, and whatever of its files is broken: a trial is taken back, and a hold ends."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from protokube.agent.clock import boot_time
from protokube.agent.wiring import boot
from protokube.errors import ConfigError, ProtokubeError, ProviderError
from protokube.hub import cli_node
from protokube.hub.core.messages import HubHello
from protokube.hub.core.reconnect import GIVEN_UP
from protokube.hub.nodelink import OutError
from protokube.hub.nodewiring import Place, Undoing
from protokube.hub.verbs.programs import Programs
from tests.hub import lab
from tests.hub.lab import until
from tests.hub.test_config import NEW, OLD, Machine, order


class Node(Machine):
    """The machine with nokubelet's files."""

    def kept(self) -> None:
        """Run nokubelet until it ends."""
        programs = Programs(protokube=(f"{self.folder}/protokube",), systemctl=(f"{self.folder}/systemctl",))
        asyncio.run(cli_node._kept(Place(self.state, self.file), str(self.folder / "policy.yaml"), programs))

    def on_trial(self) -> None:
        """An unconfirmed configuration of a program that was killed."""
        self.config()
        assert self.revisions.current() == 1
        self.revisions.add(NEW.encode(), "anna", "x", 1)
        self.file.write_text(NEW)
        trial = {"command": "x", "revision": 2, "before": 1, "boot": boot(), "since": 0.0, "until": 1e12}
        (self.state / "trial.json").write_text(json.dumps(trial))

    def hold(self, seconds: float) -> None:
        """A hold that lasts so many seconds."""
        held = {"command": "x", "reason": "disk swap", "boot": boot(), "until": boot_time() + seconds}
        (self.state / "held.json").write_text(json.dumps(held))

    def undone(self) -> bool:
        """Whether nothing is left of either."""
        left = [self.state / "trial.json", self.state / "held.json"]
        unmasked = "unmask --runtime protokube.service" in self.called()
        return unmasked and self.file.read_text() == OLD and not any(path.exists() for path in left)


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [("policy.yaml", "policy: open", ConfigError), ("state/journal.jsonl", "garbage\n", ProviderError)],
)
def test_a_broken_file_keeps_nothing_from_being_undone(
    tmp_path: Path, name: str, text: str, error: type[ProtokubeError]
) -> None:
    node = Node(tmp_path)
    node.on_trial()
    node.hold(-1.0)
    (tmp_path / name).write_text(text)
    with pytest.raises(error):
        node.kept()
    assert node.undone()


def test_a_node_that_believes_its_hub_alone_is_warned_of_at_its_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(tmp_path)
    for mode, warned in (("read-only", 0), ("hub", 1)):
        (tmp_path / "policy.yaml").write_text(f"policy: {mode}\n")
        with pytest.raises(OutError, match="isn't enrolled"):
            node.kept()
        told = [one.levelname for one in caplog.records if "whoever has the hub" in one.getMessage()]
        assert told == ["WARNING"] * warned


def test_who_is_put_out_takes_back_its_trial_and_waits_for_its_hold_s_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(tmp_path)

    class Link:
        def __init__(self, kept: Undoing) -> None:
            self.kept = kept
            kept.changes._look = 0.02

        async def run(self) -> None:
            """A trial and a hold are under way when the hub puts the node out."""
            put = order("config.put", text=NEW, base=1, confirm_within=60)
            task = asyncio.ensure_future(self.kept.config.put(put, node.say, 1000.0))
            await until(lambda: node.say.said)
            assert node.file.read_text() == NEW
            node.hold(3.0)
            task.cancel()  # as the runner does
            raise OutError("the hub won't have this node")

        def changed(self) -> None:
            ended.append(node.file.read_text())

    ended: list[str] = []
    monkeypatch.setattr(cli_node, "node_link", lambda _place, _policy, _programs, kept, _told: Link(kept))
    with pytest.raises(OutError):
        node.kept()
    assert node.undone() and ended == [OLD]  # the hold's end was waited for


def test_minutes_without_a_link_count_from_its_end_however_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = [0.0]
    monkeypatch.setattr(lab, "boot_time", lambda: boot_time() + ahead[0])

    async def test() -> None:
        made = lab.Lab(tmp_path / "hub")
        async with made.hub() as hub:
            node = lab.Node(made, "n0", {})
            await node.enrol(hub.token("n0"))
            async with node.running() as task:
                await until(lambda: node.linked(hub))
                ahead[0] = made.ahead = 10 * GIVEN_UP  # it was up for so long
                count = len(node.said)
                hub.desk.links["n0"].put(HubHello("second", made.clock(), hub.audit.head()))
                await until(lambda: task.done() or (node.said[count:] and node.said[-1].startswith("linked")))
                assert not task.done()

    asyncio.run(test())
