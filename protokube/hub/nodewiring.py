"""A node's program, put together: its link, its records, and what it does for each verb."""

from __future__ import annotations

import asyncio
import platform
import random
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from protokube.agent.clock import boot_time, wall_time
from protokube.agent.wiring import boot
from protokube.core.model import Unknown
from protokube.hub.auditfile import AuditFile
from protokube.hub.core.checks import Me, Order
from protokube.hub.core.course import Outcome
from protokube.hub.core.policy import Policy
from protokube.hub.handlers import End, Handler, Say
from protokube.hub.hubword import Notes
from protokube.hub.journal import Journal
from protokube.hub.keyring import Keyring
from protokube.hub.nodelink import NodeLink
from protokube.hub.runner import Clocks, Runner
from protokube.hub.session import Chances
from protokube.hub.verbs.changes import Changes
from protokube.hub.verbs.config import Config
from protokube.hub.verbs.manifests import Manifests
from protokube.hub.verbs.programs import Programs
from protokube.hub.verbs.reads import Reads, addresses
from protokube.hub.verbs.revisions import Revisions

PROTOKUBE_CONFIG = "/etc/protokube/config.yaml"
LAST = 5
"""Commands that a status tells of."""


class Place(Struct, frozen=True):
    """Where a node's files are: its keys and records, and protokube's configuration."""

    state: Path
    config: Path = Path(PROTOKUBE_CONFIG)


class Undoing(Struct, frozen=True):
    """What undoes itself, hub or no hub: holds, and a configuration on trial. It needs neither policy nor journal."""

    changes: Changes
    config: Config
    revisions: Revisions


def undoing(place: Place, programs: Programs, changed: Callable[[], None]) -> Undoing:
    """What undoes itself. `changed` hears of a hold's begin and end."""
    revisions = Revisions(place.state / "revisions", place.config, wall_time)
    changes = Changes(programs, place.state, boot(), boot_time, changed)
    return Undoing(changes, Config(programs, place.state, revisions, boot(), boot_time), revisions)


def node_link(
    place: Place,
    policy: Policy,
    programs: Programs,
    kept: Undoing,
    told: Callable[[str], None] = lambda _text: None,
) -> NodeLink:
    """The node's link with everything behind it. Raises ProviderError."""
    state = place.state
    changes, config, revisions = kept.changes, kept.config, kept.revisions
    journal = Journal(state / "journal.jsonl", wall_time)
    journal.load()
    audit = AuditFile(state / "audit.jsonl", wall_time)
    own = Keyring(state / "keys").load()
    # Without a certificate there is no link, and so no command.
    me = Me("", "") if own is None or isinstance(own, Unknown) else Me(own.hub.node, own.hub.authority)
    reads = Reads(programs)
    manifests = Manifests(Path(policy.manifests), state, wall_time) if policy.manifests is not None else None

    async def facts() -> Mapping[str, str]:
        trial = await asyncio.to_thread(config.trial)
        current = await asyncio.to_thread(revisions.current)
        on_trial = {} if trial is None else {"on trial": str(trial.revision)}
        pods = {} if manifests is None else {"manifests": await asyncio.to_thread(manifests.facts)}
        return {**await reads.facts(), "configuration": str(current), **on_trial, **pods}

    async def status(_order: Order, _say: Say, _limit: float) -> End:
        told = {"addresses": ", ".join(await asyncio.to_thread(addresses)), "last": ", ".join(journal.last(LAST))}
        return End(Outcome.OK, result={**await facts(), **told})

    async def rollback(order: Order, say: Say, limit: float) -> End:
        end = None if manifests is None else await manifests.rollback(order)
        return await config.rollback(order, say, limit) if end is None else end

    handlers: dict[str, Handler] = {
        "status": status,
        "plan": reads.plan,
        "pods": reads.pods,
        "logs": reads.logs,
        "sync": changes.sync,
        "hold": changes.hold,
        "release": changes.release,
        "config.list": config.list,
        "config.get": config.get,
        "config.put": config.put,
        "config.confirm": config.confirm,
        "rollback": rollback,
    }
    if manifests is not None:
        handlers |= {"manifest.put": manifests.put, "manifest.remove": manifests.remove}

    def runner(link: NodeLink) -> Runner:
        clocks, undo = Clocks(wall_time, link.hub_time), dict.fromkeys(("config.put", "rollback"), config.abandon)
        return Runner(me, policy, journal, audit, handlers, facts, clocks, undo)

    def about() -> Mapping[str, object]:
        facts = {"os": platform.platform(), "host": platform.node()}
        return {"boot_id": boot(), "policy": policy.mode, "facts": facts, "held": changes.held() is not None}

    chances = Chances(boot_time, random.random)
    return NodeLink(Keyring(state / "keys"), Notes(state / "heard.json"), runner, chances, about, told)
