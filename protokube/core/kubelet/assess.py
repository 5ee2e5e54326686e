"""kubelet's files, and when its unit is started or restarted.

A unit that is down is started once its files are written and the gate is open, in every reconcile that finds it down.
"""

from __future__ import annotations

from msgspec import Struct

from protokube.core.kubelet.backoff import UnitTracking
from protokube.core.kubelet.gate import Gate
from protokube.core.kubelet.identity import CLIENT, SERVING, directory
from protokube.core.kubelet.join import CA_PATH
from protokube.core.kubelet.model import FileWanted, KubeletAssessment, KubeletNode, KubeletSettings, UnitWanted
from protokube.core.kubelet.paths import ARGS_PATH, CONFIG_PATH, KUBECONFIG_PATH
from protokube.core.model import Unknown, Unread
from protokube.core.node.model import Absent, File, UnitState
from protokube.core.steps import Findings
from protokube.core.volumes.model import Instance

_UP = ("active", "activating", "reloading")
_OFTEN = 3
"""After so many restarts by systemd kubelet counts as not coming up, until it has been up for `_UP_FOR` seconds."""
_UP_FOR = 60.0


def assess(settings: KubeletSettings, facts: KubeletNode, tracking: UnitTracking, gate: Gate) -> KubeletAssessment:
    """Judge kubelet. It is not started without its files."""
    findings = Findings()
    nothing = KubeletAssessment(findings=findings)
    if isinstance(facts.instance, Unknown):
        # Node name, addresses and provider id follow from the instance. kubelet would register under other ones.
        if settings.unit is not None:
            findings.wait(settings.unit, "the instance is unknown", external=True)
        return nothing
    if isinstance(facts.node.files, Unknown):
        findings.not_known("files", facts.node.files.reason)
        return nothing
    if _awaits_identity(settings, facts):
        findings.wait("kubelet", "its certificates are awaited", external=True)
        return nothing
    judge = _Judge(settings, facts, tracking, findings)
    if not settings.is_kubelet:
        unit = judge.unit(gate, startable=True, stale=None) if settings.unit is not None else None
        return KubeletAssessment((), unit, findings)
    # To ask a binary for its version and flags takes seconds: disks don't wait for the answer.
    if isinstance(facts.kubelet.binary, Unread):
        findings.wait("kubelet", facts.kubelet.binary.reason)
        return nothing
    files, stale = _files(settings, facts, facts.instance, findings)
    # One pass writes, the next one starts: no action leans on another of its pass.
    stand = all(isinstance(facts.file(path), File) for path in (ARGS_PATH, CONFIG_PATH))
    startable = not files if stale is None else stand
    unit = judge.unit(gate, startable=startable, stale=stale) if settings.unit is not None else None
    return KubeletAssessment(files, unit, findings)


def _files(
    settings: KubeletSettings, facts: KubeletNode, instance: Instance, findings: Findings
) -> tuple[tuple[FileWanted, ...], str | None]:
    """The files to write. Where they can't be told, a text says with which files kubelet starts, and why.

    Neither a typo nor a binary or a directory that can't be read for a moment may keep the control plane down.
    """
    if settings.control_plane and isinstance(facts.certificates, Unknown):
        reason = f"its files stand still: its certificates are unknown ({facts.certificates.reason})"
        findings.wait("kubelet", reason, external=True)
        return (), "with the files that stand, since its certificates can't be read"
    if isinstance(facts.kubelet.binary, Unknown):
        findings.not_known("kubelet", facts.kubelet.binary.reason)
        return (), "with the files that stand, since kubelet can't be asked for its version and flags"
    # kubelet's tables are a tenth of the program. Disks don't wait for them.
    from protokube.core.kubelet.files import differing, kubelet_files

    rendered = settings.faults or kubelet_files(settings, facts, instance)
    if isinstance(rendered, tuple):
        for fault in rendered:
            findings.refuse("kubelet", "kubelet/configuration", str(fault))
        return (), "with the files of the last good configuration, since this one is faulty"
    findings.hints += [f"kubelet: {note}" for note in rendered.notes]
    return tuple(differing(settings, facts, rendered)), None


def _awaits_identity(settings: KubeletSettings, facts: KubeletNode) -> bool:
    """Whether kubelet's files wait for its first certificates; no longer than for volumes, and it starts without."""
    if not settings.control_plane or {CLIENT, SERVING} <= facts.held:
        return False
    return isinstance(facts.file(KUBECONFIG_PATH), Absent) and facts.at.uptime < settings.gate_timeout


