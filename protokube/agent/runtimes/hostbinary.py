"""What the runtimes without images share: containers are programs of the machine itself."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

from protokube.agent.core.lifecycle import ContainerId
from protokube.agent.core.model import Container, Json, Pod, Spec, spec_of
from protokube.agent.ports import ContainerSpec
from protokube.agent.runtimes.commands import PATH
from protokube.errors import ProviderError

_NAME = re.compile(
    r"protokube-(?P<uid>[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-(?P<name>[a-z0-9-]+)-(?P<attempt>\d+)"
)
_SECURITY = ("privileged", "runAsUser", "runAsGroup")
"""What is obeyed of a security context; anything else would run with more rights than it asked for."""


def parse_id(name: str) -> ContainerId | None:
    """The container that a name of ours means."""
    match = _NAME.fullmatch(name)
    return ContainerId(match["uid"], match["name"], int(match["attempt"])) if match else None


def refusals(pod: Pod) -> Iterator[str]:
    """Why a pod can't run from the machine's own programs."""
    spec = spec_of(pod)
    if not spec.host_network:
        yield "spec.hostNetwork: true was expected: there is only the host's network here"
    yield from security_refusals(pod)
    for one in spec.all_containers():
        if one.image != "host" and not one.image.startswith(("/", "host:")):
            yield (
                f"container {one.name}: image {one.image!r}: no images run here; "
                "'host' or a program's absolute path was expected"
            )
        elif not one.image.startswith("/") and not (*one.command, *one.args):
            yield f"container {one.name}: command: it is missing"


def security_refusals(pod: Pod) -> Iterator[str]:
    """What of the pod's security contexts can't be kept."""
    yield from _security(pod["spec"].get("securityContext") or {}, "spec.securityContext")
    for one in spec_of(pod).all_containers():
        yield from _security(one.security_context, f"container {one.name}: securityContext")


def _security(context: Json, place: str) -> Iterator[str]:
    for field, value in context.items():
        if field not in _SECURITY and value not in (None, {}, []):
            yield f"{place}.{field}: it can't be kept here"


def user_of(pod: Pod, container: Container, field: str) -> str | None:
    """The user or group that the container runs as, None for root."""
    for context in (container.security_context, pod["spec"].get("securityContext") or {}):
        if context.get(field) is not None:
            return str(context[field])
    return None


def program(spec: ContainerSpec) -> tuple[str, tuple[str, ...]]:
    """The program's absolute path and its whole argument vector. Raises ProviderError when it isn't installed."""
    image = spec.container.image
    argv = spec.argv if spec.container.command or not image.startswith("/") else (image, *spec.argv)
    path = shutil.which(argv[0], path=dict(spec.env).get("PATH", PATH))
    if path is None or not path.startswith("/"):
        raise ProviderError(f"{argv[0]}: no such program on this machine; install it, or give its absolute path")
    return path, argv


def grace_of_spec(spec: Spec) -> int:
    """Seconds that a container has for its end, at least one."""
    return max(1, spec.termination_grace_period_seconds)
