"""Everything that protokube ever does to the world, as values.

A closed union: there is no action that detaches, unmounts or deletes a volume, so none can be planned by
mistake. Each action names its `subject` (one action per subject and pass) and the facets of the world that
it changes; logs, dry run, tests and the report read the same values.
"""

from __future__ import annotations

from protokube.core.disks.actions import DiskAction
from protokube.core.dns.actions import ChangeRecords
from protokube.core.node.actions import FileAction, RestartUnit, StartUnit
from protokube.core.volumes.actions import CloudAction

Action = CloudAction | DiskAction | FileAction | ChangeRecords | StartUnit | RestartUnit
