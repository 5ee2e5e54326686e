"""Containers by podman's command line, one each: no pods, and never `kube play`.

`kube play` refuses hostNetwork beside ports, ignores the time-outs of probes, and runs init containers again for ever
(podman#18547). Restarts and health are ours; podman only runs what it is told to, and conmon keeps it when we end.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from protokube.agent.core.lifecycle import EXITED, RUNNING, ContainerId, ContainerState
from protokube.agent.core.model import Container, Json, Pod, spec_of
from protokube.agent.core.quantity import quantity
from protokube.agent.ports import ContainerSpec, ExecResult, LogOptions, Mount
from protokube.agent.runtimes.commands import follow, run
from protokube.errors import ProviderError

PODMAN = "/usr/bin/podman"
LIMIT = 60.0
"""Seconds for a call that needs no registry."""
PULL_LIMIT = 600.0
_LABEL = "protokube.uid"
_NEVER_RAN = ("created", "configured", "initialized")
_SECURITY = ("privileged", "runAsUser", "runAsGroup", "readOnlyRootFilesystem", "capabilities")
_EVENTS = ("start", "died", "remove")
_KILLED = 137
_WHOLE = "podman takes no path with a comma, a quote or a line break"


class PodmanRuntime:
    """podman on this machine."""

    name = "podman"

    def refuse(self, pod: Pod) -> Sequence[str]:
        """What podman can't run as the pod says."""
        return list(_refusals(pod))

    async def open(self) -> None:
        """Remove what a killed agent, or a reboot, has left created: nothing of it ever ran in this boot."""
        for one in await self._list():
            if one["State"] in _NEVER_RAN:
                await self._podman("rm", "--force", str(one["Id"]))

    async def close(self) -> None:
        """Let go."""

    async def start(self, spec: ContainerSpec) -> None:
        """Create and start a container in one go, pulling its image by its policy."""
        known = {name for one in await self._list() for name in one["Names"]}
        if str(spec.id) in known:
            return
        options, arguments = _arguments(spec)
        for name, value in spec.env:
            if "\n" in name + value:  # the rest of the value would become variables of its own
                raise ProviderError(f"variable {name}: podman takes no value of several lines; mount it as a file")
        # A file, not arguments: everybody may read those. podman has read it when it returns.
        with tempfile.NamedTemporaryFile("w", prefix="protokube-env-", dir="/run") as env:
            env.writelines(f"{name}={value}\n" for name, value in spec.env)
            env.flush()
            done = await run(
                [PODMAN, "run", "--detach", "--env-file", env.name, *options, "--", *arguments], PULL_LIMIT
            )
        if done.code:
            # What is left of it never ran: the next try needs its name.
            await run([PODMAN, "rm", "--force", "--ignore", str(spec.id)], LIMIT)
            raise ProviderError(f"podman run {spec.container.image}: exit code {done.code}: {_said(done)}")

    async def stop(self, ref: ContainerId, grace: float) -> None:
        """TERM, and KILL when the grace is over; returns at the end."""
        await self._podman("stop", "--ignore", "--time", str(max(1, round(grace))), str(ref), limit=grace + LIMIT)

    async def kill(self, ref: ContainerId) -> None:
        """KILL the container."""
        if any(one.id == ref and one.up for one in await self.containers()):
            await self._podman("kill", "--signal", "KILL", str(ref))

    async def remove(self, ref: ContainerId) -> None:
        """Remove the ended container with its files."""
        await self._podman("rm", "--ignore", "--volumes", str(ref))

    async def containers(self) -> Sequence[ContainerState]:
        """Every container of ours that ever ran."""
        return [_state(one) for one in await self._list() if one["State"] not in _NEVER_RAN]

    async def exec(self, ref: ContainerId, argv: Sequence[str], limit: float) -> ExecResult:
        """`podman exec`; the limit is ours."""
        return await run([PODMAN, "exec", str(ref), *argv], limit)

    async def logs(self, ref: ContainerId, options: LogOptions) -> AsyncIterator[bytes]:
        """`podman logs`."""
        tail = [] if options.tail is None else ["--tail", str(options.tail)]
        async for part in follow([PODMAN, "logs", *tail, *(["--follow"] if options.follow else []), str(ref)]):
            yield part

    async def changes(self) -> AsyncIterator[str | None]:
        """Yield with every start and end of a container of ours."""
        filters = [f"--filter=event={one}" for one in _EVENTS]
        async for _ in follow([PODMAN, "events", f"--filter=label={_LABEL}", *filters, "--format={{.Status}}"]):
            yield None
        raise ProviderError("podman events: it ended")

    async def _list(self) -> list[Json]:
        text = await self._podman("ps", "--all", f"--filter=label={_LABEL}", "--format=json")
        try:
            listed: list[Json] = json.loads(text or "[]")
        except ValueError as error:
            raise ProviderError(f"podman ps: no JSON: {error}") from error
        return listed

    async def _podman(self, *argv: str, limit: float = LIMIT) -> str:
        done = await run([PODMAN, *argv], limit)
        if done.code:
            raise ProviderError(f"podman {argv[0]}: exit code {done.code}: {_said(done)}")
        return await asyncio.to_thread(done.output.decode, errors="replace")


