"""Names that the API server or kubelet would refuse: a node's, and those of labels that kubelet gives its node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from protokube.core.component.labels import is_label_key, is_label_value, is_subdomain
from protokube.core.model import Fault

# kubelet's own allow-list (k8s.io/kubelet/pkg/apis/well_known_labels.go), unchanged since 1.17.
_SELF_LABELS = frozenset({
    "kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch",
    "beta.kubernetes.io/os", "beta.kubernetes.io/arch", "beta.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone", "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
})  # fmt: skip
_SELF_NAMESPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")


def node_name_fault(name: str, place: str = "node name") -> Fault | None:
    """The fault of a node's name, if any. It also becomes the value of the label kubernetes.io/hostname."""
    if len(name) <= 63 and is_subdomain(name):
        return None
    return Fault(
        place,
        f"{name!r} can't name a node; expected at most 63 lower case letters, digits, '-' and '.', each part between "
        "dots beginning and ending with a letter or digit",
    )


def label_faults(labels: Mapping[str, str], place: str) -> Iterator[Fault]:
    """Yield the faults of labels that kubelet gives its node: their syntax, and namespaces closed to kubelet."""
    for key, value in sorted(labels.items()):
        if not is_label_key(key):
            yield Fault(place, f"{key!r} is no label; expected a key like rack or example.com/rack")
        if not is_label_value(value):
            yield Fault(
                place,
                f"{value!r}, the value of {key}, is wrong; expected at most 63 letters, digits, '-', '_' and '.', "
                "beginning and ending with a letter or digit",
            )
        if _kept_from_kubelet(key):
            yield Fault(
                place,
                f"kubelet refuses to give itself the label {key!r} and exits; expected a label outside kubernetes.io "
                f"and k8s.io, or below {' or '.join(_SELF_NAMESPACES)}. A role is given through the API: "
                f"kubectl label node NODE {key}={value}",
            )


def _kept_from_kubelet(key: str) -> bool:
    # The admission plugin NodeRestriction keeps a node from giving itself a role; kubelet checks the same list first.
    namespace = key.rpartition("/")[0]

    def within(*domains: str) -> bool:
        return any(namespace == domain or namespace.endswith(f".{domain}") for domain in domains)

    return within("kubernetes.io", "k8s.io") and not (within(*_SELF_NAMESPACES) or key in _SELF_LABELS)
