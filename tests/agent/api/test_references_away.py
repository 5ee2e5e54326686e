"""References while the API server is away, or refuses: only the former lets a container start with what it had."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from protokube.agent.core.model import spec_of
from protokube.agent.http.kube import KubeClient
from protokube.agent.ports import UnreachableError, UnresolvedError
from protokube.agent.references import References
from protokube.errors import ProviderError
from protokube.kubeapi.http import KubeError
from tests.agent.pods import wanted

AWAY = [
    ProviderError("no route"),
    KubeError(503, "ServiceUnavailable", "it starts"),
    KubeError(401, "Unauthorized", "who?"),
]


class Answers:
    """An API server's client that gives what it is told to."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def get(self, path: str) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def resolved(answers: Answers) -> Any:
    secret = {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "p"}}}
    pod = wanted(owner="api", containers=[{"name": "c", "image": "host", "env": [secret]}])
    spec = spec_of(pod)
    found = References(cast("KubeClient", answers))
    return lambda: asyncio.run(found.resolve(pod, spec, spec.containers[0]))


@pytest.mark.parametrize("error", AWAY, ids=lambda one: type(one).__name__ + str(getattr(one, "status", "")))
def test_who_is_away_says_nothing(error: Exception) -> None:
    answers = Answers(error)
    resolve = resolved(answers)
    with pytest.raises(UnreachableError):
        resolve()
    answers.answer = {"data": {"p": "eA=="}}
    assert resolve().given.values == {"P": "x"}
    answers.answer = error
    assert resolve().given.values == {"P": "x"}, "what was had last"


@pytest.mark.parametrize("answer", [None, KubeError(403, "Forbidden", "no"), {"data": {}}])
def test_who_refuses_is_believed(answer: Any) -> None:
    with pytest.raises(UnresolvedError) as caught:
        resolved(Answers(answer))()
    assert not isinstance(caught.value, UnreachableError)
