"""The model is true: a few of the sequences of which `make safety` runs many (its claim `model`).

Files: tests/rounds/test_model_files.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rounds import model_cloud, model_disks, model_images, model_names
from tests.rounds.machine import Cloud, Disks

pytestmark = pytest.mark.root

MODELS = {
    "disks": model_disks.differs,
    "bind": model_names.bind_differs,
    "route53": model_names.route53_differs,
    "ec2": model_cloud.differs,
    "images": model_images.differs,
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("model", MODELS)
def test_random_actions_end_in_the_same_state(model: str, seed: int, tmp_path: Path) -> None:
    assert MODELS[model](seed, tmp_path) == ""


def test_a_model_of_disks_that_lies_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Disks, "check", lambda *_: None)
    found = [model_disks.differs(seed, _made(tmp_path / str(seed))) for seed in range(6)]
    assert any("the disk shows" in one for one in found)


def test_a_model_of_a_cloud_that_lies_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cloud, "tag", lambda *_: None)
    assert any("in the model" in model_cloud.differs(seed, tmp_path) for seed in range(6))


def test_a_model_of_images_that_lies_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cloud, "tag", lambda *_: None)
    tries = (model_images.differs(seed, _made(tmp_path / str(seed))) for seed in range(20))
    assert any("in the model" in one for one in tries)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
