"""`protokube pki`: shows certificates, issues one again, replaces an authority step by step, prints a kubeconfig."""

from __future__ import annotations

import sys
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence

from msgspec.json import encode

from protokube.config.choice import Chosen
from protokube.config.commands import PkiCommand
from protokube.config.wiring import own_etcd
from protokube.core.etcd.restarts import lagging, local_member, trust_of
from protokube.core.etcd.tls import peer_certificate, server_certificate
from protokube.core.model import Unknown
from protokube.core.pki.actions import IssueCertificate
from protokube.core.pki.assess import PkiNeeds, assess
from protokube.core.pki.expiry import why_clock_is_wrong
from protokube.core.pki.model import (
    ETCD_CLIENTS,
    FRONT_PROXY,
    KUBERNETES,
    Authorities,
    Certificate,
    CertificateWanted,
    Damaged,
    NoAuthorities,
    PkiFacts,
    PkiSettings,
    Stage,
    etcd_peers,
)
from protokube.core.pki.rotation import NEXT, RotationStep, rotate
from protokube.core.pki.status import status_json, status_text
from protokube.core.pki.workers import why_not_yet
from protokube.errors import ProviderError, StoreError, UsageError
from protokube.pki.authorities import change, make_first, read_authorities
from protokube.pki.node import NodePki

_AFTER = {
    RotationStep.BUNDLE: "Both are trusted from now on, and the old one still issues.",
    RotationStep.REISSUE: "The new one issues from now on, and both are trusted.",
    RotationStep.DROP: "Only the new one is trusted from now on.",
}
_THEN = (
    "On every other control-plane node run `protokube pki rotate`, or let it follow within an hour. etcd's members "
    "restart by themselves. Then restart, one node after the other, what else reads ca.crt only at its start "
    "(protokube pki status)."
)

_ADMIN = "kubernetes-admin"


class _ImpossibleError(Exception):
    """The command can't be carried out; the message tells why, and what helps."""


