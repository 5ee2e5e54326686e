"""The ways in which an asset can't be had."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from protokube.core.node.assets import Asset, shown
from protokube.errors import ProviderError, explain

UNREACHABLE = "asset/unreachable"
HASH = "asset/hash"
SPACE = "asset/space"
ARCHIVE = "asset/archive"
INSTALL = "asset/install"

_WORST_FIRST = (SPACE, HASH, UNREACHABLE)
_ADVICE = {
    SPACE: "free space there, or name another --cache",
    HASH: "compare sha256 with the publisher's; if it is right, something on the way changed the file",
    UNREACHABLE: "see whether this machine reaches a mirror; run nodeup again, which resumes",
}
_FULL = (errno.ENOSPC, errno.EDQUOT)


class AssetError(ProviderError):
    """An asset can't be fetched or installed now. `rule` is a stable id."""

    def __init__(self, rule: str, message: str) -> None:
        self.rule = rule
        super().__init__(f"{rule}: {message}")

    @property
    def later(self) -> bool:
        """Whether a later run may succeed without a change of the configuration."""
        return self.rule in _WORST_FIRST


class MirrorError(Exception):
    """One mirror doesn't serve an asset; the next one may. `rule` is the kind of failure."""

    def __init__(self, message: str, rule: str = UNREACHABLE) -> None:
        self.rule = rule
        super().__init__(message)


class CutError(MirrorError):
    """The connection ended before the file did."""


def all_failed(asset: Asset, failures: Sequence[tuple[str, MirrorError]]) -> AssetError:
    """One error out of every mirror's."""
    rule = next(rule for rule in _WORST_FIRST if any(failure.rule == rule for _, failure in failures))
    reasons = "; ".join(f"{shown(url)}: {failure}" for url, failure in failures)
    return AssetError(rule, f"{asset.subject}: {reasons}; {_ADVICE[rule]}")


@contextmanager
def installing(path: str) -> Iterator[None]:
    """Name the path, the rule and the remedy of an OSError or of another refusal while it is installed."""
    rule = INSTALL
    try:
        with explain(path):
            try:
                yield
            except OSError as error:
                rule = SPACE if error.errno in _FULL else INSTALL
                raise
    except AssetError:
        raise
    except ProviderError as error:
        raise AssetError(rule, str(error)) from error


def full(error: OSError) -> bool:
    """Whether a write failed for want of space."""
    return error.errno in _FULL
