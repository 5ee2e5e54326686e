"""containerd's configuration for the version that is installed, registry mirrors, and crictl's configuration.

containerd ignores what it doesn't understand without an error: 1.6 reads nothing of a version-3 file, and no release
reads long plugin names without `version`. So a file is written for known releases only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from protokube.core.model import Rejected

CONFIG = "/etc/containerd/config.toml"
MIRRORS = "/etc/containerd/certs.d"
CRICTL = "/etc/crictl.yaml"
SERVICE = "containerd.service"
ENDPOINT = "unix:///run/containerd/containerd.sock"

UPSTREAM_PLUGINS = "/opt/cni/bin"
DEBIAN_PLUGINS = "/usr/lib/cni"
PLUGIN_DIRECTORIES = (UPSTREAM_PLUGINS, DEBIAN_PLUGINS)

CONTAINERD_PACKAGES = ("containerd", "containerd.io")
"""Debian's package and Docker's; they conflict."""
PLUGIN_PACKAGES = ("containernetworking-plugins", "kubernetes-cni")
"""Debian's package of CNI plugins, in /usr/lib/cni, and Kubernetes', in /opt/cni/bin."""

PAUSE_IMAGE = "registry.k8s.io/pause:3.10.2"
"""kubeadm's for 1.36. kubelet never removes it, and every pod needs it."""

DEFAULT_REGISTRY = "*"
"""Stands for every registry that has no mirrors of its own."""

_DEFAULT_DIRECTORY = "_default"
_VERSION = re.compile(r"v?(\d{1,9})\.(\d{1,9})")
HEAD = "# Written by nodeup, which replaces it whenever it changes.\n"
"""The first line of every file here: what bears it is ours."""

# Debian's own file sets this path: its packages keep out of /opt.
_OPT = '[plugins."io.containerd.internal.v1.opt"]\npath = "/var/lib/containerd/opt"\n'

_VERSION_2 = (
    """\
version = 2

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{first}"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{mirrors}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = true

"""
    + _OPT
)

_VERSION_3 = (
    """\
version = 3

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"

[plugins."io.containerd.cri.v1.images".registry]
config_path = "{mirrors}"

[plugins."io.containerd.cri.v1.runtime".cni]
{plugins}

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = true

"""
    + _OPT
)


class ContainerdSettings(Struct, frozen=True):
    """What may be said about containerd. `mirrors`: registry host → the URLs that are asked before it."""

    pause_image: str = PAUSE_IMAGE
    mirrors: Mapping[str, tuple[str, ...]] = {}


class ContainerdFile(Struct, frozen=True):
    """A file of containerd's or crictl's. `restarts` names the unit that must restart to read it, if one must."""

    path: str
    content: str
    restarts: str | None = None


def containerd_files(
    settings: ContainerdSettings, version: str | None, former: Collection[str] = ()
) -> tuple[ContainerdFile, ...] | Rejected:
    """Every file for containerd, or why there can't be one.

    `version` is what `containerd --version` or its package says, None when it isn't installed. `former` are the
    directories of MIRRORS that nodeup has written before.
    """
    config = config_toml(settings.pause_image, version)
    if isinstance(config, Rejected):
        return config
    # A registry that has lost its mirrors keeps its directory, which hides _default. So it gets what that has.
    every = settings.mirrors.get(DEFAULT_REGISTRY, ())
    lost = {DEFAULT_REGISTRY if name == _DEFAULT_DIRECTORY else name: every for name in former}
    # hosts.toml is read at every pull (containerd's docs/hosts.md), so a mirror never restarts containerd.
    mirrors = (
        ContainerdFile(f"{MIRRORS}/{_directory(registry)}/hosts.toml", hosts_toml(registry, urls))
        for registry, urls in sorted({**lost, **settings.mirrors}.items())
    )
    return (ContainerdFile(CONFIG, config, SERVICE), *mirrors, ContainerdFile(CRICTL, crictl_yaml()))


def config_toml(pause_image: str, version: str | None) -> str | Rejected:
    """config.toml for a version of containerd.

    The directories of CNI plugins don't depend on what lies in them: a network add-on that brings plugins of its own
    would change the file, and restart containerd.
    """
    if version is None:
        return Rejected(
            "containerd/version",
            "containerd: not installed; add `containerd` to packages, or its archive to assets",
        )
    release = _release(version)
    values = {"pause": pause_image, "mirrors": MIRRORS, "first": UPSTREAM_PLUGINS}
    if release in ((1, 6), (1, 7)):
        return HEAD + _VERSION_2.format_map(values)
    if release is not None and release[0] == 2:
        # 2.1 deprecates bin_dir, and refuses both side by side.
        quoted = [f'"{one}"' for one in PLUGIN_DIRECTORIES]
        key = f"bin_dir = {quoted[0]}" if has_one_directory(version) else f"bin_dirs = [{', '.join(quoted)}]"
        return HEAD + _VERSION_3.format_map({**values, "plugins": key})
    return Rejected(
        "containerd/version",
        f"containerd: version {version!r} is not known here (expected 1.6, 1.7 or 2.x); install one of these, "
        "or a nodeup that knows it",
    )


def has_one_directory(version: str) -> bool:
    """Whether this containerd looks for CNI plugins in one directory only: before 2.1."""
    release = _release(version)
    return release is not None and release < (2, 1)


def _release(version: str) -> tuple[int, int] | None:
    found = _VERSION.match(version)
    return (int(found[1]), int(found[2])) if found else None


def hosts_toml(registry: str, mirrors: Sequence[str]) -> str:
    """hosts.toml of a registry: its mirrors in their order, and then the registry itself."""
    parts = [HEAD]
    if registry != DEFAULT_REGISTRY:
        # docker.io is a name for people; its API is elsewhere (containerd's docs/hosts.md).
        host = "registry-1.docker.io" if registry == "docker.io" else registry
        parts.append(f'server = "https://{host}"\n')
    for url in mirrors:
        parts.append(f'\n[host."{url}"]\ncapabilities = ["pull", "resolve"]\n')
        if "/v2/" in url:
            # Else containerd appends /v2 to a path that already goes below it, as Harbor's proxy projects do.
            parts.append("override_path = true\n")
    return "".join(parts)


def crictl_yaml() -> str:
    """crictl's configuration: without it crictl guesses among the sockets of three runtimes."""
    return f"{HEAD}runtime-endpoint: {ENDPOINT}\nimage-endpoint: {ENDPOINT}\ntimeout: 10\n"


def _directory(registry: str) -> str:
    return _DEFAULT_DIRECTORY if registry == DEFAULT_REGISTRY else registry
