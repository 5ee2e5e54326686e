"""Whatever stands in a file on a volume, reading it raises YAMLError at most, and never ends the program."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from protokube.core.disks.identity import parse_identity
from protokube.core.model import Rejected
from protokube.core.static_pod import manifest_env
from protokube.core.untrusted_yaml import MOST_DEEP, load

BOMB = "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b, *b, *b]\n"
WICKED = [
    "a: 2001-99-99", "a: 0x_", "a: !!int ''", "a: !!float x", "[" * 200, "- " * 200, "{a: " * 200, BOMB, "a: *b",
    "!!python/object/apply:os.getcwd []", "? [a]\n: b", "a: \x00", "&a [*a]",
]  # fmt: skip


@pytest.mark.parametrize("text", WICKED)
def test_wicked_texts(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        load(text)
    assert isinstance(parse_identity(text), Rejected)
    assert manifest_env(text) == {}


@given(st.text(alphabet="[]{}:,-&*!?|> \n'\"0x_.ab1\t#%@"))
def test_any_text(text: str) -> None:
    try:
        load(text)
    except yaml.YAMLError:
        return


def test_deep_nesting_does_not_reach_the_stack() -> None:
    """In a process of its own, since the alternative is a segmentation fault."""
    code = "from protokube.core.disks.identity import parse_identity; print(parse_identity('[' * 250000).rule)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "volume/identity"


def test_what_is_well_formed_is_read() -> None:
    assert load("a: [1, {b: c}]") == {"a": [1, {"b": "c"}]}
    assert load("[" * MOST_DEEP + "]" * MOST_DEEP)
