"""One component's next step, given what is to run and what stands on the disk.

Everything that is remembered is a file: the pod, the last good pod, the pod that was condemned. So a restart of
protokube at any moment changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from protokube.core.controlplane.model import ComponentVerdict, ControlPlaneFacts, FileWanted, Health
from protokube.core.controlplane.paths import condemned_path, configuration_dir, good_path, pod_path
from protokube.core.model import Unknown
from protokube.core.node.model import Absent, File, FileState, Link, UnitState
from protokube.core.steps import Findings

SETTLED = 60.0
"""Seconds after a change from which on an answer is the new process's: kubelet gives the old one 30 s to end."""
PATIENCE = 300.0
"""Seconds within which a changed component comes up: kubeadm's startup probe gives it 250."""
RUNTIMES = frozenset({"containerd.service", "crio.service"})
"""The units of container runtimes: without one kubelet starts no pod, while the containers from before go on."""
LONG_AGO = 86400.0
"""A change that seems to be so old tells of a clock that was set, or of a node that was off: it condemns no pod."""


class Candidate(Struct, frozen=True):
    """What is to run: a component's pod, its files, where it answers for its health, and the link that kubelet reads.

    `missing` are certificates that it needs and that aren't there.
    """

    component: str
    text: str
    files: tuple[FileWanted, ...]
    health: str
    manifest: str
    missing: frozenset[str] = frozenset()

    @property
    def path(self) -> str:
        """Where the pod stands."""
        return pod_path(self.component)


class Situation(Struct):
    """What all components share while they are judged.

    `changing` is the component that is on its way: the others wait. `asked` are health endpoints to ask, `units`
    those to read.
    """

    facts: ControlPlaneFacts
    findings: Findings
    changing: str | None = None
    asked: frozenset[str] = frozenset()
    units: frozenset[str] = frozenset()

    def state(self, path: str) -> FileState:
        """What stands at a path."""
        files = self.facts.node.files
        assert not isinstance(files, Unknown)
        return files.get(path, Absent())

    def text(self, path: str) -> str | None:
        """A file's text; None when there is none."""
        state = self.state(path)
        return state.text if isinstance(state, File) else None

    def is_fresh(self, path: str, link: Link) -> bool:
        """Whether a link was made after the pod at a path: kubelet watches links, and not what they lead to."""
        pod = self.state(path)
        assert isinstance(pod, File)
        return link.mtime_ns >= pod.mtime_ns or pod.mtime_ns > self.facts.at.now * 1e9

    def ages(self, manifest: str) -> tuple[float, ...] | None:
        """Seconds since a link was made and, where protokube manages kubelet's unit, since kubelet and its container
        runtime were started; None while one of these units isn't active."""
        link, unit = self.state(manifest), self.facts.node.unit
        assert isinstance(link, Link)
        made = self.facts.at.now - link.mtime_ns / 1e9
        if unit is None:
            return (made,)
        if isinstance(unit, Unknown) or unit.active != "active" or unit.started_at is None:
            return None
        runtimes = self._runtimes()
        return None if runtimes is None else (made, *(self.facts.at.now - at for at in (unit.started_at, *runtimes)))

    def _runtimes(self) -> tuple[float, ...] | None:
        """When the container runtimes of which there is a unit were started; None while none of them is active, or
        they weren't read yet."""
        known = self.facts.runtimes
        if known is None:
            return ()
        self.units |= RUNTIMES
        if not known.keys() >= RUNTIMES:
            return None
        there = [one for one in known.values() if isinstance(one, Unknown) or one.load == "loaded"]
        active = [one for one in there if isinstance(one, UnitState) and one.active == "active"]
        starts = tuple(one.started_at for one in active if one.started_at is not None)
        return starts if starts or not there else None

    def ill(self, subject: str, url: str) -> str | None:
        """Why something isn't healthy by its own word; None when it is. One that wasn't asked yet isn't."""
        self.asked |= {url}
        answer = self.facts.health.get(url)
        if answer is None:
            return f"{subject} is asked for its health"
        if isinstance(answer, Unknown):
            return f"{subject} doesn't answer at {url}: {answer.reason}"
        return None if answer.good else f"{subject} isn't healthy ({url}: {answer.status} {answer.text[:200]!r})"


def withdraw(situation: Situation, component: str, manifest: str) -> ComponentVerdict | None:
    """Take away the link to a component that has no place on this node any more."""
    state = situation.state(manifest)
    if isinstance(state, Link) and state.target == pod_path(component):
        return ComponentVerdict(component, manifest, unlink="this node has no etcd for it any more")
    return None


def judge(situation: Situation, one: Candidate, gate: Iterator[str], excuses: Iterator[str]) -> ComponentVerdict:
    """A component's next step. `gate` are reasons not to start or change it now; `excuses` are other causes for a
    component that isn't up. Both are asked for only when they matter."""
    nothing = ComponentVerdict(one.component, one.manifest)
    link = situation.state(one.manifest)
    if not isinstance(link, Link | Absent):
        evidence = f"{one.manifest} is no link of ours ({type(link).__name__.lower()}); move it away"
        situation.findings.refuse(one.component, "control-plane/manifest-occupied", evidence)
        return nothing
    if one.missing:
        names = ", ".join(sorted(one.missing))
        situation.findings.wait(one.component, f"its certificates are issued first: {names}")
        return nothing
    good = situation.text(good_path(one.component))
    wanted = _wanted(situation, one, good)
    running = isinstance(link, Link) and link.target == one.path and situation.text(one.path) is not None
    if running and situation.changing is not None and (situation.text(one.path) != wanted or good != wanted):
        situation.findings.wait(one.component, f"its turn comes when {situation.changing} is up", external=True)
        return nothing
    if files := tuple(_files(situation, one)):
        situation.changing = one.component if running else situation.changing
        return replace(nothing, files=files)
    if (
        running
        and isinstance(link, Link)
        and situation.text(one.path) == wanted
        and situation.is_fresh(one.path, link)
    ):
        return _runs(situation, one, (wanted, good), excuses)
    situation.changing = one.component if running else situation.changing
    return _start(situation, one, wanted, gate)


