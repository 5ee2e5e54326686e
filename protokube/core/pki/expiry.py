"""When a certificate is renewed, and when its end is near."""

from __future__ import annotations

from protokube.core.pki.model import DAY, Certificate

EARLY, LATE = 30 * DAY, 7 * DAY
"""So long before an end it is reported, and so long before it is trouble."""

RELEASED = 1793491200.0
"""2026-11-01: no clock that is right shows an earlier time to this program."""


def renew_at(certificate: Certificate) -> float:
    """When to renew: at two thirds of the life, which leaves a third to find out why it could not be done."""
    return certificate.begins + (certificate.ends - certificate.begins) * 2 / 3


def why_renew(certificate: Certificate, now: float) -> str | None:
    """Why to renew a certificate now; None when it is early, or when its authority ends as soon as itself.

    A signer cuts a certificate at its authority's end (Kubernetes's authority/policies.go). One that is renewed
    although it can't live longer would be renewed for ever.
    """
    if now < renew_at(certificate) or certificate.issuer_ends < certificate.ends + DAY:
        return None
    return f"two thirds of its life are over; it ends in {days(certificate.ends, now)}"


def why_from_the_future(begins: float, now: float) -> str | None:
    """Why what begins so late must be replaced: it was issued by a clock that was ahead. None when it has begun."""
    return f"it begins in {days(begins, now)}: a clock that was wrong issued it" if begins > now else None


def days(end: float, now: float) -> str:
    """The time until an end, for people."""
    left = end - now
    return f"{left / DAY:.0f} days" if left >= 2 * DAY else f"{max(left, 0) / 3600:.0f} hours"


def why_clock_is_wrong(now: float, *, in_sync: bool) -> str | None:
    """Why nothing may be issued by this clock; None when it may.

    A certificate from the future is refused everywhere until its time has come.
    """
    if now < RELEASED:
        return f"the clock shows a time {(RELEASED - now) / DAY:.0f} days before this program was made; set it"
    if not in_sync:
        return (
            "the kernel says that the clock is not synchronised; start chrony or systemd-timesyncd. Where the clock "
            "is right without them, say so with --trust-clock"
        )
    return None
