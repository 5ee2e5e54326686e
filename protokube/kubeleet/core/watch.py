"""Who is silent: judged twice, by Redis's clock and by our own.

Redis's clock may jump, Redis may have been frozen, and so may we. So a heartbeat is stale only when it is old by
Redis's clock *and* we have watched it stand still for as long, without a gap, by a clock that nobody sets.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

BEAT = 5.0
"""Seconds between heartbeats, and between looks at them."""
STALE = 20
"""Seconds after which a heartbeat is stale."""
GAP = 3 * BEAT
"""Seconds between two looks after which the watch begins again."""
JUMP = 2.0
"""Seconds that Redis's clock may differ from ours between two looks."""


class Look(Struct, frozen=True):
    """One look. `boot`: our clock; `time`: Redis's. `beats`: heartbeats by name, None for one that is absent."""

    boot: float
    time: float
    beats: Mapping[str, int | None]


class Watch(Struct, frozen=True):
    """What was seen so far. `since`: name → heartbeat and since when it stands still."""

    last: Look | None = None
    since: Mapping[str, tuple[int | None, float]] = {}


def watch(before: Watch, look: Look) -> tuple[Watch, frozenset[str]]:
    """Take in a look; return the new watch, and the names whose heartbeats are stale."""
    last = before.last
    broken = last is None or (
        look.boot - last.boot > GAP or abs((look.time - last.time) - (look.boot - last.boot)) > JUMP
    )
    known = {} if broken else before.since
    since = {}
    for name, beat in look.beats.items():
        seen, at = known.get(name, (None, look.boot))
        since[name] = (beat, at if seen == beat else look.boot)
    stale = frozenset(
        name
        for name, (beat, at) in since.items()
        if look.boot - at > STALE and (beat is None or look.time - beat > STALE)
    )
    return Watch(look, since), stale
