"""Whether a list of pods is taken at its word: an API server that was emptied, or is another one, ends no pod."""

from __future__ import annotations

from collections.abc import Collection


def distrust(known: str | None, found: str | None, running: Collection[str], listed: Collection[str]) -> str | None:
    """Why a list isn't believed; None when it is.

    `known`: the UID of this node's object when the API server's pods were last believed. `found`: its UID now, None
    when there is none. `running`: UIDs of the API server's pods that run here. `listed`: those that it lists.

    An API server that knows this node by another UID, or not at all, was emptied, restored, or is another cluster's.
    As long as it wants all that runs here there is nothing to lose, and it is believed.
    """
    if known is None or found == known:
        return None
    missing = sorted(set(running) - set(listed))
    if not missing:
        return None
    now = "it knows no such node" if found is None else f"it knows the node as {found}"
    return (
        f"the API server was emptied or is another one: {now} (expected UID {known}), and it lists "
        f"{len(running) - len(missing)} of the {len(running)} pods that run here; they are left alone. "
        f"If they may end, start once with --accept-new-cluster"
    )
