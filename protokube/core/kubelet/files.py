"""kubelet's files, as they are to be on this node. Loaded once the installed kubelet is known, and no earlier."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from protokube.core.component.schema import choose_version, parse_version
from protokube.core.kubelet.identity import CLIENT, SERVING, directory, kubeconfig
from protokube.core.kubelet.join import bootstrap_kubeconfig
from protokube.core.kubelet.model import FileWanted, KubeletBinary, KubeletNode, KubeletSettings
from protokube.core.kubelet.paths import ARGS_PATH, BOOTSTRAP_PATH, CONFIG_PATH, KUBECONFIG_PATH
from protokube.core.kubelet.render import KubeletFiles, KubeletInput, render
from protokube.core.memo import Memo
from protokube.core.model import Fault, Unknown
from protokube.core.node.model import Absent, File
from protokube.core.volumes.model import Instance

_RELOADS_SERVING = (1, 31)
"""The first version whose kubelet reads the certificate of its own API again (ReloadKubeletServerCertificateFile)."""

_rendered: Memo[KubeletFiles | tuple[Fault, ...]] = Memo()
"""A reconcile judges several snapshots, and few of them differ in what kubelet's files are made of."""


def kubelet_files(
    settings: KubeletSettings, facts: KubeletNode, instance: Instance
) -> KubeletFiles | tuple[Fault, ...]:
    """Render kubelet's files for this node. The caller knows the installed kubelet, or knows that there is none."""
    binary = facts.kubelet.binary
    assert not isinstance(binary, Unknown)
    version = choose_version(settings.version, binary.version if binary else None)
    if isinstance(version, Fault):
        return (version,)
    # The lowest first: cluster, control plane, instance group, node.
    layers = settings.layers + (settings.master_layers if settings.master else ())
    layers += settings.group_layers.get(instance.instance_group or "", ())
    layers += settings.node_layers.get(instance.name, ())
    given = KubeletInput(
        version=version,
        layers=layers,
        node_labels=settings.node_labels,
        node_name=instance.name,
        node_ips=instance.internal,
        provider_id=instance.provider_id,
        master=settings.master,
        kubeconfig_present=_kubeconfig(settings, facts) is not None
        or not isinstance(facts.file(KUBECONFIG_PATH), Absent),
        joins=settings.api is not None,
        cluster_dns=settings.cluster_dns,
        identity=settings.control_plane and SERVING in facts.held,
        manifest_dir=settings.manifest_dir,
        machine=facts.kubelet.machine,
        known_flags=binary.flags if binary else None,
    )
    return _rendered.of(settings, given, partial(render, given))


def differing(settings: KubeletSettings, facts: KubeletNode, rendered: KubeletFiles) -> Iterator[FileWanted]:
    """The files that aren't as they are to be."""
    wanted = {ARGS_PATH: rendered.args_file, CONFIG_PATH: rendered.config_file}
    if (identity := _kubeconfig(settings, facts)) is not None:
        wanted[KUBECONFIG_PATH] = identity
    if settings.api is not None:
        wanted[BOOTSTRAP_PATH] = bootstrap_kubeconfig(settings.api)
    for path, text in wanted.items():
        state = facts.file(path)
        if isinstance(state, File) and state.text == text:
            continue
        reason = "it is missing" if isinstance(state, Absent) else "it differs from the configuration"
        yield FileWanted(path, text, reason)


def _kubeconfig(settings: KubeletSettings, facts: KubeletNode) -> str | None:
    """The kubeconfig that protokube writes; None where another hand brings it, or its certificate is missing."""
    if not settings.control_plane or CLIENT not in facts.held:
        return None
    return kubeconfig(f"https://{facts.api_host}:{settings.api_port}", directory(CLIENT))


def reads_serving_certificate_once(facts: KubeletNode) -> bool:
    """Whether the kubelet that runs serves with the certificate that is issued here, and doesn't read it again."""
    binary = facts.kubelet.binary
    version = parse_version(binary.version) if isinstance(binary, KubeletBinary) else None
    if version is None or isinstance(version, Fault) or version[:2] >= _RELOADS_SERVING:
        return False
    files = [facts.file(path) for path in (ARGS_PATH, CONFIG_PATH)]
    return any(isinstance(one, File) and f"{directory(SERVING)}/" in (one.text or "") for one in files)
