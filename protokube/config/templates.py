"""The templates of etcd's pods, those that ship with the program or an operator's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from protokube.core.etcd.model import EtcdTemplate
from protokube.core.etcd.template import check_pod, parse_template
from protokube.core.model import Fault

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def shipped(folder: str) -> Traversable:
    """A folder that ships with the program: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parent.parent
    for place in (package / folder, package.parent / folder):
        if place.is_dir():
            return place
    from importlib import resources  # 5 ms and more, which only a zipapp has to pay

    return resources.files("protokube").joinpath(folder)


def load_templates(directory: str | None, faults: list[Fault]) -> dict[str, EtcdTemplate]:
    """The etcd templates by etcd cluster: `manifest.yaml` and one `<key>.yaml` each; main and events at least."""
    folder: Traversable = Path(directory) if directory else shipped("templates").joinpath("etcd")
    try:
        texts = {
            entry.name.removesuffix(".yaml"): entry.read_text(encoding="utf-8")
            for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
            if entry.name.endswith(".yaml")
        }
    except (OSError, UnicodeDecodeError) as error:
        faults.append(Fault(str(folder), f"the templates can't be read: {error}"))
        return {}
    missing = [name for name in ("manifest", "main", "events") if name not in texts]
    faults += [Fault(f"{folder}/{name}.yaml", "the template is missing") for name in missing]
    if missing:
        return {}
    pod = texts.pop("manifest")
    faults += check_pod(f"{folder}/manifest.yaml", pod)
    templates: dict[str, EtcdTemplate] = {}
    for key, text in texts.items():
        template = parse_template(key, f"{folder}/{key}.yaml", text, pod)
        if isinstance(template, EtcdTemplate):
            templates[key] = template
        else:
            faults += template
    return templates
