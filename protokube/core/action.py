"""The base of all actions. Each concern keeps its own actions in its `actions.py`.

An action is a frozen value. It describes itself, predicts its effect on the facts that it changes, and executes
itself on the port that it names. No action detaches, unmounts or deletes a volume, so none can be planned by mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, Protocol, runtime_checkable

from msgspec import Struct


class Facet(StrEnum):
    """The parts of the world that are read separately."""

    CLOUD = "cloud"
    MOUNTS = "mounts"
    DISKS = "disks"
    CONTENTS = "contents"
    FILES = "files"
    MEMBERS = "members"
    RECORDS = "records"
    UNIT = "unit"
    CERTIFICATES = "certificates"
    AUTHORITIES = "authorities"
    BACKUPS = "backups"
    OBJECTS = "objects"


@runtime_checkable
class Action(Protocol):
    """An action, as planning, applying, predicting and reporting see it.

    `kind` is its stable name in reports. `port` names the port that executes it. `changes` are the facets of the
    world that it changes; `facts` names the part of the observed world that `predict` takes and returns. A pass
    executes one action per `subject`. Two actions with one `lock` never run side by side.
    """

    port: ClassVar[str]
    changes: ClassVar[frozenset[Facet]]

    @property
    def kind(self) -> str:
        """Its stable name in reports."""

    @property
    def facts(self) -> str:
        """The part of the observed world that it changes."""

    @property
    def subject(self) -> str:
        """The thing that it changes, for people and for the rule of one action per subject."""

    @property
    def lock(self) -> str:
        """The resource that no two actions may change side by side."""

    def describe(self) -> str:
        """One line for people."""

    def predict(self, facts: Any, now: float) -> Any:
        """The facts after it, as far as they can be known before; `now` is in seconds since the epoch."""

    def execute(self, port: Any) -> None:
        """Execute it; raises ProviderError when the world refuses."""


class ActionValue(Struct, frozen=True, tag_field="kind"):
    """The base of all actions: the kind is the value's tag, in JSON as well."""

    @property
    def kind(self) -> str:
        """The action's stable name."""
        return str(self.__struct_config__.tag)

    @property
    def subject(self) -> str:
        """The kind, unless the action says otherwise."""
        return self.kind

    @property
    def lock(self) -> str:
        """The subject, unless the action says otherwise."""
        return self.subject


def kinds() -> Mapping[str, type[ActionValue]]:
    """Every kind of action that the imported concerns define, by its stable name."""
    found: dict[str, type[ActionValue]] = {}
    open_ = [ActionValue]
    while open_:
        kind = open_.pop()
        if below := kind.__subclasses__():
            open_ += below
        else:
            found[str(kind.__struct_config__.tag)] = kind
    return found
