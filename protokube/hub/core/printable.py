"""Text of a node as it may be printed: a node that was taken over must not speak to an operator's terminal."""

from __future__ import annotations

_KEPT = "\n\t"


def printable(text: str) -> str:
    """The text, with every character that a terminal could obey in its escaped form."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if one in _KEPT or one.isprintable() else _escaped(one) for one in text)


def one_line(text: str) -> str:
    """The text as a part of one line: a node's word must not begin a line that looks like another node's."""
    return printable(text).replace("\n", "\\n")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "replace").decode()
