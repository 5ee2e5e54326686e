"""A node's certificates and the cluster's authorities, for people and for scripts. It holds no key."""

from __future__ import annotations

from collections.abc import Mapping

from protokube.core.model import Unknown
from protokube.core.pki.expiry import days, renew_at
from protokube.core.pki.model import Authorities, Certificate, Damaged, Material, NoAuthorities
from protokube.core.pki.readers import reader_of

Certificates = Mapping[str, Certificate | Damaged | Unknown]
Known = Authorities | NoAuthorities | Unknown


def status_text(cluster: str, certificates: Certificates, authorities: Known, now: float) -> str:
    """Every certificate and every authority, for people."""
    lines = [f"cluster {cluster}", "", "certificates of this node:"]
    for name, one in certificates.items():
        if isinstance(one, Certificate):
            names = ", ".join((*one.wanted.dns, *one.wanted.addresses)) or "none"
            if one.wanted.material is Material.LEAF:
                lines.append(f"  {name}: ends in {days(one.ends, now)}, is renewed in {days(renew_at(one), now)}")
                lines.append(f"    {one.wanted.common_name}, by {one.wanted.authority}; names: {names}")
            else:
                lines.append(f"  {name}: a copy of {one.wanted.authority}, and follows it")
            lines.append(f"    {_reading(name)}")
        else:
            lines.append(f"  {name}: {one.reason}")
    lines += [] if certificates else ["  none"]
    lines += ["", "authorities in the store:"]
    if isinstance(authorities, Authorities):
        lines += [
            f"  {name}: {one.stage.value}, ends in {days(one.ends, now)}, {one.id}"
            for name, one in sorted(authorities.known.items())
        ]
    else:
        lines.append("  none" if isinstance(authorities, NoAuthorities) else f"  unknown: {authorities.reason}")
    return "\n".join(lines)


def _reading(name: str) -> str:
    reader = reader_of(name)
    if reader is None:
        return "nothing that protokube starts reads it"
    again = f"{reader.program} reads it {reader.certificate or 'only at its start'}"
    return again + (", and new authorities after a restart" if reader.authorities is None else "")


def status_json(cluster: str, certificates: Certificates, authorities: Known, now: float) -> dict[str, object]:
    """The same, for scripts. Times are seconds since the epoch."""
    return {
        "version": 1,
        "cluster": cluster,
        "certificates": [_certificate(name, one, now) for name, one in certificates.items()],
        "authorities": [
            {"name": name, "stage": one.stage.value, "id": one.id, "ends": one.ends, "trusted": one.trusted}
            for name, one in sorted(authorities.known.items())
        ]
        if isinstance(authorities, Authorities)
        else None,
        "unknown": authorities.reason if isinstance(authorities, Unknown) else None,
    }


def _certificate(name: str, one: Certificate | Damaged | Unknown, now: float) -> dict[str, object]:
    if not isinstance(one, Certificate):
        return {"name": name, "problem": one.reason}
    reader = reader_of(name)
    return {
        "name": name,
        "subject": one.wanted.common_name,
        "names": [*one.wanted.dns, *one.wanted.addresses],
        "authority": one.wanted.authority,
        "issuer": one.issuer,
        "serial": one.serial,
        "ends": one.ends,
        "renewed": renew_at(one),
        "daysLeft": int((one.ends - now) // 86400),
        "reader": reader.program if reader else None,
        "restartForAuthorities": reader is not None and reader.authorities is None,
    }
