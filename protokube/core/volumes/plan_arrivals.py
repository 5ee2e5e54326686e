"""From AttachVolume to the disk: nothing to do but wait, until that has been long enough.

What is refused here goes on by itself as soon as the cloud or the disk does.
"""

from __future__ import annotations

from protokube.core.disks.model import NoDisk
from protokube.core.model import Unknown
from protokube.core.observed import Observed
from protokube.core.steps import Plan
from protokube.core.volumes.arrivals import DEADLINE, Phase
from protokube.core.volumes.assess import Desired
from protokube.core.volumes.model import Attachment, AttachState, MemberVolume


def plan_arrivals(observed: Observed, desired: Desired, plan: Plan) -> None:
    """Say what is under way at the cloud for our volumes, and what is stuck there."""
    for mine in desired.held.values():
        attachment = mine.volume.attachment_to(desired.instance.id)
        if attachment and attachment.state is not AttachState.ATTACHED:
            _plan_attachment(observed, mine, attachment, plan)


def _plan_attachment(observed: Observed, mine: MemberVolume, attachment: Attachment, plan: Plan) -> None:
    attaching = attachment.state is AttachState.ATTACHING
    phase = Phase.ATTACHING if attaching else Phase.DETACHING
    if not observed.arrivals.stuck(mine.id, phase, observed.uptime):
        plan.wait(mine.id, f"the cloud says {attachment.state}")
        return
    evidence = f"the cloud says {attachment.state}, for more than {DEADLINE:.0f} s"
    if attaching:
        named = f"; the name asked for, {attachment.device}, may still be in use on the machine"
        advice = "detach the volume, and it is attached again; if it hangs again, stop and start the machine"
        plan.refuse(mine.id, "volume/attach-stuck", f"{evidence}{named if attachment.device else ''}: {advice}")
        return
    mounts = () if isinstance(observed.mounts, Unknown) else observed.mounts
    if any(mount.target == mine.target for mount in mounts):
        advice = f"{mine.target} is mounted: to let the volume go, end what uses it there, and unmount it"
    else:
        advice = "end what uses the disk, or detach the volume by force"
    plan.refuse(mine.id, "volume/detach-stuck", f"{evidence}; {advice}")


def await_disk(observed: Observed, mine: MemberVolume, missing: NoDisk, plan: Plan) -> None:
    """Wait for the disk of an attached volume; refuse when it is overdue."""
    if not observed.arrivals.stuck(mine.id, Phase.NO_DISK, observed.uptime):
        plan.wait(mine.id, f"attached; the disk has not appeared yet: {missing.hint}")
        return
    evidence = f"attached, and no disk has appeared within {DEADLINE:.0f} s: {missing.hint}"
    plan.refuse(mine.id, "volume/no-disk", f"{evidence}. As soon as it appears, it is used")
