"""The documentation tells the truth: every rule and every option is in it, and its links lead somewhere."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from protokube.config.keys import FILE_ONLY
from protokube.config.options import OPTIONS, parser
from protokube.core.action import kinds
from protokube.report.account import Status
from protokube.report.json import ReportJson, StepJson

CHECKOUT = Path(__file__).parents[1]
REFERENCE = (CHECKOUT / "docs/reference.md").read_text(encoding="utf-8")
ARCHITECTURE = (CHECKOUT / "docs/architecture.md").read_text(encoding="utf-8")
PAGES = sorted((*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md")))

FAMILIES = (
    "addons",
    "volume",
    "disk",
    "mount",
    "filesystem",
    "format",
    "etcd",
    "dns",
    "kubelet",
    "control-plane",
    "cloud",
    "instance",
    "grow",
    "store",
    "pki",
    "asset",
    "containerd",
    "image",
    "unit",
    "files",
    "sysctl",
    "packages",
    "time",
    "user-data",
)


def rules_of_the_code() -> set[str]:
    """Texts in double quotes that look like a rule's id."""
    pattern = re.compile(rf'"((?:{"|".join(FAMILIES)})/[a-z]+(?:-[a-z]+)*)"')
    return {
        rule
        for house in ("protokube", "nodeup")
        for path in CHECKOUT.glob(f"{house}/**/*.py")
        for rule in pattern.findall(path.read_text(encoding="utf-8"))
    }


def anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def test_every_rule_is_explained_and_every_explanation_has_its_rule() -> None:
    explained = re.findall(r"^#### `([a-z-]+/[a-z-]+)`$", REFERENCE, flags=re.MULTILINE)
    assert len(explained) == len(set(explained))
    assert set(explained) == rules_of_the_code()


def test_every_rule_belongs_to_a_family_that_this_test_knows() -> None:
    """A refusal's or rejection's rule is its first text of that form: none may hide from the test above."""
    pattern = re.compile(r'(?:Rejected|NoZone|refuse|RejectedVolume)\((?:[^"()]*,\s*)?"([a-z]+)/[a-z-]+"')
    found = {
        family for path in CHECKOUT.glob("protokube/**/*.py") for family in pattern.findall(path.read_text("utf-8"))
    }
    assert len(found) > 3
    assert found <= set(FAMILIES)


def test_every_option_is_in_the_table_and_every_row_is_an_option() -> None:
    rows = re.findall(r"^\| (?:`-\w`, )?`--([a-z0-9-]+)", REFERENCE, flags=re.MULTILINE)
    assert sorted(rows) == sorted([*(option.name for option in OPTIONS), "version"])


def test_help_shows_every_option_in_its_group_and_the_groups_in_the_documented_order() -> None:
    _usage, *sections = re.split(r"^(?=\S.*:$)", parser().format_help(), flags=re.MULTILINE)
    shown = {
        section.partition(":")[0]: re.findall(r"^  (?:-\w.*, )?--([a-z-]+)", section, re.M) for section in sections
    }
    assert shown.pop("options") == ["help", "version"]
    expected: dict[str, list[str]] = {}
    for option in OPTIONS:
        expected.setdefault(option.group, []).append(option.name)
    assert shown == expected and list(shown) == list(expected)
    assert f"in six groups: {', '.join(expected)}." in re.sub(r"\s+", " ", REFERENCE)


def test_the_json_report_s_keys_and_a_step_s_are_all_explained() -> None:
    section = REFERENCE.partition("## The JSON report")[2].partition("\n## ")[0]
    explained = {key for row in re.findall(r"^\| (`.*?) \|", section, re.M) for key in re.findall(r"`(\w+)`", row)}
    assert explained == {*ReportJson.__struct_encode_fields__, *StepJson.__struct_encode_fields__}
    for status in Status:
        assert f"`{status}`" in section


def test_options_that_no_file_may_hold_are_marked() -> None:
    marked = re.findall(r"^\| (?:`-\w`, )?`--([a-z0-9-]+)[^|]*†", REFERENCE, flags=re.MULTILINE)
    assert sorted(marked) == sorted(option.name for option in OPTIONS if not option.in_file)


def test_the_json_report_s_actions_are_all_there_are() -> None:
    for module in (CHECKOUT / "protokube/core").glob("*/*.py"):
        if 'tag="' in module.read_text(encoding="utf-8"):
            import_module(f"protokube.core.{module.parent.name}.{module.stem}")
    listed = re.search(r"`action` names the\s+kind \((.*?); new ones may join\)", REFERENCE, flags=re.DOTALL)
    assert listed is not None
    assert sorted(re.findall(r"`([a-z-]+)`", listed[1])) == sorted(
        name for name, kind in kinds().items() if kind.__module__.startswith("protokube.")
    )


def test_what_no_file_may_hold_is_said_where_a_file_s_keys_are_told_of() -> None:
    example = (CHECKOUT / "examples/config.yaml").read_text(encoding="utf-8")
    head = example.partition("\n\n")[0]
    for told in (parser().epilog or "", head):
        sentence = re.sub(r"\s*#?\s+", " ", told).partition(";")[0]
        assert re.findall(r"--([a-z-]+)", sentence.replace("--help", "")) == [
            option.name for option in OPTIONS if not option.in_file
        ]


@pytest.mark.parametrize("house", ["protokube", "nodeup"])
def test_every_room_is_shown_and_every_one_shown_is_there(house: str) -> None:
    plan = re.search(rf"^{house}/\n((?:  .*\n)+)", ARCHITECTURE, flags=re.MULTILINE)
    assert plan is not None
    shown = re.findall(r"^  ([a-z_]+(?:\.py|/)) ", plan[1], flags=re.MULTILINE)
    assert len(shown) == len(set(shown))
    folder = CHECKOUT / house
    modules = {path.name for path in folder.glob("*.py")} - {"__init__.py", "__main__.py"}
    packages = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    assert set(shown) == modules | packages


def test_where_to_find_what_names_files_that_are_there() -> None:
    rows = ARCHITECTURE.partition("## Where to find what")[2].partition("\n## ")[0]
    named = re.findall(r"[a-z]+/[a-z0-9/_]+\.py", rows)
    assert len(named) > 8
    assert [one for one in named if not (CHECKOUT / "protokube" / one).is_file()] == []


def test_the_way_of_imports_is_the_one_that_is_checked() -> None:
    contracts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [layer.replace("protokube.", "") for layer in contracts["contracts"][0]["layers"]]
    shown = re.search(r"^cli → .*?(?=^```)", ARCHITECTURE, flags=re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert re.split(r"\s*→\s*", shown[0].replace(".*", "").strip()) == layers[1:]  # the first is __main__


@pytest.mark.parametrize("key", FILE_ONLY)
def test_every_key_of_the_file_is_explained(key: str) -> None:
    assert f"\n| `{key}` |" in REFERENCE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_local_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if fragment and target.suffix == ".md":
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert fragment in {anchor(title) for title in titles}, link
