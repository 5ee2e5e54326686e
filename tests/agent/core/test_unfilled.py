"""Pods as others may see them."""

from __future__ import annotations

from typing import Any

from protokube.agent.core.apipods import api_pod
from protokube.agent.core.model import Pod
from protokube.agent.core.unfilled import unfilled
from tests.agent.pods import UIDS, manifest, wanted

ASKED = [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}}]
FILLED = [{"name": "PASSWORD", "value": "hidden"}]


def of_api(env: list[dict[str, Any]], **more: Any) -> Pod:
    containers = [{"name": "c", "image": "host", "env": env, "args": ["x"]}]
    pod = manifest(containers=containers, initContainers=containers)
    pod["metadata"]["uid"] = UIDS[1]
    return {**api_pod(pod), **more}


def test_a_running_pod_is_shown_as_its_api_server_has_it() -> None:
    status = {"phase": "Running"}
    assert unfilled(of_api(FILLED, status=status), of_api(ASKED)) == {
        **of_api(FILLED),
        "spec": of_api(ASKED)["spec"],
        "status": status,
    }


def test_where_that_isn_t_known_variables_have_names_alone() -> None:
    seen = unfilled(of_api(FILLED), None)
    (container,) = seen["spec"]["containers"]
    assert container == {"name": "c", "image": "host", "env": [{"name": "PASSWORD"}], "args": ["x"]}
    assert "hidden" not in str(seen)


def test_a_pod_of_a_file_is_shown_as_it_runs() -> None:
    pod = wanted(containers=[{"name": "c", "image": "host", "env": FILLED}])
    assert unfilled(pod, None) == pod == unfilled(pod, wanted())
