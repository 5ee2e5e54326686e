"""A pod as far as it is obeyed here, typed. The pod itself stays plain JSON, with every field that it came with.

Field names and defaults are those of Kubernetes' core/v1.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, convert, field

Json = dict[str, Any]
Pod = Json
PodStatus = Json


class _Part(Struct, frozen=True, rename="camel"):
    """Something within a pod."""


class Header(_Part, frozen=True):
    """A header of an HTTP probe."""

    name: str
    value: str = ""


class HttpGet(_Part, frozen=True):
    """An HTTP request to the pod, or to `host`. A named port is one of the container's."""

    port: int | str
    path: str = "/"
    host: str | None = None
    scheme: str = "HTTP"
    http_headers: tuple[Header, ...] = ()


class TcpSocket(_Part, frozen=True):
    """A connection to the pod, or to `host`."""

    port: int | str
    host: str | None = None


class Exec(_Part, frozen=True):
    """A command in the container, without a shell."""

    command: tuple[str, ...]


class Handler(_Part, frozen=True):
    """A hook's deed: exactly one of its kinds."""

    exec: Exec | None = None
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    grpc: Json | None = None


class Probe(Handler, frozen=True):
    """A probe: what it does, and how often. Times are seconds."""

    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class Lifecycle(_Part, frozen=True):
    """A container's hooks."""

    post_start: Handler | None = None
    pre_stop: Handler | None = None


class FieldRef(_Part, frozen=True):
    """A field of the pod."""

    field_path: str


class ValueFrom(_Part, frozen=True):
    """Where a variable's value comes from."""

    field_ref: FieldRef | None = None
    secret_key_ref: Json | None = None
    config_map_key_ref: Json | None = None
    resource_field_ref: Json | None = None


class EnvVar(_Part, frozen=True):
    """A variable of the environment."""

    name: str
    value: str = ""
    value_from: ValueFrom | None = None


class VolumeMount(_Part, frozen=True):
    """Where the container has a volume."""

    name: str
    mount_path: str
    read_only: bool = False
    sub_path: str = ""
    sub_path_expr: str = ""


class Port(_Part, frozen=True):
    """A port that the container listens on."""

    container_port: int
    host_port: int = 0
    name: str = ""
    protocol: str = "TCP"
    host_ip: str = field(default="", name="hostIP")


class Resources(_Part, frozen=True):
    """Quantities by resource name."""

    requests: dict[str, str | int | float] = {}
    limits: dict[str, str | int | float] = {}


class Container(_Part, frozen=True):
    """A container of the pod. `restart_policy` is an init container's own: Always makes it a sidecar."""

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[Json, ...] = ()
    working_dir: str = ""
    ports: tuple[Port, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    resources: Resources = Resources()
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    image_pull_policy: str | None = None
    security_context: Json = {}
    restart_policy: str | None = None

    @property
    def sidecar(self) -> bool:
        """Whether an init container runs beside the others."""
        return self.restart_policy == "Always"


class HostPath(_Part, frozen=True):
    """A path of the machine. An empty type checks nothing."""

    path: str
    type: str = ""


class Volume(_Part, frozen=True):
    """A volume of a kind that runs here; any other kind is refused before."""

    name: str
    host_path: HostPath | None = None
    empty_dir: Json | None = None
    secret: Json | None = None
    config_map: Json | None = None
    downward_api: Json | None = field(default=None, name="downwardAPI")
    projected: Json | None = None


class Spec(_Part, frozen=True):
    """A pod's spec."""

    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30
    active_deadline_seconds: int | None = None
    host_network: bool = False
    node_name: str = ""
    service_account_name: str = ""

    def all_containers(self) -> tuple[Container, ...]:
        """Every container, those that come first first."""
        return (*self.init_containers, *self.containers)


def spec_of(pod: Pod) -> Spec:
    """The pod's spec, typed. Raises msgspec.ValidationError for one that was never checked."""
    return convert(without_nulls(pod["spec"]), Spec)


def without_nulls(value: Any) -> Any:
    """The same JSON without null fields: Kubernetes reads them as absent."""
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [without_nulls(one) for one in value]
    return value
