"""What several adapters are tested on: disks, and nodes of the local cloud and of AWS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.aws import Lab, aws_lab
from tests.lab.disks import Node, node
from tests.lab.local_cloud import IMAGE, Make, nodes


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A strict EC2, and a metadata service that calls this process one of its instances."""
    with aws_lab(monkeypatch) as running:
        yield running


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Node]:
    """A node's side of its disks."""
    with node(tmp_path / "root") as one:
        yield one


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes nodes of the local cloud on one inventory."""
    with nodes(tmp_path) as make:
        yield make


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The image of that inventory's volume."""
    return tmp_path / IMAGE
