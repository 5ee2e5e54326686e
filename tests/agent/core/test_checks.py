"""What of a spec is refused whoever wants the pod: text that no program can be given."""

from __future__ import annotations

from typing import Any

import pytest

from protokube.agent.core.checks import faults_of_spec

C = {"name": "c", "image": "host", "command": ["x"]}


@pytest.mark.parametrize("letter", ["\0", "\ud800"])
@pytest.mark.parametrize("api", [False, True])
def test_text_that_no_system_call_takes_is_refused(letter: str, *, api: bool) -> None:
    text = f"a{letter}b"

    def faults(spec: dict[str, Any]) -> str:
        return "\n".join(faults_of_spec({"containers": [C], **spec}, api=api))

    expected = "text without zero bytes and lone surrogates was expected"
    assert f"spec.containers[0].args[1]: {expected}" in faults({"containers": [{**C, "args": ["x", text]}]})
    assert f"spec.containers[0].image: {expected}" in faults({"containers": [{**C, "image": text}]})
    assert f"a key of spec.nodeSelector: {expected}" in faults({"nodeSelector": {text: "x"}})
    items = [{"key": "k", "path": text}]
    volumes = [{"name": "v", "configMap": {"name": "m", "items": items}}]
    assert f"spec.volumes[0].configMap.items[0].path: {expected}" in faults({"volumes": volumes})
    assert faults({}) == ""


def test_a_sub_path_of_variables_is_refused() -> None:
    """Ignored, the container would see the whole volume."""
    mount = {"name": "v", "mountPath": "/m", "subPathExpr": "$(NAME)"}
    spec = {"containers": [{**C, "volumeMounts": [mount]}], "volumes": [{"name": "v", "emptyDir": {}}]}
    (fault,) = faults_of_spec(spec)
    assert fault.startswith("spec.containers[0].volumeMounts[0].subPathExpr: ") and "use subPath" in fault
