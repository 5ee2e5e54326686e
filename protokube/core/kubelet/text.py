"""The texts of kubelet's two files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from protokube.core.component.text import document, environment_file


def args_file(flags: Sequence[str]) -> str:
    """The text of /etc/sysconfig/kubelet, such that `$DAEMON_ARGS` in kubelet's unit becomes exactly `flags`."""
    return environment_file("DAEMON_ARGS", flags)


def config_file(tree: Mapping[str, object]) -> str:
    """The text of a KubeletConfiguration with the given fields, sorted by name."""
    return document("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration", tree)
