"""Dataclasses that cost nothing to define.

The standard library's decorator compiles half a dozen functions for each class: 0.3 ms, a third of this program's
start before its classes were defined here. The ones below share one set of functions. For type checkers, and in
meaning, this is `dataclasses`: `dataclass` (frozen or not), `field(default_factory=…)`, `__post_init__` and
`replace`, no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import replace as replace
else:

    class _Factory:
        """A default that is made anew for each value."""

        def __init__(self, make):
            self.make = make

    def field(*, default_factory):
        """A field's default, made by calling `default_factory`."""
        return _Factory(default_factory)

    def dataclass(cls=None, *, frozen=False):
        """Make a class's annotations its fields, as dataclasses.dataclass does."""

        def make(cls):
            fields, defaults = {}, {}
            for base in reversed(cls.__mro__):
                for name, annotation in base.__dict__.get("__annotations__", {}).items():  # noqa: RUF063 - texts, unread
                    if annotation.startswith("ClassVar"):
                        continue
                    fields[name] = None
                    if name in base.__dict__:
                        defaults[name] = base.__dict__[name]
            cls.__match_args__ = tuple(fields)
            cls._defaults = defaults
            cls.__init__, cls.__eq__ = _init, _eq
            if "__repr__" not in cls.__dict__:  # a class's own may hide a secret
                cls.__repr__ = _repr
            cls.__hash__ = _hash if frozen else None
            if frozen:
                cls.__setattr__ = cls.__delattr__ = _refuse
            return cls

        return make if cls is None else make(cls)

    def replace(value, /, **changes):
        """A copy of a value with some fields changed."""
        return type(value)(**{**value.__dict__, **changes})

    def _init(self, *args, **kwargs):
        cls = type(self)
        names = cls.__match_args__
        if len(args) > len(names):
            raise TypeError(f"{cls.__name__} takes {len(names)} values, {len(args)} were given")
        content = self.__dict__
        content.update(zip(names, args, strict=False))
        for name in names[len(args) :]:
            if name in kwargs:
                content[name] = kwargs.pop(name)
            elif name in cls._defaults:
                default = cls._defaults[name]
                content[name] = default.make() if type(default) is _Factory else default
            else:
                raise TypeError(f"{cls.__name__} lacks a value for {name!r}")
        if kwargs:
            raise TypeError(f"{cls.__name__} has no field, or already a value, for {', '.join(map(repr, kwargs))}")
        if hasattr(cls, "__post_init__"):
            self.__post_init__()

    def _eq(self, other):
        return self.__dict__ == other.__dict__ if type(self) is type(other) else NotImplemented

    def _hash(self):
        return hash((type(self), *self.__dict__.values()))

    def _repr(self):
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"

    def _refuse(self, name, *_):
        raise AttributeError(f"{type(self).__name__} is frozen: {name!r} can't be changed")
