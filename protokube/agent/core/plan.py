"""What is done about one pod: the rules 1 to 11 of docs/agent.md.

Every judgement is about one UID, so that a change costs one pod's work. Its own source alone removes a pod: while
that one is Unknown, nothing of it is created or removed, whatever the others say (kubernetes#112814, #88402).
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from protokube.agent.core.backoff import Pause
from protokube.agent.core.equal import Difference, difference
from protokube.agent.core.model import Pod
from protokube.agent.core.pods import (
    API,
    CONTENT,
    TERMINAL,
    annotation,
    grace_of,
    is_deleting,
    owner_of,
    phase_of,
    source_name,
)


class Memory(Struct, frozen=True):
    """What the loop remembers of a pod. Losing it costs a try too many, never another end.

    `refused`: the reasons why the provider will never run this content. `replacing`: the provider can't change it in
    place. `removal`: the grace that was asked for, in seconds. `seen`: the provider had it once.
    `finished`: its end was reported. `deleted`: its deletion was confirmed as well. `again`: we ended it to create it
    anew: nobody lost it.
    """

    pause: Pause = Pause()
    error: str | None = None
    refused: tuple[str, ...] = ()
    content: str | None = None
    replacing: bool = False
    removal: int | None = None
    seen: bool = False
    finished: bool = False
    deleted: bool = False
    again: bool = False


class View(Struct, frozen=True):
    """The facts about one UID.

    `heard`: the owner's source has spoken and knows its pods. `configured`: there is such a source. `rivals`: what
    other pods of the same namespace and name do, in words; none may run beside this one.
    """

    wanted: Pod | None
    running: Pod | None
    heard: bool = True
    configured: bool = True
    rivals: tuple[str, ...] = ()


class Create(Struct, frozen=True):
    """Have the provider create the pod."""

    pod: Pod


class Update(Struct, frozen=True):
    """Have the provider change the pod in place."""

    pod: Pod


class Delete(Struct, frozen=True):
    """Have the provider end the pod within `grace` seconds."""

    pod: Pod
    grace: int
    reason: str


class Finish(Struct, frozen=True):
    """Report the pod's last status, then that it is gone: the provider has it no more."""

    pod: Pod


class Wait(Struct, frozen=True):
    """Do nothing yet. `until` in boot time; None: something else will wake us."""

    reason: str
    until: float | None = None


class Nothing(Struct, frozen=True):
    """The pod is as it should be, or none of our business. `reason` says why it is left alone."""

    reason: str = ""


Step = Create | Update | Delete | Finish | Wait | Nothing


def plan(view: View, memory: Memory, now: float) -> Step:
    """Decide the next step for one UID."""
    if view.running is not None:
        return _running(view, view.running, memory, now)
    wanted = view.wanted
    if wanted is None:
        return Nothing()
    if memory.finished and (memory.deleted or not is_deleting(wanted)):
        return Nothing("it has ended")
    if is_deleting(wanted) or _is_lost(wanted, memory):
        if now < memory.pause.until:
            return Wait(memory.error or "its end couldn't be reported", memory.pause.until)
        return Finish(wanted)
    if phase_of(wanted) in TERMINAL:  # an API pod that has ended; nothing restarts it
        return Nothing("it has ended")
    if not view.heard:
        return Nothing("its source is unknown")
    if memory.refused and memory.content == content_of(wanted):
        return Nothing("the provider refuses it")
    if view.rivals:
        return Wait("; ".join(view.rivals))
    if now < memory.pause.until:
        return Wait(memory.error or "it was tried in vain", memory.pause.until)
    return Create(wanted)


def _running(view: View, running: Pod, memory: Memory, now: float) -> Step:
    owner = owner_of(running)
    if owner is None:
        return Nothing("nobody here owns it")
    if not view.configured:
        return Nothing(f"source {source_name(owner)} isn't configured; --forget-source removes its pods")
    if not view.heard:
        return Nothing("its source is unknown")
    wanted = view.wanted
    if wanted is None:
        return _delete(running, running, memory, now, "its source wants it no more")
    if is_deleting(wanted):
        return _delete(running, wanted, memory, now, "it is deleted at its source")
    if is_deleting(running) or memory.removal is not None:
        return Wait("it is ending; then it starts again")
    differs = difference(wanted, running)
    if differs is Difference.NONE:
        return Nothing()
    ended = phase_of(running) in TERMINAL
    if ended and owner_of(wanted) == API:
        return Nothing("it has ended")
    if ended or differs is Difference.REPLACE or (memory.replacing and memory.content == content_of(wanted)):
        return _delete(running, running, memory, now, "its content changed")
    if now < memory.pause.until:
        return Wait(memory.error or "it was tried in vain", memory.pause.until)
    return Update(wanted)


def _delete(running: Pod, asking: Pod, memory: Memory, now: float, reason: str) -> Step:
    """A grace that comes later shortens, and never lengthens."""
    grace = grace_of(asking)
    asked = memory.removal
    if asked is None and is_deleting(running):
        asked = running["metadata"].get("deletionGracePeriodSeconds")
    if asked is not None and grace >= asked:
        return Wait("it is ending")
    if memory.error is not None and now < memory.pause.until:
        return Wait(memory.error, memory.pause.until)
    return Delete(running, grace, reason)


def _is_lost(wanted: Pod, memory: Memory) -> bool:
    """An API pod that ran and that the provider has no more has ended; others are created again.

    It ran also when the API server says so and this agent has never seen it: an earlier one has.
    """
    if owner_of(wanted) != API or memory.again:
        return False
    return (memory.seen or phase_of(wanted) == "Running") and phase_of(wanted) not in TERMINAL


def content_of(pod: Pod) -> str:
    """What a refusal is remembered for: it ends when the content changes."""
    return annotation(pod, CONTENT) or str(pod["metadata"].get("resourceVersion", ""))


def rivals_of(uid: str, namesakes: Mapping[str, tuple[bool, bool]], order: Mapping[str, int]) -> tuple[str, ...]:
    """The pods that keep `uid` from being created, in words.

    `namesakes`: UID → whether it runs and whether it is wanted, of every pod with this name, `uid` included. `order`:
    the precedence of the wanted ones; the lowest runs.
    """
    running = [other for other, (runs, _) in namesakes.items() if runs and other != uid]
    if running:
        return tuple(f"pod {other} of the same name still runs" for other in sorted(running))
    first = min(
        (other for other, (_, wanted) in namesakes.items() if wanted), key=lambda other: (order[other], other)
    )
    return () if first == uid else (f"pod {first} has the same name and comes first",)
