"""The verbs: what a node can be asked for, with their arguments. There is no shell among them, and no file read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from protokube.core.model import KIB, Fault

UNITS = ("protokube", "kubelet", "virtual-kubelet", "nokubelet")
LARGEST_CONFIG = 64 * KIB
LARGEST_MANIFEST = 64 * KIB

Reason = Annotated[str, Meta(min_length=1, max_length=200)]
Revision = Annotated[int, Meta(ge=1, lt=1 << 53)]
ManifestName = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?$")]
CommandId = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


class Arguments(Struct, frozen=True, forbid_unknown_fields=True):
    """A verb's arguments: an unknown one is a fault, since it may have been meant to change what is done."""


class Nothing(Arguments, frozen=True):
    """No arguments."""


class Logs(Arguments, frozen=True):
    """The journal of one unit: its last lines, of the last `since` seconds, then followed for `follow` seconds."""

    unit: Literal["protokube", "kubelet", "virtual-kubelet", "nokubelet"]
    lines: Annotated[int, Meta(ge=0, le=5000)] = 200
    since: Annotated[int, Meta(ge=1, le=30 * 86400)] | None = None
    follow: Annotated[int, Meta(ge=0, le=600)] = 0


class Hold(Arguments, frozen=True):
    """protokube stands still, for so many minutes at most."""

    reason: Reason
    minutes: Annotated[int, Meta(ge=1, le=1440)]


class ConfigGet(Arguments, frozen=True):
    """One revision; without a number the current one."""

    revision: Revision | None = None


class ConfigPut(Arguments, frozen=True):
    """A new configuration in place of revision `base`. It is undone unless confirmed within so many seconds."""

    text: Annotated[str, Meta(max_length=LARGEST_CONFIG)]
    base: Annotated[int, Meta(ge=0, lt=1 << 53)]
    confirm_within: Annotated[int, Meta(ge=30, le=900)] = 300


class ConfigConfirm(Arguments, frozen=True):
    """The configuration that this command has put stays."""

    command: CommandId


class ManifestPut(Arguments, frozen=True):
    """A static pod: the file `hub-<name>.yaml` of the agent's directory."""

    name: ManifestName
    text: Annotated[str, Meta(max_length=LARGEST_MANIFEST)]


class ManifestRemove(Arguments, frozen=True):
    """That file goes, and its pod with it."""

    name: ManifestName


class Rollback(Arguments, frozen=True):
    """Bytes of an earlier revision become a new one: of this number, or what was before this command.

    A command may also be one that put or removed a manifest.
    """

    revision: Revision | None = None
    command: CommandId | None = None
    confirm_within: Annotated[int, Meta(ge=30, le=900)] = 300


class Verb(Struct, frozen=True):
    """A verb. `changes`: it changes the node, and needs what the node's policy asks for. `help`: what it does."""

    name: str
    changes: bool
    arguments: type[Arguments]
    help: str


VERBS: Mapping[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("status", False, Nothing, "states of its services, addresses, the latest commands"),
        Verb("plan", False, Nothing, "what protokube would do"),
        Verb("logs", False, Logs, "the journal of a service"),
        Verb("pods", False, Nothing, "the pods of virtual-kubelet"),
        Verb("config.list", False, Nothing, "the configuration's revisions"),
        Verb("config.get", False, ConfigGet, "a revision, secrets masked"),
        Verb("sync", True, Nothing, "have protokube reconcile now"),
        Verb("hold", True, Hold, "stop protokube for a while"),
        Verb("release", True, Nothing, "end a hold"),
        Verb("config.put", True, ConfigPut, "a new configuration, on trial"),
        Verb("config.confirm", True, ConfigConfirm, "keep what is on trial"),
        Verb("manifest.put", True, ManifestPut, "add or replace a static pod"),
        Verb("manifest.remove", True, ManifestRemove, "remove a static pod"),
        Verb("rollback", True, Rollback, "go back to a revision, or to before a command"),
    )
}


def read_arguments(verb: Verb, given: Mapping[str, Any]) -> Arguments | tuple[Fault, ...]:
    """A verb's arguments, or every fault in them."""
    faults = []
    known = {field.encode_name: field for field in msgspec.structs.fields(verb.arguments)}
    read = {}
    for name, field in known.items():
        if name not in given:
            if field.required:
                faults.append(Fault(f"args.{name}", "it is missing"))
            continue
        try:
            read[name] = msgspec.convert(given[name], field.type)
        except msgspec.ValidationError as error:
            faults.append(Fault(f"args.{name}", str(error)))
    expected = ", ".join(known) or "none"
    faults += [Fault(f"args.{name[:64]}", f"unknown; expected {expected}") for name in given if name not in known]
    if verb.arguments is Rollback and ("revision" in read) == ("command" in read):
        faults.append(Fault("args", "either revision or command is expected"))
    return tuple(faults) if faults else verb.arguments(**read)
