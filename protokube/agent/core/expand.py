"""The whole environment and argument vector of a container: fields of the pod, and `$(NAME)` as Kubernetes has it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from protokube.agent.core.model import Container, Pod

_REFERENCE = re.compile(r"\$(\$|\(([^()$]+)\))")
_KEYED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class Given(Struct, frozen=True):
    """Values from elsewhere: variables that come before the container's own, and values of its own by name.

    None: that one may be missing, and is.
    """

    first: Mapping[str, str] = {}
    values: Mapping[str, str | None] = {}


NOTHING = Given()


def environment(pod: Pod, container: Container, host_ip: str, given: Given = NOTHING) -> tuple[tuple[str, str], ...]:
    """The variables in their order, each expanded by those before it; those from elsewhere expand nothing."""
    values: dict[str, str] = {}
    for variable in container.env:
        if variable.name in given.values:
            value = given.values[variable.name]
            if value is not None:
                values[variable.name] = value
        elif variable.value_from is not None and variable.value_from.field_ref is not None:
            values[variable.name] = field(pod, variable.value_from.field_ref.field_path, host_ip)
        else:
            values[variable.name] = expand(variable.value, values)
    return tuple({**given.first, **values}.items())


def arguments(container: Container, env: Mapping[str, str]) -> tuple[str, ...]:
    """Command and arguments, expanded."""
    return tuple(expand(one, env) for one in (*container.command, *container.args))


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace `$(NAME)`; `$$` is a dollar, and an unknown name stays as it is written."""

    def replaced(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return values.get(match[2], match[0])

    return _REFERENCE.sub(replaced, text)


def field(pod: Pod, path: str, host_ip: str) -> str:
    """A field of the pod, as the downward API names it; empty when the pod has none."""
    if (keyed := _KEYED.fullmatch(path)) is not None:
        return str((pod["metadata"].get(keyed[1]) or {}).get(keyed[2], ""))
    if path in ("status.hostIP", "status.podIP", "status.hostIPs", "status.podIPs"):
        return host_ip
    value: object = pod
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)