def _wanted(situation: Situation, one: Candidate, good: str | None) -> str:
    """The pod to run: what the configuration says, or the last good one where that was condemned."""
    if good is None or good == one.text or situation.text(condemned_path(one.component)) != one.text:
        return one.text
    evidence = (
        f"the pod that the configuration asks for did not come up within {PATIENCE:.0f} s; the last good one runs. "
        "See its log, and correct the configuration; to try the same again remove "
        f"{condemned_path(one.component)}"
    )
    situation.findings.refuse(one.component, "control-plane/rolled-back", evidence)
    return good


def _files(situation: Situation, one: Candidate) -> Iterator[FileWanted]:
    """The files that differ. Those of a pod that was put back stand still: their names hold a hash of their texts."""
    for wanted in one.files:
        state = situation.state(wanted.path)
        if isinstance(state, File) and state.text == wanted.text and state.mode == wanted.mode:
            continue
        reason = "it is missing" if isinstance(state, Absent) else "it differs from the configuration"
        before = state.text if isinstance(state, File) else former(situation, one, wanted.path)
        yield replace(wanted, reason=reason, before=before)


def former(situation: Situation, one: Candidate, path: str) -> str | None:
    """The text of the file that the present pod names in another one's place; their names differ in the hash."""
    files, pod = situation.facts.node.files, situation.text(one.path)
    assert not isinstance(files, Unknown)
    stem = f"{path.rpartition('-')[0]}-"
    named = (each for each in sorted(files) if pod is not None and each.startswith(stem) and each in pod)
    return next(filter(None, map(situation.text, named)), None)


def _start(situation: Situation, one: Candidate, wanted: str, gate: Iterator[str]) -> ComponentVerdict:
    verdict = ComponentVerdict(one.component, one.manifest)
    if closed := tuple(gate):
        reason = "; ".join(closed)
        answered = situation.asked <= situation.facts.health.keys()  # a question that was asked now is no fault yet
        if situation.facts.at.uptime > PATIENCE and answered:
            situation.findings.refuse(one.component, "control-plane/etcd-not-ready", reason)
        situation.findings.wait(one.component, f"it isn't started or changed: {reason}", external=True)
        return verdict
    present = situation.text(one.path)
    if present == wanted:
        return replace(verdict, link="kubelet notices a fresh link at once")
    reason = "it is missing" if present is None else "its configuration, version or authorities have changed"
    if wanted != one.text:
        reason = "the last good pod is put back"
    pod = FileWanted(one.path, wanted, reason, before=present, warning=wanted != one.text)
    return replace(verdict, files=(pod,))


def _runs(
    situation: Situation, one: Candidate, pods: tuple[str, str | None], excuses: Iterator[str]
) -> ComponentVerdict:
    """The pod that is wanted is linked: whether it came up. `pods`: the wanted one, and the last good one."""
    verdict = ComponentVerdict(one.component, one.manifest)
    wanted, good = pods
    if good == wanted:
        return replace(verdict, stale=tuple(_stale(situation, one, wanted)))
    ages = situation.ages(one.manifest)
    if ages is None:
        # What answers now is the pod before, which kubelet would have ended: containers outlive it.
        situation.changing = situation.changing or one.component
        situation.findings.wait(
            one.component,
            "kubelet or its runtime isn't running, and this pod wasn't started yet",
            external=True,
        )
        return verdict
    ill = situation.ill(one.component, one.health)
    if ill is None and not any(0 <= age < SETTLED for age in ages):
        reason = "it is healthy: this is the pod to go back to"
        return replace(verdict, files=(FileWanted(good_path(one.component), wanted, reason),))
    situation.changing = situation.changing or one.component
    if ill is None:
        situation.findings.wait(one.component, "it is watched until it has been up for a minute", external=True)
        return verdict
    asked = isinstance(situation.facts.health.get(one.health), Unknown | Health)
    in_time = min(ages) <= PATIENCE or ages[0] >= LONG_AGO
    if good is not None and asked and not in_time and not tuple(excuses):
        reason = f"it did not come up within {PATIENCE:.0f} s: {ill}"
        condemned = FileWanted(condemned_path(one.component), one.text, reason, warning=True)
        return replace(verdict, files=(condemned,))
    situation.findings.wait(one.component, f"it isn't up yet: {ill}", external=True)
    return verdict


def _stale(situation: Situation, one: Candidate, wanted: str) -> Iterator[str]:
    """Our files that neither the pod that runs nor the one that is configured names."""
    files = situation.facts.node.files
    assert not isinstance(files, Unknown)
    folder, kept = configuration_dir(one.component), {each.path for each in one.files}
    for path, state in sorted(files.items()):
        ours = path.rpartition("/")[0] == folder and isinstance(state, File) and path.endswith(".yaml")
        if ours and path not in wanted and path not in kept:
            yield path
