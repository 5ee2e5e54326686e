"""When certificates are issued, renewed, refused; who reads them; and the steps of an authority's replacement."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from protokube.core.model import Unknown
from protokube.core.pki.assess import PkiNeeds, assess
from protokube.core.pki.document import VERSION, Document, KeyPair, StoredAuthority
from protokube.core.pki.expiry import RELEASED
from protokube.core.pki.model import (
    DAY,
    Authorities,
    Authority,
    Certificate,
    CertificateWanted,
    Damaged,
    NoAuthorities,
    PkiAssessment,
    PkiFacts,
    PkiSettings,
    Stage,
    Unreadable,
)
from protokube.core.pki.readers import reader_of
from protokube.core.pki.rotation import rotate

NOW = RELEASED + 100 * DAY
WANTED = CertificateWanted(
    "etcd-peer-main", "etcd-peers-main", "etcd-a", dns=("a", "peers"), server=True, client=True
)
NEEDS = PkiNeeds("c.test", (WANTED,), ("etcd-peers-main",))
KNOWN = Authorities({"etcd-peers-main": Authority("ca1", NOW + 3000 * DAY, ("ca1",))})


def found(age: float = 0.0, life: float = 365.0, issuer_left: float = 3000.0, **changes: object) -> Certificate:
    """A certificate, `age` days old; `issuer_left` days are left to its authority."""
    begins = NOW - age * DAY
    made = Certificate(WANTED, "1", begins, begins + life * DAY, "ca1", NOW + issuer_left * DAY, ("ca1",))
    return replace(made, **changes)


def judge(
    certificate: Certificate | Damaged | Unknown | None,
    authorities: Authorities | NoAuthorities | Unknown | None = None,
    *,
    now: float = NOW,
    sync: bool | Unknown = True,
    trust: bool = False,
    ran: str = "",
) -> PkiAssessment:
    certificates = {} if certificate is None else {WANTED.name: certificate}
    facts = PkiFacts(certificates, authorities, sync)
    return assess(PkiSettings(trust), facts, now, replace(NEEDS, etcd_ran=ran))


def rules(judged: PkiAssessment) -> list[tuple[str, bool]]:
    return [(one.rule, one.serious) for one in judged.findings.refusals]


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (None, "there is none"),
        (Damaged("its tls.key has changed"), "its tls.key has changed"),
        (found(244), "two thirds"),
        (found(-400), "it begins in 400 days: a clock that was wrong issued it"),
        (found(wanted=replace(WANTED, dns=("b", "peers"))), "names"),
        (found(wanted=replace(WANTED, client=False)), "usages"),
    ],
)
def test_a_certificate_is_issued(certificate: Certificate | Damaged | None, reason: str) -> None:
    asking = judge(certificate)
    assert asking.asks and asking.issue == () and asking.findings.refusals == []
    judged = judge(certificate, KNOWN)
    (wish,) = judged.issue
    assert wish.wanted == WANTED and reason in wish.reason and judged.missing == ()


def test_what_an_authority_from_the_future_has_issued_is_not_issued_again_for_ever() -> None:
    ahead = Authorities({"etcd-peers-main": Authority("ca1", NOW + 3000 * DAY, ("ca1",), begins=NOW + 400 * DAY)})
    judged = judge(found(-400), ahead)
    assert judged.issue == () and rules(judged) == [("pki/time", True)]
    assert "it begins in 400 days" in judged.findings.refusals[0].evidence


@pytest.mark.parametrize("age", [0, 1, 200, 243])
def test_a_young_certificate_is_left_and_the_store_isn_t_asked(age: int) -> None:
    judged = judge(found(age))
    assert not judged.asks and not judged.issue and judged.ready == {WANTED.name} and not judged.findings.refusals


def test_nothing_wanted_is_nothing_judged() -> None:
    judged = assess(PkiSettings(), PkiFacts(Unknown("EIO")), NOW, PkiNeeds("c.test"))
    assert judged == PkiAssessment("c.test")


def test_a_certificate_that_its_authority_bounds_is_not_renewed_for_ever() -> None:
    judged = judge(found(age=300, life=305, issuer_left=5))
    assert not judged.issue and not judged.asks
    assert rules(judged) == [("pki/expires", True)] * 2


@pytest.mark.parametrize(("left", "expected"), [(31, []), (29, [False]), (8, [False]), (6, [True]), (-3, [True])])
def test_an_end_that_is_near_is_reported(left: float, expected: list[bool]) -> None:
    judged = judge(found(age=365 - left), Unreadable("down", "store/unreadable"))
    assert [serious for rule, serious in rules(judged) if rule == "pki/expires"] == expected


def test_unknown_is_neither_absent_nor_damaged() -> None:
    judged = judge(Unknown("EIO"), KNOWN)
    assert not judged.issue and not judged.asks and [one.reason for one in judged.findings.unknown] == ["EIO"]
    whole = assess(PkiSettings(), PkiFacts(Unknown("EIO"), KNOWN, True), NOW, NEEDS)
    assert not whole.issue and not whole.ready and whole.findings.unknown


@pytest.mark.parametrize("rule", ["store/unreadable", "store/conflict", "store/key"])
def test_a_store_that_can_t_be_read_makes_nothing(rule: str) -> None:
    judged = judge(None, Unreadable("why", rule))
    assert not judged.issue and not judged.missing and rules(judged) == [(rule, True)]
    assert bool(judged.findings.waiting) == (rule != "store/key")


def test_the_first_authorities_are_made_only_where_etcd_never_ran() -> None:
    judged = judge(None, NoAuthorities())
    assert judged.first and judged.missing == ("kubernetes", "front-proxy", "etcd-clients", "etcd-peers-main")
    refused = judge(None, NoAuthorities(), ran="vol-a")
    assert not refused.missing and not refused.issue and rules(refused) == [("pki/authority-missing", True)]
    assert "vol-a" in refused.findings.refusals[0].evidence


def test_an_authority_that_an_older_pki_lacks_is_added() -> None:
    judged = judge(None, Authorities({}), ran="vol-a")
    assert judged.missing == ("etcd-peers-main",) and not judged.first and not judged.issue


@pytest.mark.parametrize(
    ("now", "sync", "trust", "refused"),
    [
        (NOW, True, False, False),
        (NOW, False, False, True),
        (NOW, False, True, False),
        (RELEASED - DAY, True, True, True),
        (0.0, True, False, True),
    ],
)
def test_nothing_is_issued_or_made_by_a_wrong_clock(now: float, sync: bool, trust: bool, refused: bool) -> None:
    for authorities in (KNOWN, NoAuthorities()):
        judged = judge(None, authorities, now=now, sync=sync, trust=trust)
        assert bool(judged.issue or judged.missing) is not refused
        assert (rules(judged) == [("pki/time", True)]) is refused


def test_a_clock_that_can_t_be_asked_is_unknown() -> None:
    judged = judge(None, KNOWN, sync=Unknown("EPERM"))
    assert not judged.issue and [one.subject for one in judged.findings.unknown] == ["clock"]
    assert judge(None, KNOWN, sync=Unknown("EPERM"), trust=True).issue  # the operator answers for it


# --- replacing an authority ---


def pair(name: str) -> KeyPair:
    return KeyPair(name, 0.0, NOW + 3000 * DAY, f"cert {name}", f"key {name}")


def document() -> Document:
    return Document(VERSION, "c.test", {"etcd-peers-main": StoredAuthority(pair("ca1"))}, ())


def test_an_authority_is_replaced_in_three_steps_that_the_object_shows() -> None:
    stages, name = [], "etcd-peers-main"
    now = document()
    for _ in range(3):
        now = rotate(now, name, lambda: pair("ca2"))
        public = now.public().known[name]
        stages.append((public.stage, public.id, set(public.trusted)))
    assert stages == [
        (Stage.BUNDLE, "ca1", {"ca1", "ca2"}),
        (Stage.REISSUE, "ca2", {"ca1", "ca2"}),
        (Stage.STEADY, "ca2", {"ca2"}),
    ]
    assert now.distrusted == ("ca1",)


def test_every_issuer_was_trusted_by_everybody_in_the_step_before() -> None:
    before = document()
    for number in range(7):
        after = rotate(before, "etcd-peers-main", lambda number=number: pair(f"new{number}"))  # type: ignore[misc]
        trusted = before.public().known["etcd-peers-main"].trusted
        assert after.public().known["etcd-peers-main"].id in trusted
        assert before.public().known["etcd-peers-main"].id in after.public().known["etcd-peers-main"].trusted or (
            before.public().known["etcd-peers-main"].stage is Stage.REISSUE
        )
        before = after


def test_a_node_follows_each_step_from_wherever_it_was() -> None:
    """A node that missed a step gets what stands in the store now."""
    certificate, name = found(), "etcd-peers-main"
    now = document()
    for expected in ("bundle", "is being replaced", "steady"):
        now = rotate(now, name, lambda: pair("ca2"))
        (wish,) = judge(certificate, now.public()).issue
        assert expected in wish.reason
        public = now.public().known[name]
        certificate = found(issuer=public.id, trusted=public.trusted)
        assert not judge(certificate, now.public()).issue


@pytest.mark.parametrize(
    ("name", "program", "restart"),
    [
        ("etcd-server-main", "etcd", True),
        ("etcd-peer-events", "etcd", True),
        ("etcd-client", "kube-apiserver", True),
        ("apiserver", "kube-apiserver", False),
        ("kubelet-server", "kubelet", False),
    ],
)
def test_who_reads_a_directory_and_who_must_be_restarted_for_new_authorities(
    name: str, program: str, restart: bool
) -> None:
    reader = reader_of(name)
    assert reader is not None and reader.program == program and (reader.authorities is None) is restart
    assert reader.certificate is not None
    assert reader_of("admin") is None
