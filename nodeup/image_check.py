"""Looks through the tree of an image for what must not be in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from protokube.core.model import MIB
from protokube.core.node.image import IDENTITY, SEARCHED, SECRET, TOKEN_SEARCHED, TRACES, Trace, secret_in
from protokube.core.steps import Plan

MOST = 1 << 16
"""Bytes: larger files than this hold no key, but for those of our own configuration."""
MOST_OF_OURS = 2 * MIB
"""Bytes: more than a configuration may have."""


def check_image(root: Path, written: Sequence[str] = ()) -> Plan:
    """Every trace of a machine and every secret in the tree, as refusals. No link is followed.

    `written` are the files that the configuration lists, absolute: they are searched wherever they lie.
    """
    out = Plan()
    for trace in TRACES:
        for path in sorted(root.glob(trace.pattern)):
            if not _blank(path, trace) and not _behind_a_link(path, root):
                where = f"/{path.relative_to(root)}"
                out.refuse(where, trace.rule, f"{trace.what} is in the image; {trace.remedy}")
    refused = {refusal.subject for refusal in out.refusals}
    for path in dict.fromkeys([*_files(root), *_listed(root, written)]):
        where = f"/{path.relative_to(root)}"
        if where not in refused and (what := secret_in(where[1:], path.read_bytes())) is not None:
            out.refuse(where, SECRET, f"{what} is in the image; every machine of it would hold the same: remove it")
    if (resolver := builders_resolver(root)) is not None:
        out.refuse(resolver, IDENTITY, "the name servers of the machine that builds the image; remove it")
    return out


def builders_resolver(root: Path) -> str | None:
    """resolv.conf, where it is a copy of the one of the machine that builds the image, as debootstrap makes it."""
    path = root / "etc/resolv.conf"
    if root.resolve() == Path("/"):
        return None  # this machine is the image: the file is its own
    try:
        if path.is_symlink() or path.read_bytes() != Path("/etc/resolv.conf").read_bytes():
            return None
    except OSError:
        return None
    return "/etc/resolv.conf" if path.stat().st_size else None


def _blank(path: Path, trace: Trace) -> bool:
    if path.is_symlink() and trace.blank is not None:
        return True  # its target is judged by itself
    try:
        return trace.blank is not None and path.read_text(encoding="utf-8", errors="replace").strip() in trace.blank
    except OSError:
        return False


def _behind_a_link(path: Path, root: Path) -> bool:
    """Whether a directory above the path is a link: what stands behind it may be outside of the tree."""
    return any(parent.is_symlink() for parent in path.parents if parent != root and parent.is_relative_to(root))


def _files(root: Path) -> Iterator[Path]:
    for place in SEARCHED:
        if _behind_a_link(root / place / "any", root):
            continue
        for folder, _, names in os.walk(root / place):
            for name in names:
                path = Path(folder, name)
                ours = str(path.relative_to(root)).startswith(tuple(f"{folder}/" for folder in TOKEN_SEARCHED))
                if _is_small(path, MOST_OF_OURS if ours else MOST):
                    yield path


def _listed(root: Path, written: Sequence[str]) -> Iterator[Path]:
    for one in written:
        path = root / one.lstrip("/")
        if _is_small(path, MOST_OF_OURS) and not _behind_a_link(path, root):
            yield path


def _is_small(path: Path, most: int) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size <= most
