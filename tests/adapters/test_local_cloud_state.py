"""The state file of a volume: its form is a contract, and what doesn't fit is named by its path."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from protokube.cloudprovider.static.state import Holder, State, load, save
from protokube.errors import ProviderError

NODE = Holder("node-b", ("10.0.0.1", "fd00::1"), (), "/wörk", "mnt:[4026531841]")

FORM = """\
{
  "version": 1,
  "holder": {
    "node": "node-b",
    "internal": [
      "10.0.0.1",
      "fd00::1"
    ],
    "external": [],
    "root": "/w\\u00f6rk",
    "mountNamespace": "mnt:[4026531841]"
  },
  "tags": {
    "a": "1",
    "b": "2"
  }
}
"""


def test_the_form_is_a_contract(tmp_path: Path) -> None:
    path, state = str(tmp_path / "main-a.img.state"), State(NODE, {"b": "2", "a": "1"})
    save(path, state)
    assert Path(path).read_text() == FORM
    assert load(path) == state
    assert [entry.name for entry in tmp_path.iterdir()] == ["main-a.img.state"]


def test_without_a_holder_it_says_null(tmp_path: Path) -> None:
    path = str(tmp_path / "x.state")
    save(path, State())
    assert Path(path).read_text() == '{\n  "version": 1,\n  "holder": null,\n  "tags": {}\n}\n'
    assert load(path) == State()


def test_a_root_that_is_not_utf8_comes_back(tmp_path: Path) -> None:
    path, root = str(tmp_path / "x.state"), os.fsdecode(b"/\xff")
    save(path, State(Holder("a", (), (), root, "m"), {}))
    holder = load(path).holder
    assert holder and holder.root == root


def test_keys_of_later_versions_are_no_fault(tmp_path: Path) -> None:
    (tmp_path / "x.state").write_text('{"version": 1, "holder": null, "tags": {}, "more": [1]}')
    assert load(str(tmp_path / "x.state")) == State()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"version": 2}, "$.version"),
        ({"version": None}, "$.version"),
        ({"tags": {"k": 1}}, "$.tags[...]"),
        ({"tags": []}, "$.tags"),
        ({"holder": "a"}, "$.holder"),
        ({"holder": {}}, "$.holder"),
        ({"holder": {**json.loads(FORM)["holder"], "internal": ["10.0.0.1", 2]}}, "$.holder.internal[1]"),
        ({"holder": {**json.loads(FORM)["holder"], "mountNamespace": 4}}, "$.holder.mountNamespace"),
    ],
)
def test_a_fault_is_named_by_its_path(tmp_path: Path, change: dict[str, object], place: str) -> None:
    path = tmp_path / "x.state"
    path.write_text(json.dumps(json.loads(FORM) | change))
    with pytest.raises(ProviderError) as caught:
        load(str(path))
    assert f"{path} can't be understood" in str(caught.value) and f"at `{place}`" in str(caught.value)


@pytest.mark.parametrize("key", ["version", "holder", "tags"])
def test_nothing_may_be_left_out(tmp_path: Path, key: str) -> None:
    path, content = tmp_path / "x.state", json.loads(FORM)
    del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(ProviderError, match=f"missing required field `{key}`"):
        load(str(path))