def _refusals(pod: Pod) -> Iterator[str]:
    spec = spec_of(pod)
    every = spec.all_containers()
    if not spec.host_network and len(every) > 1:
        yield "spec.hostNetwork: several containers share a network only with true"
    if pod["spec"].get("securityContext"):
        yield "spec.securityContext: it can't be kept here; set it on the containers"
    for volume in spec.volumes:
        if volume.host_path is not None and _splits(volume.host_path.path):
            yield f"volume {volume.name}: hostPath: {_WHOLE}"
    for one in every:
        if one.image.startswith("-"):
            yield f"container {one.name}: image: a name was expected, got {one.image!r}"
        for field in one.security_context:
            if field not in _SECURITY:
                yield f"container {one.name}: securityContext.{field}: it can't be kept here"
        if any("\n" in variable.value for variable in one.env):
            yield f"container {one.name}: env: podman takes no value of several lines"
        if any(_splits(mount.mount_path + mount.sub_path) for mount in one.volume_mounts):
            yield f"container {one.name}: volumeMounts: {_WHOLE}"


def _arguments(spec: ContainerSpec) -> tuple[list[str], list[str]]:
    """podman's options, and the image with its arguments. Raises ProviderError."""
    pod, container, ref = spec.pod, spec.container, spec.id
    options = ["--name", str(ref), "--restart", "no", "--pull", _pull(container)]
    labels = {_LABEL: ref.uid, "protokube.container": ref.container, "protokube.attempt": str(ref.attempt)}
    labels["protokube.pod"] = f"{pod['metadata'].get('namespace', 'default')}/{pod['metadata']['name']}"
    for name, value in labels.items():
        options += ["--label", f"{name}={value}"]
    whole = spec_of(pod)
    options += ["--stop-timeout", str(max(1, whole.termination_grace_period_seconds))]
    if whole.host_network:
        options += ["--network", "host"]
    else:
        for port in container.ports:
            if port.host_port:
                options += ["--publish", f"{port.host_port}:{port.container_port}/{port.protocol.lower()}"]
    for mount in spec.mounts:
        options += ["--mount", _bind(mount)]
    for name, flag in (("cpu", "--cpus"), ("memory", "--memory")):
        limit = quantity(container.resources.limits.get(name, ""))
        if limit:
            options += [flag, f"{float(limit):.3f}" if name == "cpu" else str(int(limit))]
    if container.working_dir:
        options += ["--workdir", container.working_dir]
    options += _security(container)
    command = len(container.command)
    if command:
        options += ["--entrypoint", json.dumps(list(spec.argv[:command]))]
    return options, [container.image, *spec.argv[command:]]


def _bind(mount: Mount) -> str:
    """The value of `--mount`, separated by commas. Raises ProviderError for a path that would split it."""
    for path in (mount.source, mount.target):
        if _splits(path):
            raise ProviderError(f"mount {path!r}: {_WHOLE}")
    return f"type=bind,source={mount.source},target={mount.target}" + (",ro" * mount.read_only)


def _splits(path: str) -> bool:
    """Whether podman would read a part of the path as options of the mount."""
    return any(one in path for one in ',"\r\n')


def _security(container: Container) -> Iterator[str]:
    context = container.security_context
    if context.get("runAsUser") is not None:
        group = context.get("runAsGroup")
        yield f"--user={context['runAsUser']}" + (f":{group}" if group is not None else "")
    if context.get("privileged"):
        yield "--privileged"
    if context.get("readOnlyRootFilesystem"):
        yield "--read-only"
    for field, flag in (("add", "--cap-add"), ("drop", "--cap-drop")):
        for one in (context.get("capabilities") or {}).get(field, []):
            yield f"{flag}={one}"


def _pull(container: Container) -> str:
    """When the image is pulled, as in Kubernetes: without a tag, and with `latest`, always."""
    tag = os.path.basename(container.image).partition(":")[2]  # noqa: PTH119 - a name with slashes, not a path
    usual = "IfNotPresent" if tag not in ("", "latest") or "@" in container.image else "Always"
    return {"Always": "always", "Never": "never"}.get(container.image_pull_policy or usual, "missing")


def _state(one: Json) -> ContainerState:
    labels: dict[str, Any] = one["Labels"]
    ref = ContainerId(labels[_LABEL], labels["protokube.container"], int(labels["protokube.attempt"]))
    handle = f"podman://{one['Id']}"
    started = float(one.get("StartedAt") or 0) or None
    if one["State"] not in ("exited", "stopped", "dead", "removing"):
        return ContainerState(ref, RUNNING, started, handle=handle)
    code = int(one.get("ExitCode") or 0)
    ended = float(one.get("ExitedAt") or 0)
    return ContainerState(
        ref, EXITED, started, ended if ended > 0 else None, code, signal=9 if code == _KILLED else None, handle=handle
    )


def _said(done: ExecResult) -> str:
    return " ".join(done.output[-500:].decode(errors="replace").split())
