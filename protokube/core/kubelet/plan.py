"""kubelet's files, and the gate: kubelet starts once what it needs is there, in every round in which it is down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protokube.core.disks.plan import attached, mount_of
from protokube.core.etcd.members import link_path
from protokube.core.kubelet.known_good import GOOD, REJECTED, Pair, Proof, is_rejected, last_good, pair_of, prove
from protokube.core.kubelet.known_good import PATHS as PROOF_PATHS
from protokube.core.kubelet.paths import ARGS_PATH, CONFIG_PATH, KUBECONFIG_PATH
from protokube.core.model import Fault, Unknown, Unread
from protokube.core.node.actions import RestartUnit, StartUnit, WriteFile
from protokube.core.node.model import Absent, File, Link, UnitState
from protokube.core.observed import Observed
from protokube.core.settings import NodeConfig
from protokube.core.steps import Plan
from protokube.core.volumes.assess import Desired, claimable
from protokube.core.volumes.model import MAIN, AttachState, Instance, MemberVolume
from protokube.core.volumes.plan import coming

if TYPE_CHECKING:
    from protokube.core.kubelet.render import KubeletFiles

PATHS = (ARGS_PATH, CONFIG_PATH, KUBECONFIG_PATH, *PROOF_PATHS)

_UP = ("active", "activating", "reloading")


def kubelet_files(config: NodeConfig, observed: Observed, instance: Instance) -> KubeletFiles | tuple[Fault, ...]:
    """Render kubelet's files for this node; the installed kubelet is known, or known to be absent."""
    from protokube.core.component.schema import choose_version
    from protokube.core.kubelet.render import KubeletInput, render  # not before a plan needs it: see Observer.late

    assert not isinstance(observed.kubelet, Unknown)
    version = choose_version(config.kubernetes_version, observed.kubelet.version if observed.kubelet else None)
    if isinstance(version, Fault):
        return (version,)
    layers = config.kubelet_layers
    if config.master:
        layers += config.master_kubelet_layers
    layers += config.group_kubelet_layers.get(instance.instance_group or "", ())
    kubeconfig = (
        observed.files.get(KUBECONFIG_PATH, Absent()) if not isinstance(observed.files, Unknown) else Absent()
    )
    return render(
        KubeletInput(
            version=version,
            layers=layers,
            node_labels=config.node_labels,
            node_name=instance.name,
            node_ips=instance.internal,
            provider_id=instance.provider_id,
            master=config.master,
            kubeconfig_present=not isinstance(kubeconfig, Absent),
            manifest_dir=config.manifest_dir,
            machine=observed.machine,
            known_flags=observed.kubelet.flags if observed.kubelet else None,
        )
    )


def plan_kubelet(config: NodeConfig, observed: Observed, desired: Desired | None, plan: Plan) -> None:
    """Plan kubelet's files and unit. Without its files kubelet isn't started."""
    if isinstance(observed.instance, Unknown):
        if config.kubelet_unit is not None:
            plan.wait(config.kubelet_unit, "the instance is unknown", theirs=True)
        return
    if isinstance(observed.files, Unknown):
        if not any(part.subject == "files" for part in plan.unknown):
            plan.ignorance("files", observed.files.reason)
        return
    if isinstance(observed.kubelet, Unread):
        plan.wait("kubelet", observed.kubelet.reason)
        return
    if isinstance(observed.kubelet, Unknown):
        plan.ignorance("kubelet", observed.kubelet.reason)
        return
    rendered = kubelet_files(config, observed, observed.instance)
    if isinstance(rendered, tuple):
        for fault in rendered:
            plan.refuse("kubelet", "kubelet/configuration", str(fault))
        return
    plan.notes.extend(f"kubelet: {note}" for note in rendered.notes)
    written = _plan_files(observed, _wanted(observed, pair_of(rendered), plan), plan)
    if config.kubelet_unit is not None:
        _plan_unit(config, observed, desired, config.kubelet_unit, plan, written=written)


def _wanted(observed: Observed, rendered: Pair, plan: Plan) -> Pair:
    """What should stand on disk: what was rendered, unless kubelet doesn't stay up with it."""
    good = last_good(observed)
    if good is None or good == rendered or not is_rejected(observed, rendered):
        return rendered
    evidence = (
        "kubelet did not stay up with the files of this configuration, and has the last good ones back; "
        f"see journalctl -u kubelet. Change the configuration, or remove {REJECTED} to try it again"
    )
    plan.refuse("kubelet", "kubelet/rolled-back", evidence)
    return good


def _plan_files(observed: Observed, wanted: Pair, plan: Plan) -> bool:
    """Plan the files that differ; the answer says whether everything is already written."""
    assert not isinstance(observed.files, Unknown)
    written = True
    for path, text in ((ARGS_PATH, wanted.args), (CONFIG_PATH, wanted.config)):
        there = observed.files.get(path, Absent())
        if isinstance(there, File) and there.text == text:
            continue
        written = False
        reason = "it is missing" if isinstance(there, Absent) else "it differs from the configuration"
        plan.step(observed, WriteFile(path, text), reason)
    return written


