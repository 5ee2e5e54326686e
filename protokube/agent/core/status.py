"""A pod's status from its containers, as kubelet writes it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from msgspec import Struct

from protokube.agent.core.lifecycle import EXITED, RUNNING, ContainerState, Life, failure, initialized, is_over
from protokube.agent.core.model import Container, Json, Pod, PodStatus, Spec

LOST_CODE = 137


class Seen(Struct, frozen=True):
    """What a status is made of besides the pod's life.

    `started_at` and `now`: seconds since the epoch. `waiting`: container → reason and message. `last`: the attempt
    before the latest one. `attempts`: how often each was started before.
    """

    started_at: float
    now: float
    host_ip: str = ""
    waiting: Mapping[str, tuple[str, str]] = {}
    last: Mapping[str, ContainerState] = {}
    attempts: Mapping[str, int] = {}
    failed: str | None = None


def time_text(seconds: float) -> str:
    """A time as Kubernetes writes it."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod_status(life: Life, seen: Seen, before: PodStatus | None = None) -> PodStatus:
    """The pod's status. `before` is the last one: conditions keep their times while they hold."""
    spec = life.spec
    phase, reason = phase_of(life, seen.failed)
    ready = phase == "Running" and all(_is_ready(life, one) for one in spec.containers)
    conditions = {
        "PodScheduled": True,
        "Initialized": initialized(life),
        "ContainersReady": ready,
        "Ready": ready,
    }
    status: PodStatus = {
        "phase": phase,
        "conditions": _conditions(conditions, seen.now, before, ended=phase in ("Succeeded", "Failed")),
        "startTime": time_text(seen.started_at),
        "qosClass": qos_class(spec),
    }
    if reason:
        status["reason"] = reason
    if seen.host_ip:
        status |= {"hostIP": seen.host_ip, "podIP": seen.host_ip, "podIPs": [{"ip": seen.host_ip}]}
    for field, containers in (
        ("initContainerStatuses", spec.init_containers),
        ("containerStatuses", spec.containers),
    ):
        if containers:
            status[field] = [_container(life, seen, one) for one in containers]
    return status


def phase_of(life: Life, failed: str | None = None) -> tuple[str, str]:
    """The phase, and a reason where the pod has failed as a whole."""
    if failed := failed or failure(life):
        return "Failed", failed
    main = life.spec.containers
    if is_over(life):
        good = all((state := life.containers.get(one.name)) is not None and state.succeeded for one in main)
        return ("Succeeded" if good else "Failed"), ""
    begun = life.begun or all(one.name in life.containers for one in main)
    return ("Running" if begun else "Pending"), ""


def synthesized(pod: Pod, phase: str, reason: str, message: str, before: PodStatus | None = None) -> Pod:
    """The pod with a status that no provider gave: it waits, was refused, or was lost."""
    status: PodStatus = {**(before or {}), "phase": phase, "reason": reason, "message": message}
    containers = (pod.get("spec") or {}).get("containers") or []
    if phase == "Failed" and reason == "NotFound":
        ended = {"exitCode": LOST_CODE, "reason": "NotFound", "message": message}
        state: Json = {"terminated": ended}
    else:
        state = {"waiting": {"reason": reason, "message": message}}
    status["containerStatuses"] = [
        {"name": one.get("name"), "image": one.get("image", ""), "ready": False, "restartCount": 0, "state": state}
        for one in containers
    ]
    return {**pod, "status": status}


def qos_class(spec: Spec) -> str:
    """Guaranteed, Burstable or BestEffort, by cpu and memory."""
    guaranteed, any_set = True, False
    for one in spec.all_containers():
        requests, limits = one.resources.requests, one.resources.limits
        for name in ("cpu", "memory"):
            any_set = any_set or name in requests or name in limits
            if name not in limits or requests.get(name, limits[name]) != limits[name]:
                guaranteed = False
    if guaranteed:
        return "Guaranteed"
    return "Burstable" if any_set else "BestEffort"


def _is_ready(life: Life, one: Container) -> bool:
    state = life.containers.get(one.name)
    return state is not None and state.state == RUNNING and life.verdict(one.name).ready


def _conditions(wanted: Mapping[str, bool], now: float, before: PodStatus | None, *, ended: bool) -> list[Json]:
    earlier = {one["type"]: one for one in (before or {}).get("conditions", [])}
    made = []
    for kind, holds in wanted.items():
        text = "True" if holds else "False"
        known = earlier.get(kind)
        since = known["lastTransitionTime"] if known and known["status"] == text else time_text(now)
        condition = {"type": kind, "status": text, "lastTransitionTime": since}
        if not holds and kind in ("Ready", "ContainersReady"):
            condition["reason"] = "PodCompleted" if ended else "ContainersNotReady"
        made.append(condition)
    return made


def _container(life: Life, seen: Seen, one: Container) -> Json:
    state = life.containers.get(one.name)
    running = state is not None and state.state == RUNNING
    verdict = life.verdict(one.name)
    finished_init = one in life.spec.init_containers and not one.sidecar
    made: Json = {
        "name": one.name,
        "image": one.image,
        "imageID": "",
        "ready": (state is not None and state.succeeded) if finished_init else running and verdict.ready,
        "started": running and verdict.started,
        "restartCount": seen.attempts.get(one.name, 0),
        "state": _state(life, seen, one, state),
    }
    if state is not None and state.handle:
        made["containerID"] = state.handle
    waits = "waiting" in made["state"]
    last = state if waits and state is not None and state.state == EXITED else seen.last.get(one.name)
    if last is not None:
        made["lastState"] = {"terminated": _terminated(last)}
    return made


def _state(life: Life, seen: Seen, one: Container, state: ContainerState | None) -> Json:
    pause = life.pauses.get(one.name)
    waits = one.name in seen.waiting
    if state is not None and state.state == RUNNING:
        return {"running": {"startedAt": time_text(state.started_at or seen.now)}}
    if waits:
        reason, message = seen.waiting[one.name]
        return {"waiting": {"reason": reason, "message": message}}
    if state is not None and state.state == EXITED:
        if pause is not None and life.now < pause.until and life.ending is None and not is_over(life):
            return {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}}
        return {"terminated": _terminated(state)}
    waiting = "PodInitializing" if life.spec.init_containers and not initialized(life) else "ContainerCreating"
    return {"waiting": {"reason": waiting}}


def _terminated(state: ContainerState) -> Json:
    code = LOST_CODE if state.exit_code is None else state.exit_code
    reason = "OOMKilled" if state.oom else "Completed" if code == 0 else "Error"
    made: Json = {"exitCode": code, "reason": state.message or reason}
    if state.signal:
        made["signal"] = state.signal
    for field, value in (("startedAt", state.started_at), ("finishedAt", state.finished_at)):
        if value is not None:
            made[field] = time_text(value)
    return made