class _Terminal:
    """One command, on one node."""

    def __init__(self, command: PkiCommand, chosen: Chosen) -> None:
        self._command, self._chosen = command, chosen
        self._pki = NodePki(chosen.settings.root, chosen.store.open)
        self._now = time.time()
        self._cluster = chosen.config.volumes.cluster_id or self._asked()

    def _asked(self) -> str:
        cloud, _, _ = self._chosen.cloud()
        try:
            return cloud.cluster_id()
        finally:
            cloud.close()

    def run(self) -> None:
        """Carry it out. Raises _ImpossibleError, ProviderError or UsageError."""
        match self._command.verb:
            case "status":
                self._status()
            case "create":
                self._create()
            case "kubeconfig":
                self._kubeconfig()
            case _ if self._command.authority is not None:
                self._rotate_authority(self._command.authority)
            case _:
                self._rotate(self._command.name)

    def _status(self) -> None:
        authorities: Authorities | NoAuthorities | Unknown
        try:
            authorities = self._pki.authorities(self._cluster)
        except StoreError as error:
            authorities = Unknown(f"{error.rule}: {error}")
        certificates = self._pki.certificates()
        if self._chosen.settings.output == "json":
            print(encode(status_json(self._cluster, certificates, authorities, self._now)).decode())
        else:
            print(status_text(self._cluster, certificates, authorities, self._now))

    def _create(self) -> None:
        if not isinstance(self._pki.authorities(self._cluster), NoAuthorities):
            raise _ImpossibleError(f"{self._cluster} has its authorities already")
        self._check_clock()
        names = (KUBERNETES, FRONT_PROXY, ETCD_CLIENTS, *map(etcd_peers, sorted(self._chosen.config.etcd.templates)))
        print(f"This makes the authorities {', '.join(names)} of {self._cluster}. If any node has certificates of")
        print("older ones, they will not fit: bring the store's object back from a copy instead.")
        self._confirm()
        made = make_first(self._pki.store, self._cluster, names, self._now)
        print("They are made." if made else "Another node was first: its authorities count.")

    def _rotate(self, name: str | None) -> None:
        certificates = self._known()
        if name is not None:
            if name not in certificates:
                raise _ImpossibleError(f"{name}: this node has no such certificate; it has {', '.join(certificates)}")
            self._issue([certificates[name].wanted])
            return
        lagging = self._lagging(certificates)
        if not lagging:
            print("Every certificate of this node is as the store's authorities want it.")
        self._issue(lagging)

    def _rotate_authority(self, name: str) -> None:
        found = read_authorities(self._pki.store, self._cluster)
        known = {one: each.public() for one, each in found.document.authorities.items()} if found else {}
        if name not in known:
            raise _ImpossibleError(f"{name}: no such authority; the store has {', '.join(known) or 'none'}")
        self._check_clock()
        stage = known[name].stage
        if stage is not Stage.STEADY and (late := self._lagging(self._known())):
            names = ", ".join(one.name for one in late)
            raise _ImpossibleError(f"{names}: not yet as the last step wants it; run `protokube pki rotate` first")
        step = NEXT[stage]
        print(f"{name} is {stage.value}; the next step is {step.value}.")
        if stage is not Stage.STEADY:
            if known[name].ends > self._now:  # by one that has ended nobody speaks with anybody
                self._check_members(name)
            if name == KUBERNETES and (problem := self._workers_problem(step)):
                raise _ImpossibleError(problem)
            print("Was all else that reads ca.crt only at its start restarted? If not, this step locks it out.")
        self._confirm()

        from protokube.pki.x509 import make_authority

        after = change(
            self._pki.store,
            self._cluster,
            lambda document: (
                rotate(document, name, lambda: make_authority(name, self._now))
                if document.authorities[name].stage is stage
                else document
            ),
        )
        print(f"{name} is {after.authorities[name].stage.value} now. {_AFTER[step]}")
        self._issue(self._lagging(self._known()))
        print(_THEN)

    def _workers_problem(self, step: RotationStep) -> str | None:
        """Why workers would be locked out, unless somebody says that they have moved."""
        config = self._chosen.config
        if not config.control_plane or self._command.workers_moved:
            return None
        from protokube.kubeapi.node import node_api
        from protokube.kubeapi.requests import workers

        found: Sequence[str] | Unknown
        try:
            found = workers(node_api(self._chosen.settings.root, config.kubelet.api_port))
        except ProviderError as error:
            found = Unknown(str(error))
        return why_not_yet(step, found)

    def _check_members(self, authority: str) -> None:
        """Refuse a step while a member of an etcd cluster that the authority concerns hasn't followed the last one.

        This node's own members tell, with quorum, what all have told. A node without one can't know.
        """
        certificates = self._known()
        etcd = own_etcd(self._chosen.settings.root, self._chosen.store)
        concerned = 0
        for cluster, template in sorted(self._chosen.config.etcd.templates.items()):
            own = [certificates.get(name) for name in (server_certificate(cluster), peer_certificate(cluster))]
            held = [one for one in own if one is not None]
            if len(held) < len(own) or authority not in {one.wanted.authority for one in held}:
                continue
            concerned += 1
            member = local_member(template, held[0].wanted.common_name, secure=True)
            if late := lagging(trust_of(held), etcd.served(member)):
                raise _ImpossibleError(
                    f"{', '.join(late)} of etcd cluster {cluster}: not yet as the last step wants it; its node "
                    "follows by itself, sooner with `protokube pki rotate` there"
                )
        if authority.startswith("etcd-") and not concerned:
            raise _ImpossibleError(
                f"{authority}: this node has no member of that etcd cluster; run it on one that has"
            )

    def _kubeconfig(self) -> None:
        from protokube.pki.x509 import issue

        found = read_authorities(self._pki.store, self._cluster)
        if found is None:
            raise _ImpossibleError(f"the store has no authorities of {self._cluster}")
        self._check_clock()
        authority = found.document.authorities[KUBERNETES]
        user = self._command.user or _ADMIN
        groups = ("system:masters",) if user == _ADMIN else ()
        wanted = CertificateWanted("admin", KUBERNETES, user, groups, client=True)
        _, files = issue(wanted, authority, self._now)
        server = f"https://api{self._chosen.config.etcd.suffix(self._cluster)}:{self._chosen.config.kubelet.api_port}"
        print(_kubeconfig_text(self._cluster, server, user, files), end="")

    def _known(self) -> Mapping[str, Certificate]:
        found = self._pki.certificates()
        if unread := {name: one.reason for name, one in found.items() if isinstance(one, Unknown | Damaged)}:
            raise _ImpossibleError("; ".join(f"{name}: {reason}" for name, reason in unread.items()))
        return {name: one for name, one in found.items() if isinstance(one, Certificate)}

    def _lagging(self, certificates: Mapping[str, Certificate]) -> list[CertificateWanted]:
        """The certificates that the store's authorities want issued again."""
        facts = PkiFacts(certificates, self._pki.authorities(self._cluster), clock_in_sync=True)
        needs = PkiNeeds(self._cluster, tuple(one.wanted for one in certificates.values()))
        return [wish.wanted for wish in assess(PkiSettings(trust_clock=True), facts, self._now, needs).issue]

    def _issue(self, wanted: list[CertificateWanted]) -> None:
        if wanted:
            self._check_clock()
        for one in wanted:
            self._pki.issue(IssueCertificate(self._cluster, one))
            print(f"issued {one.name}")

    def _check_clock(self) -> None:
        in_sync = self._chosen.config.pki.trust_clock or self._pki.clock_in_sync()
        if wrong := why_clock_is_wrong(self._now, in_sync=in_sync):
            raise _ImpossibleError(f"pki/time: {wrong}")

    def _confirm(self) -> None:
        if self._command.yes:
            return
        if not sys.stdin.isatty():
            raise UsageError("pki: there is no terminal to ask at; say --yes if this is to happen")
        if input("Go on? Only yes is yes: ").strip() != "yes":
            raise _ImpossibleError("nothing was done")


def pki(command: PkiCommand, chosen: Chosen) -> bool:
    """Carry out a command. False, with the reason on stderr, when it can't be, or the operator says no.

    Raises UsageError where there is nobody to ask.
    """
    try:
        _Terminal(command, chosen).run()
    except (_ImpossibleError, ProviderError) as error:
        rule = f"{error.rule}: " if isinstance(error, StoreError) else ""
        print(f"protokube pki {command.verb}: {rule}{error}", file=sys.stderr)
        return False
    return True


def _kubeconfig_text(cluster: str, server: str, user: str, files: Mapping[str, str]) -> str:
    data = {name: b64encode(text.encode()).decode() for name, text in files.items()}
    return f"""\
apiVersion: v1
kind: Config
clusters:
- name: {cluster}
  cluster: {{server: "{server}", certificate-authority-data: {data["ca.crt"]}}}
users:
- name: {user}
  user: {{client-certificate-data: {data["tls.crt"]}, client-key-data: {data["tls.key"]}}}
contexts:
- name: {cluster}
  context: {{cluster: {cluster}, user: {user}}}
current-context: {cluster}
"""