def _plan_unit(
    config: NodeConfig, observed: Observed, desired: Desired | None, name: str, plan: Plan, *, written: bool
) -> None:
    unit = observed.unit
    if isinstance(unit, Unknown) or unit is None:
        plan.ignorance(name, unit.reason if unit else "its state was not read")
        return
    if unit.load != "loaded":
        plan.refuse(name, "kubelet/unit", f"{name} is {unit.load}; protokube starts it, and never fights that")
        return
    if not written:
        return
    if _plan_proof(config, observed, unit, plan):
        return
    if unit.active in _UP:
        _plan_restart(observed, name, unit, plan)
        return
    if unit.active == "deactivating":
        plan.wait(name, "it is stopping")
        return
    closed = gate(config, observed, desired)
    if closed and observed.uptime < config.gate_timeout:
        plan.wait(name, f"not started before {'; '.join(closed)}", theirs=True)
        return
    if left := observed.holds.get(name):
        plan.wait(name, f"it was started several times in vain; next try in {left:.0f} s")
        return
    reason = f"it is {unit.active}"
    if closed:
        reason += f"; the gate opened after {config.gate_timeout:.0f} s, before {'; '.join(closed)}"
    plan.step(observed, StartUnit(name), reason, loud=bool(closed))


def _plan_proof(config: NodeConfig, observed: Observed, unit: UnitState, plan: Plan) -> bool:
    """Keep what proved good, reject what proved bad; the answer says whether files are about to change."""
    assert not isinstance(observed.files, Unknown)
    there = tuple(observed.files[path] for path in (ARGS_PATH, CONFIG_PATH))
    args, text = (state.text or "" if isinstance(state, File) else "" for state in there)
    pair = Pair(args, text)
    match prove(observed, unit, config.kubelet_proof_time):
        case Proof.PROVEN if pair != last_good(observed):
            reason = f"kubelet has been up with these files for {config.kubelet_proof_time:.0f} s"
            plan.step(observed, WriteFile(GOOD, pair.render()), reason)
        case Proof.FAILED if (good := last_good(observed)) in (None, pair):
            once = "although it once did with these files" if good else "and there are none with which it ever did"
            evidence = f"kubelet doesn't stay up, {once}; see journalctl -u kubelet"
            plan.refuse("kubelet", "kubelet/not-coming-up", evidence)
        case Proof.FAILED:
            reason = f"kubelet did not stay up with these files for {config.kubelet_proof_time:.0f} s"
            plan.step(observed, WriteFile(REJECTED, pair.digest + "\n"), reason, loud=True)
            return True
        case _:
            pass
    return False


def _plan_restart(observed: Observed, name: str, unit: UnitState, plan: Plan) -> None:
    """Restart a kubelet that was started with other files than those on disk."""
    assert not isinstance(observed.files, Unknown)
    if unit.started_at is None or unit.active != "active":
        return
    newer = [
        path
        for path in (ARGS_PATH, CONFIG_PATH)
        if isinstance(state := observed.files.get(path), File)
        and unit.started_at < state.mtime_ns / 1e9 <= observed.now
    ]
    if not newer:
        return
    if left := observed.holds.get(name):
        plan.wait(name, f"{', '.join(newer)} changed; restarted often enough, next in {left:.0f} s")
        return
    plan.step(
        observed, RestartUnit(name), f"kubelet restarts because {', '.join(newer)} changed after it was started"
    )


def gate(config: NodeConfig, observed: Observed, desired: Desired | None) -> list[str]:
    """Why kubelet should not start yet; empty when the gate is open. DNS is not in the gate."""
    if not config.master:
        return []
    if desired is None:
        return ["the cloud has answered"]
    free = [mine.id for candidates in claimable(desired).values() for mine in candidates]
    reasons = [f"{volume_id} is claimed" for volume_id in free]
    reasons += [f"{volume_id} is free ({why})" for volume_id, why in coming(observed, desired).items()]
    if MAIN not in desired.held and not any(_is_main_here(mine, desired) for mine in desired.all):
        reasons.append(f"a volume of etcd cluster {MAIN} is known in zone {desired.instance.zone}")
    complete = {mine.id for mine in attached(desired)}
    for mine in desired.held.values():
        attachment = mine.volume.attachment_to(desired.instance.id)
        if mine.id not in complete:
            if attachment and attachment.state is not AttachState.DETACHING:
                reasons.append(f"{mine.id} is attached")
        elif mount_of(observed, mine) is None:
            reasons.append(f"{mine.id} is mounted")
        else:
            path = link_path(config, config.templates[mine.member.cluster])
            there = observed.files.get(path) if not isinstance(observed.files, Unknown) else None
            if not (isinstance(there, Link) and there.target.startswith(mine.target + "/")):
                reasons.append(f"{path} stands")
    return reasons


def _is_main_here(mine: MemberVolume, desired: Desired) -> bool:
    return mine.member.cluster == MAIN and mine.volume.zone == desired.instance.zone
