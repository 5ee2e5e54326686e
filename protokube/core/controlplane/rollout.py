"""How a change of this node's control plane goes along with the other nodes': in turns, and none too new.

- A running API server is changed in this node's turn (turns.py), while every other one is healthy by its own word.
  One at whose port nobody listens needs no healthy others: nothing more can be lost there.
- API servers are at most one minor version apart. Nothing else becomes newer than any of them, by what they tell of
  themselves: another node's configuration may say what isn't so yet.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from protokube.core.component.schema import Version
from protokube.core.controlplane.component import Candidate, Situation
from protokube.core.controlplane.model import ComponentVerdict, Health
from protokube.core.controlplane.names import API_SERVER
from protokube.core.controlplane.others import Other, is_gone
from protokube.core.controlplane.paths import condemned_path, good_path
from protokube.core.controlplane.skew import ahead_problem, apart_problem, pod_version, told_version
from protokube.core.controlplane.turns import Asker, GiveApiTurnBack, TakeApiTurn
from protokube.core.etcd.model import LocalMember, NotListening, ServedEtcd
from protokube.core.etcd.rolling import NotYet, Turn
from protokube.core.model import Unknown
from protokube.core.node.model import Link
from protokube.core.volumes.model import MAIN


class Rollout(Struct):
    """This node among the others with an API server. `instance`: which one it is; `at`: its member of `main`, None
    while that has never started; `port`: that of all API servers.

    `asked`: the member, once it is to be asked whose turn it is. `turn`: what to do with the turn.
    """

    situation: Situation
    instance: str
    others: tuple[Other, ...] | Unknown
    at: LocalMember | None
    port: int
    asked: LocalMember | None = None
    turn: TakeApiTurn | GiveApiTurnBack | None = None

    def may_change(self, one: Candidate, closed: Iterator[str], too_new: tuple[str, ...]) -> bool:
        """Whether this node's API server may be started or changed now. `closed`: what it waits for on this node;
        `too_new`: reasons of `too_new`."""
        waits = too_new
        if self._restarts(one):
            # All is asked at once: what is asked one after the other would never be known in one reconcile.
            others, shut = tuple(self._ill_others(one)), tuple(closed)
            waits = waits or others or (() if one.missing or shut else tuple(self._take_turn(one)))
        if waits:
            self.situation.findings.wait(one.component, f"it isn't changed: {'; '.join(waits)}", external=True)
        return not waits and self.turn is None

    def _restarts(self, one: Candidate) -> bool:
        """Whether the next step leads to a restart of what runs. A pod that is put back is no such one: what it
        replaces never came up."""
        link, present = self.situation.state(one.manifest), self.situation.text(one.path)
        if present is None or not isinstance(link, Link) or self._is_condemned(one):
            return False
        return present != one.text or not self.situation.is_fresh(one.path, link)

    def _take_turn(self, one: Candidate) -> Iterator[str]:
        """Take the turn, or say why not."""
        served, down = self._served(), self._is_down(one)
        if self.at is None or served is None:
            yield "etcd main is asked whose turn it is"
            return
        match self._asker(self.at).may_change(served, down=down):
            case TakeApiTurn() as take:
                self.turn = take
            case NotYet() as wait:
                yield wait.reason
            case Turn():
                pass

    def watch(self, one: Candidate, verdict: ComponentVerdict) -> None:
        """Keep the turn while a changed API server is watched, and give it back when that has come up."""
        good = self.situation.text(good_path(one.component))
        watched = self.situation.text(one.path) == one.text and good not in (None, one.text)
        if not watched or self._is_condemned(one) or self.turn is not None or self.at is None:
            return
        served, asker = self._served(), self._asker(self.at)
        if served is None:
            return
        if any(file.path == good_path(one.component) for file in verdict.files):
            if isinstance(served, ServedEtcd) and asker.holds(served):
                self.turn = GiveApiTurnBack(self.at, served.api_turn)
        else:
            self.turn = asker.keep(served)

    def _asker(self, at: LocalMember) -> Asker:
        return Asker(self.instance, at, self.situation.facts.at.now)

    def _is_condemned(self, one: Candidate) -> bool:
        return self.situation.text(condemned_path(one.component)) == one.text

    def _served(self) -> ServedEtcd | Unknown | None:
        """What `main` serves; None while it wasn't asked."""
        self.asked = self.at
        return self.situation.facts.served.get(MAIN)

    def _is_down(self, one: Candidate) -> bool:
        """Whether nobody listens at our API server's port. One bad answer proves less: it may be busy."""
        return isinstance(self.situation.facts.health.get(one.health), NotListening)

    def _ill_others(self, one: Candidate) -> Iterator[str]:
        """Why other nodes' API servers must be healthy before ours, which runs, is restarted."""
        self._served()
        ill = self.situation.ill(one.component, one.health)
        unanswered = one.health not in self.situation.facts.health
        reasons = tuple(self._ill())
        if ill and unanswered:
            yield ill
        elif not self._is_down(one):
            yield from reasons

    def _ill(self) -> Iterator[str]:
        if isinstance(self.others, Unknown):
            yield f"the other nodes are unknown: {self.others.reason}"
            return
        for other in self.others:
            url = other.url(self.port, "/livez")
            if (ill := self.situation.ill(_name(other), url)) and not self._is_gone(other, url):
                yield ill

    def _is_gone(self, other: Other, url: str) -> bool:
        answer = self.situation.facts.health.get(url)
        if answer is None or not is_gone(other, answer, self.situation.facts):
            return False
        hint = f"{_name(other)} isn't waited for: neither it nor its etcd answers"
        if hint not in self.situation.findings.hints:
            self.situation.findings.hints.append(hint)
        return True

    def too_new(self, component: str, version: Version, present: str | None) -> Iterator[str]:
        """Why a component must not get a version beside the API servers of the other nodes. `present`: its pod.

        A component that isn't there yet waits for no answer: the other nodes may be at their first start as well.
        """
        before = pod_version(present)
        if before is not None and before[:2] >= version[:2]:
            return
        problem = apart_problem if component == API_SERVER else ahead_problem
        for subject, server in self._versions(patient=before is None):
            if isinstance(server, str):
                yield server
            elif reason := problem(component, version, server, subject):
                yield reason

    def kubelet_too_new(self, version: Version, manager: str | None) -> Iterator[str]:
        """Why an installed kubelet is too new beside the other nodes' API servers. `manager`: the controller
        manager's pod: where that is as new, every API server was when it was changed."""
        before = pod_version(manager)
        if before is None or before[:2] >= version[:2]:
            return
        for subject, server in self._versions(patient=True):
            if not isinstance(server, str) and (reason := ahead_problem("kubelet", version, server, subject)):
                yield reason

    def _versions(self, *, patient: bool) -> Iterator[tuple[str, Version | str]]:
        """The versions that the other API servers tell, or why one isn't known. `patient`: silence is no reason."""
        if isinstance(self.others, Unknown):
            if not patient:
                yield "", f"the other nodes are unknown: {self.others.reason}"
            return
        for other in self.others:
            url = other.url(self.port, "/version")
            self.situation.asked |= {url}
            answer = self.situation.facts.health.get(url)
            version = told_version(answer) if isinstance(answer, Health) else None
            if version is not None:
                yield _name(other), version
            elif answer is None:
                yield "", f"{_name(other)} is asked for its version"
            elif not patient and not self._is_gone(other, url):
                why = answer.reason if isinstance(answer, Unknown) else f"{answer.status} {answer.text[:200]!r}"
                yield "", f"{_name(other)} doesn't tell its version ({why})"


def _name(other: Other) -> str:
    return f"the API server of {other.instance}"
