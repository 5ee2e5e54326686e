"""`--root ""` is what a script says whose variable is empty: it must not mean this machine."""

from __future__ import annotations

import pytest

from protokube.config.load import read
from protokube.errors import UsageError


@pytest.mark.parametrize(
    ("arguments", "environment", "where"),
    [(["--root", ""], {}, "--root"), ([], {"PROTOKUBE_ROOT": ""}, "PROTOKUBE_ROOT")],
)
def test_an_empty_root_is_refused(arguments: list[str], environment: dict[str, str], where: str) -> None:
    with pytest.raises(UsageError, match=f"{where}: expected a directory"):
        read(arguments, environment)
