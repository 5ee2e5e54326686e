"""Reads the `assets` section of a node's configuration."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from protokube.core.located import Located, Section
from protokube.core.model import Fault
from protokube.core.node.assets import ARCHITECTURES, Asset, Extract, containerd_target

KEYS = ("archive", "arch", "extract", "path", "sha256", "unpackedSha256", "urls")

_HASH = re.compile(r"[0-9a-fA-F]{64}")
_SCHEMES = ("https", "http", "file")
_NEVER = ("/proc/", "/sys/", "/dev/", "/run/")
_SHOWN = 100
PROGRAM_PLACES = ("/usr/local/bin", "/usr/bin")
"""Where nodeup looks for the programs that units start."""
_COMPRESSED = (".gz", ".xz", ".tgz", ".txz")
_PACKED_OTHERWISE = (".bz2", ".lz4", ".tbz2", ".tzst", ".zip", ".zst")


def read_assets(items: Sequence[Located], faults: list[Fault]) -> tuple[Asset, ...]:
    """The assets of a list; a faulty one is left out and adds to `faults`."""
    found: list[tuple[Asset, Located]] = []
    for item in items:
        asset = _asset(item, faults)
        if asset is None:
            continue
        for other, there in found:
            if asset.subject != other.subject or not (None in (asset.arch, other.arch) or asset.arch == other.arch):
                continue
            if asset.path:
                faults.append(item.fault(f"{asset.path} is the path of the asset in line {there.line} as well"))
            else:
                faults.append(
                    item.fault(
                        f"an archive is known by its URL up to a ? or #, and that of line {there.line} has the same: "
                        "put what is taken out of one archive into one `extract`, or give another URL first"
                    )
                )
        found.append((asset, item))
    return tuple(asset for asset, _ in found)


def _asset(item: Located, faults: list[Fault]) -> Asset | None:
    before = len(faults)
    section = Section.of(item, KEYS, faults)
    if not isinstance(item.value, dict):
        return None
    sha256 = _hash(section, "sha256", required=True)
    unpacked = _hash(section, "unpackedSha256")
    arch = section.text("arch")
    if arch is not None and arch not in ARCHITECTURES.values():
        faults.append(section.items["arch"].expected(f"one of {', '.join(ARCHITECTURES.values())}"))
    path, archive = section.get("path"), section.get("archive")
    if (path is None) == (archive is None):
        faults.append(item.fault("expected either `path` (a file) or `archive` (with `extract`), and not both"))
        return None
    extract: tuple[Extract, ...] = ()
    if archive is not None:
        extract = _extract(section)
        if "unpackedSha256" in section.items:
            faults.append(section.items["unpackedSha256"].fault("is for a single file; `sha256` is the archive's"))
    elif "extract" in section.items:
        faults.append(section.items["extract"].fault("needs `archive` in place of `path`"))
    urls = _urls(section, archive)
    target = _path(section, path) if path is not None else None
    if target is not None and unpacked is None:
        _check_plain(section, urls, target)
    if len(faults) > before:
        return None
    asset = Asset(urls, sha256 or "", target, unpacked, extract, arch)
    program = containerd_target(asset)
    if program is not None and posixpath.dirname(program) not in PROGRAM_PLACES:
        places = " or ".join(f"{place}/" for place in PROGRAM_PLACES)
        faults.append(
            section.items["extract"].fault(f"containerd would be {program}, where nobody looks (expected {places})")
        )
        return None
    return asset


def _hash(section: Section, key: str, *, required: bool = False) -> str | None:
    text = section.text(key, required=required)
    if text is None or _HASH.fullmatch(text):
        return text.lower() if text else None
    section.faults.append(section.items[key].expected("a SHA-256 in 64 hexadecimal digits"))
    return None


def _urls(section: Section, archive: Located | None) -> tuple[str, ...]:
    items = [*([archive] if archive else []), *section.sequence("urls", required=archive is None)]
    if not items and isinstance(section.items.get("urls", section.at).value, list):
        section.faults.append(section.items["urls"].expected("at least one URL"))
    return tuple(dict.fromkeys(url for item in items if (url := _url(section, item))))


def _url(section: Section, item: Located) -> str | None:
    text = section.string(item)
    if text is None:
        return None
    problem = url_problem(text)
    if problem:
        section.faults.append(item.fault(problem))
    return None if problem else text


def url_problem(text: str) -> str | None:
    """What is wrong with an asset's URL, None when nothing is. The message never repeats a password."""
    if not text.isascii() or not text.isprintable() or " " in text:
        return "the URL holds a space or a character beyond ASCII: write it as %20 and the like"
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        return f"not a URL: {error}"
    if parts.scheme not in _SCHEMES:
        return f"a URL with the scheme {parts.scheme!r} (expected https, http or file)"
    if parts.username is not None or parts.password is not None:
        return "the URL holds a user or password, which everyone reads who can read the configuration: use a mirror"
    if "%00" in parts.path:
        return "the URL holds %00, which no file's name has"
    if parts.scheme == "file":
        if parts.hostname not in (None, "localhost") or not parts.path.startswith("/"):
            return f"{text!r} where a path on this machine was expected, such as file:///media/kubelet"
    elif not parts.hostname or posixpath.basename(parts.path) == "":
        return f"{text!r} where the URL of a file was expected, such as https://dl.k8s.io/v1.36.2/bin/kubelet"
    elif not _is_host(parts.hostname):
        return f"{parts.hostname[:_SHOWN]!r} where a host's name was expected: each part of it has 1 to 63 characters"
    return None


def _is_host(name: str) -> bool:
    labels = name.removesuffix(".").split(".")
    return ":" in name or (len(name) <= 254 and all(0 < len(label) <= 63 for label in labels))


def _extract(section: Section) -> tuple[Extract, ...]:
    if section.get("extract", required=True) is None:
        return ()
    found = []
    for pattern, target in section.strings("extract").items():
        if pattern.startswith("/") or ".." in pattern.split("/") or not pattern:
            section.faults.append(target.fault(f"{pattern!r} where a name inside the archive was expected"))
        text = _path(section, target, directory=True)
        if text is not None:
            found.append(Extract(pattern, text))
    return tuple(found)


def _path(section: Section, item: Located, *, directory: bool = False) -> str | None:
    text = section.string(item)
    if text is None:
        return None
    plain = text.rstrip("/") if directory else text
    # normpath() keeps two slashes at the beginning (POSIX leaves their meaning open); the kernel doesn't.
    good = (
        text.isprintable()
        and plain.startswith("/")
        and not plain.startswith("//")
        and plain != "/"
        and posixpath.normpath(plain) == plain
    )
    if good and not f"{plain}/".startswith(_NEVER):
        return text
    rest = "" if directory else " or a slash at its end"
    section.faults.append(
        item.expected(f"an absolute path without '..'{rest}, on a disk (not below /run and the like)")
    )
    return None


def _check_plain(section: Section, urls: tuple[str, ...], target: str) -> None:
    for url in urls:
        suffix = posixpath.splitext(urlsplit(url).path)[1]
        if suffix in _PACKED_OTHERWISE and not target.endswith(suffix):
            name = posixpath.basename(urlsplit(url).path)
            section.faults.append(section.at.fault(f"{name} is packed in a way that is not unpacked here (.gz, .xz)"))
            return
        if suffix in _COMPRESSED and not target.endswith(suffix):
            section.faults.append(
                section.at.fault(
                    f"{posixpath.basename(urlsplit(url).path)} is compressed; give `unpackedSha256` for a file, "
                    "or `archive` and `extract` for an archive"
                )
            )
            return
