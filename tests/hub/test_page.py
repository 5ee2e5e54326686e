"""The page: everything is escaped, nothing of it runs, and it tells what is there."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protokube.hub.core.audit import Head
from protokube.hub.core.course import Course, Outcome, Stage
from protokube.hub.core.membership import Issued, Member, Standing
from protokube.hub.core.messages import NodeHello
from protokube.hub.page import HEADERS, LONGEST, Running, View, render

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\x1b[2J\u202e&amp;"
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "span", "code"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}


class Reader(HTMLParser):
    """What a browser would make of the page: its elements, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {(tag, name) for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def view(text: str = "plain", standing: Standing = Standing.ENROLLED) -> View:
    member = Member(text, (text,), 0.0, Issued("1", "k", "", 0.0, 86400.0), None, standing, text)
    hello = NodeHello(text, text, text, text, (text,), {text: text}, (text,), (), True)
    running = Running(text, text, text, 60.0, {text: Course(Stage.STARTED, 1, Outcome.UNKNOWN, text)})
    return View(text, 0.0, Head(7, "f" * 64), (member,), {text: hello}, (running,))


@pytest.mark.parametrize("standing", list(Standing))
def test_it_tells_what_is_there(standing: Standing) -> None:
    read = Reader(render(view("node-a", standing)))
    assert "1 of 1 nodes are linked" in read.text and "7 lines, head " + "f" * 64 in read.text
    assert "1970-01-02 00:00:00 UTC" in read.text and "held" in read.text and "unknown: 1 (node-a)" in read.text
    assert (f"{standing}: node-a" in read.text) == (standing is not Standing.ENROLLED)


@given(st.text() | st.just(EVIL), st.sampled_from(list(Standing)))
def test_no_text_becomes_markup(text: str, standing: Standing) -> None:
    plain, read = Reader(render(view("plain", standing))), Reader(render(view(text, standing)))
    assert read.tags <= ALLOWED and read.attributes == plain.attributes
    assert not any(name.startswith("on") for _, name in read.attributes)


def test_what_a_browser_could_obey_is_spelled_out() -> None:
    page = render(view(EVIL))
    assert "\x1b" not in page and "\u202e" not in page and "<script" not in page and "<img" not in page
    assert EVIL[:50] in Reader(page).text
    assert "x" * LONGEST + "…" in render(view("x" * 100_000)) and len(render(view("x" * 100_000))) < 10_000


def test_nothing_is_loaded_for_it_and_nothing_runs_in_it() -> None:
    rules = dict(part.strip().split(" ", 1) for part in HEADERS["Content-Security-Policy"].split(";"))
    assert rules["default-src"] == "'none'" and set(rules) == {
        *("default-src", "style-src", "base-uri", "form-action", "frame-ancestors")
    }
    assert "unsafe" not in HEADERS["Content-Security-Policy"] and "http" not in render(view())[200:]


def test_an_empty_hub_has_a_page_too() -> None:
    read = Reader(render(View("hub", 0.0, Head(), (), {}, ())))
    assert "0 of 0 nodes are linked" in read.text and read.text.count("none") == 2