class _Judge(Struct, frozen=True):
    """Judges kubelet's unit; refusals and waits go to `findings`."""

    settings: KubeletSettings
    facts: KubeletNode
    tracking: UnitTracking
    findings: Findings

    def unit(self, gate: Gate, *, startable: bool, stale: str | None) -> UnitWanted | None:
        """Decide whether to start or restart the unit.

        `startable`: its files are written. `stale`: they may be an earlier configuration's, so it isn't restarted.
        """
        name, unit = self.settings.unit, self.facts.node.unit
        assert name is not None
        if isinstance(unit, Unknown) or unit is None:
            self.findings.not_known(name, unit.reason if unit else "its state was not read")
            return None
        # A masked or missing unit is an operator's decision, or a package's fault.
        if unit.load != "loaded":
            evidence = f"{name} is {unit.load}; protokube starts it, and never fights that"
            self.findings.refuse(name, "kubelet/unit", evidence)
            return None
        if not startable:
            return None
        if unit.active in _UP:
            wanted = None if stale else self._restart(name, unit)
            if wanted is None:
                self._judge_up(unit)
            return wanted
        if unit.active == "deactivating":
            self.findings.wait(name, "it is stopping")
            return None
        return self._start(name, unit, gate, stale=stale)

    def _start(self, name: str, unit: UnitState, gate: Gate, *, stale: str | None) -> UnitWanted | None:
        uptime = self.facts.at.uptime
        if gate.closed and uptime < self.settings.gate_timeout:
            self.findings.wait(name, f"not started before {'; '.join(gate.closed)}", external=True)
            return None
        if left := self.tracking.pause(name, uptime, unit.restarts):
            self.findings.wait(name, f"it was started in vain; next try in {left:.0f} s")
            return None
        reason = f"it is {unit.active}"
        # Past the time-out kubelet starts anyway: the node's other pods must not wait for ever for a volume.
        if gate.closed:
            waited = f"the gate opened after {self.settings.gate_timeout:.0f} s"
            reason += f"; {waited}, before {'; '.join(gate.closed)}"
        if stale:
            reason += f"; {stale}"
        return UnitWanted(name, reason, warning=bool(stale or gate.closed))

    def _judge_up(self, unit: UnitState) -> None:
        """Refuse a kubelet that doesn't stay up, so that people see it while systemd restarts it."""
        up = self.facts.at.now - unit.started_at if unit.started_at is not None and unit.active == "active" else 0.0
        if unit.restarts >= _OFTEN and 0 <= up < _UP_FOR:
            name = (self.settings.unit or "").removesuffix(".service")
            evidence = f"{name} doesn't stay up: systemd has started it again {unit.restarts} times"
            self.findings.refuse(name, "kubelet/not-coming-up", f"{evidence}; see journalctl -u {name}")

    def _read_at_start(self) -> tuple[str, ...]:
        """Files beside its own that kubelet reads at its start alone."""
        own = (KUBECONFIG_PATH,) if self.settings.control_plane else ()
        return own if self.settings.api is None else (*own, CA_PATH)

    def _restart(self, name: str, unit: UnitState) -> UnitWanted | None:
        """Restart a kubelet that was started with other files than those on disk."""
        if unit.started_at is None or unit.active != "active" or not self.settings.is_kubelet:
            return None
        # A file from the future tells of a clock that was set back, not of a change.
        newer = [
            path
            for path in (ARGS_PATH, CONFIG_PATH, *self._read_at_start())
            if isinstance(state := self.facts.file(path), File)
            and unit.started_at < state.mtime_ns / 1e9 <= self.facts.at.now
        ]
        issued = self.facts.serving_issued
        if issued is not None and unit.started_at < issued <= self.facts.at.now:
            from protokube.core.kubelet.files import reads_serving_certificate_once

            newer += [directory(SERVING)] if reads_serving_certificate_once(self.facts) else []
        if not newer:
            return None
        changed = ", ".join(newer)
        if left := self.tracking.restart_pause(name, self.facts.at.uptime, self.settings.restarts_per_hour):
            self.findings.wait(name, f"{changed} changed; restarted often enough, next in {left:.0f} s")
            return None
        return UnitWanted(name, f"kubelet restarts because {changed} changed after it was started", restart=True)
