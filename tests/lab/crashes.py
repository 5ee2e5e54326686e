"""Ends a program, as a power cut would, right before or after one of its calls that change files."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

CALLS = ("open", "write", "fsync", "link", "rename", "unlink", "mkdir", "rmdir", "symlink")


class CrashError(BaseException):
    """The process ends here."""


def crashing(monkeypatch: pytest.MonkeyPatch, at: int, *, after: bool) -> Callable[[], bool]:
    """End the process before or after its call number `at` that changes the directory. Says whether it came to it."""
    count = 0
    crashed = False

    def wrapped(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal count, crashed
            count += 1
            if count == at and not after:
                crashed = True
                raise CrashError(name)
            try:
                return real(*args, **kwargs)
            finally:
                if count == at:
                    crashed = True
                    raise CrashError(name)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, wrapped(name, getattr(os, name)))
    return lambda: crashed
