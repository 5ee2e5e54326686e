"""Commands for tests."""

from __future__ import annotations

import json
from typing import Any

from protokube.hub.core.checks import Body, Me, Mode, Order, Refusal, Situation, Unsigned, judge, read_body
from protokube.hub.core.messages import Event
from protokube.hub.core.verbs import VERBS

ID = "0d6e0c5e-3a3c-4d3f-9f39-3f0a4a4e9d10"
OTHER = "11111111-3a3c-4d3f-9f39-3f0a4a4e9d10"

EXAMPLES: dict[str, dict[str, Any]] = {
    "status": {},
    "plan": {},
    "logs": {"unit": "protokube", "lines": 5},
    "pods": {},
    "config.list": {},
    "config.get": {"revision": 3},
    "sync": {},
    "hold": {"reason": "disk swap", "minutes": 30},
    "release": {},
    "config.put": {"text": "a: 1\n", "base": 3, "confirm_within": 60},
    "config.confirm": {"command": OTHER},
    "rollback": {"revision": 2},
    "manifest.put": {"name": "web", "text": "kind: Pod\n"},
    "manifest.remove": {"name": "web"},
}
"""Arguments that are right, by verb."""


HUB = "h" * 43
"""The pin of node-a's hub."""


def body(verb: str = "plan", **changed: Any) -> str:
    """A command's text, issued at 1000 for node-a."""
    made = {"id": ID, "nodes": ["node-a"], "verb": verb, "args": EXAMPLES.get(verb, {}), "issued": 1000.0}
    return json.dumps(made | {"deadline": 1600.0, "hub": HUB} | changed)


def situation(**changed: Any) -> Situation:
    """node-a at 1001, able to do everything, open to what the hub says."""
    known: dict[str, Any] = {"me": Me("node-a", HUB), "now": 1001.0, "able": frozenset(VERBS), "mode": Mode.HUB}
    return Situation(**{"signer": Unsigned("it is unsigned"), **known, **changed})


def judged(text: str, **changed: Any) -> Order | Refusal:
    """What a node makes of a command."""
    read = read_body(text)
    return judge(read, text, situation(**changed)) if isinstance(read, Body) else read


def event(seq: int, kind: Any, **data: Any) -> Event:
    """An event of the command."""
    return Event(ID, seq, kind, 1000.0 + seq, data)
