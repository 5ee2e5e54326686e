"""What would keep kubelet and protokube from asking the API server of their own machine for its health.

Both ask the loopback address, without a certificate. kubelet ends an API server that doesn't answer, again and again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from protokube.core.controlplane.layers import Configured
from protokube.core.model import Fault

HEALTH_PATHS = ("/livez", "/readyz", "/healthz")
_ASKED = "kubelet and protokube ask for the API server's health"


def unreachable_faults(configured: Configured) -> Iterator[Fault]:
    """Every setting of the API server that closes it to questions after its health."""
    bind, anonymous = configured.settings.get("bindAddress"), configured.settings.get("anonymousAuth")
    if bind is not None and bind.value not in ("0.0.0.0", "::"):
        yield Fault(bind.place, f"{bind.value} is wrong; expected 0.0.0.0 or ::, since {_ASKED} at 127.0.0.1")
    if anonymous is not None and anonymous.value is False:
        yield Fault(anonymous.place, f"false is wrong; expected true, since {_ASKED} without a certificate")
    inner = configured.files.get("authenticationConfig", {})
    said = [setting for name, setting in inner.items() if name.startswith("anonymous.")]
    enabled, conditions = inner.get("anonymous.enabled"), inner.get("anonymous.conditions")
    if said and (enabled is None or enabled.value is not True):
        yield Fault(
            (enabled or said[0]).place, f"expected anonymous.enabled: true, since {_ASKED} without a certificate"
        )
    if conditions is not None and isinstance(conditions.value, list) and conditions.value:
        open_to_all = {each.get("path") for each in conditions.value if isinstance(each, Mapping)}
        if missing := [path for path in HEALTH_PATHS if path not in open_to_all]:
            yield Fault(
                conditions.place, f"lack {', '.join(missing)}; expected them, since {_ASKED} without a certificate"
            )
