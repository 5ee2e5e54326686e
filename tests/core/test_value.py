"""Our dataclasses against the standard library's: the same meaning."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from typing import Any, ClassVar

import pytest

from protokube.core import value


def define(library: Any) -> tuple[type[Any], type[Any]]:
    """A frozen class and one that inherits from it, made by one library or the other."""

    @library.dataclass(frozen=True)
    class Base:
        kind: ClassVar[str] = "base"
        name: str
        tags: tuple[str, ...] = ()

    @library.dataclass(frozen=True)
    class Derived(Base):
        size: int = 3

        def __post_init__(self) -> None:
            if self.size < 0:
                raise ValueError("too small")

    return Base, Derived


@pytest.fixture(params=[value, dataclasses], ids=["ours", "standard"])
def library(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_construction_and_defaults(library: Any) -> None:
    _, derived = define(library)
    one = derived("a", ("x",), size=4)
    assert (one.name, one.tags, one.size, one.kind) == ("a", ("x",), 4, "base")
    assert derived("a") == derived(name="a", tags=(), size=3)
    assert derived.__match_args__ == ("name", "tags", "size")


@pytest.mark.parametrize("arguments", [((), {}), (("a", (), 1, 2), {}), (("a",), {"name": "b"}), (("a",), {"no": 1})])
def test_wrong_arguments_are_refused(library: Any, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    _, derived = define(library)
    with pytest.raises(TypeError):
        derived(*arguments[0], **arguments[1])


def test_equality_is_by_class_and_content(library: Any) -> None:
    base, derived = define(library)
    assert derived("a") == derived("a") and hash(derived("a")) == hash(derived("a"))
    assert derived("a") != derived("b")
    assert base("a") != derived("a", size=3)
    assert derived("a") != ("a", (), 3)


def test_frozen_means_frozen(library: Any) -> None:
    _, derived = define(library)
    one = derived("a")
    with pytest.raises(AttributeError):
        one.name = "b"
    with pytest.raises(AttributeError):
        del one.name
    assert one == derived("a")


def test_replace_checks_again(library: Any) -> None:
    _, derived = define(library)
    assert library.replace(derived("a"), size=9) == derived("a", size=9)
    with pytest.raises(ValueError, match="too small"):
        library.replace(derived("a"), size=-1)
    with pytest.raises(TypeError):
        library.replace(derived("a"), colour="red")


def test_each_value_has_its_own_made_default(library: Any) -> None:
    @library.dataclass
    class Box:
        content: list[int] = library.field(default_factory=list)

    one, other = Box(), Box()
    one.content.append(1)
    assert (one.content, other.content) == ([1], [])
    with pytest.raises(TypeError):
        hash(one)


def test_values_are_shown_copied_and_matched() -> None:
    from protokube.core.model import Fault

    one = Fault("here", "wrong")
    assert repr(one) == "Fault(place='here', message='wrong')"
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one
    match one:
        case Fault(place, message):
            assert (place, message) == ("here", "wrong")


def test_the_program_starts_without_the_standard_library_s() -> None:
    """What this module is for: nothing that every node needs defines its classes the slow way."""
    code = "import sys, protokube.core.plan, protokube.reconcile; print('dataclasses' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
