"""What a pod says never becomes an option of podman's, nor a variable of another name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from protokube.agent.core.lifecycle import ContainerId
from protokube.agent.core.model import spec_of
from protokube.agent.ports import ContainerSpec, ExecResult, Mount
from protokube.agent.runtimes import podman
from protokube.agent.runtimes.podman import PodmanRuntime
from protokube.errors import ProviderError
from tests.agent.pods import UIDS, wanted


def container(**more: Any) -> dict[str, Any]:
    return {"name": "c", "image": "tools:1", "command": ["sh"], **more}


def refused(one: dict[str, Any], **spec: Any) -> str:
    return "\n".join(PodmanRuntime().refuse(wanted(containers=[one], **spec)))


class Calls:
    """Stands for podman: keeps its arguments, and the environment's file as it was."""

    def __init__(self) -> None:
        self.runs: list[Sequence[str]] = []
        self.env = ""

    async def run(self, argv: Sequence[str], limit: float) -> ExecResult:
        if argv[1] == "run":
            self.runs.append(argv)
            self.env = await asyncio.to_thread(Path(argv[argv.index("--env-file") + 1]).read_text)
        return ExecResult(0, b"")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()
    monkeypatch.setattr(podman, "run", calls.run)
    return calls


def start(
    image: str = "tools:1",
    *,
    env: Sequence[tuple[str, str]] = (),
    argv: Sequence[str] = (),
    mounts: Sequence[Mount] = (),
) -> None:
    pod = wanted(uid=UIDS[1], containers=[{"name": "c", "image": image, "args": list(argv)}])
    (one,) = spec_of(pod).containers
    spec = ContainerSpec(ContainerId(UIDS[1], "c", 0), pod, one, tuple(env), tuple(argv), tuple(mounts))
    asyncio.run(PodmanRuntime().start(spec))


def test_options_end_before_the_image(calls: Calls) -> None:
    start("--privileged", argv=["--volume=/:/host", "alpine", "id"])
    (argv,) = calls.runs
    assert argv[argv.index("--") + 1 :] == ["--privileged", "--volume=/:/host", "alpine", "id"]


def test_an_image_that_looks_like_an_option_is_refused() -> None:
    assert "image: a name was expected, got '--privileged'" in refused(container(image="--privileged"))


@pytest.mark.parametrize("letter", [",", '"', "\n", "\r"])
def test_a_path_that_splits_a_mount_is_refused(letter: str) -> None:
    volumes = [{"name": "v", "emptyDir": {}}]
    below = {"name": "v", "mountPath": "/e", "subPath": f"a{letter}src=/etc"}
    assert "volumeMounts: podman takes no path" in refused(container(volumeMounts=[below]), volumes=volumes)
    at = {"name": "v", "mountPath": f"/e{letter}src=/etc"}
    assert "volumeMounts: podman takes no path" in refused(container(volumeMounts=[at]), volumes=volumes)
    host = [{"name": "v", "hostPath": {"path": f"/a{letter}src=/etc"}}]
    assert "volume v: hostPath: podman takes no path" in refused(container(), volumes=host)
    assert refused(container(volumeMounts=[{"name": "v", "mountPath": "/e", "subPath": "a"}]), volumes=volumes) == ""


@pytest.mark.parametrize("mount", [Mount("/a,src=/etc", "/e"), Mount("/a", '/e"')])
def test_a_path_that_splits_a_mount_starts_nothing(calls: Calls, mount: Mount) -> None:
    with pytest.raises(ProviderError, match="podman takes no path"):
        start(mounts=[mount])
    assert calls.runs == []


def test_a_value_of_several_lines_starts_nothing(calls: Calls) -> None:
    """It comes from a secret or config map: the pod itself doesn't show it."""
    with pytest.raises(ProviderError, match=r"variable KEY: .*mount it as a file") as caught:
        start(env=[("A", "b"), ("KEY", "first\nLD_PRELOAD=/x")])
    assert calls.runs == [] and "first" not in str(caught.value)
    start(env=[("A", "b c")])
    assert calls.env == "A=b c\n"
