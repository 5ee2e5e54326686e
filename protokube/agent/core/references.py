"""What of a container isn't in its pod: secrets, config maps and tokens, as variables and as files.

Kubernetes' rules: a missing one bars the start unless it is optional; a name that can't be a variable is left out.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

from protokube.agent.core.expand import Given, field
from protokube.agent.core.model import Container, EnvVar, Json, Pod, Spec, Volume

SECRET, CONFIG_MAP = "secrets", "configmaps"
"""Kinds, as paths have them."""
TOKEN = "serviceAccountToken"
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_MODE, _TOKEN_SECONDS = 0o644, 3600


class Reference(Struct, frozen=True, order=True):
    """An object of the pod's namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        """As messages name it."""
        return f"{'secret' if self.kind == SECRET else 'config map'} {self.name}"


class TokenWanted(Struct, frozen=True):
    """A token of the pod's service account, bound to the pod. `seconds`: its life."""

    account: str
    audience: str = ""
    seconds: int = _TOKEN_SECONDS


Found = Mapping[Reference, "Json | None"]
"""Objects as they were read, None where there is none."""


class File(Struct, frozen=True):
    """A file of a volume."""

    content: bytes
    mode: int = _MODE


class MissingError(Exception):
    """A mandatory reference leads nowhere. Its text is for people."""


def is_filled(volume: Volume) -> bool:
    """Whether the volume's files come from the API server."""
    kinds = (volume.secret, volume.config_map, volume.downward_api, volume.projected)
    return any(one is not None for one in kinds)


def mounted(spec: Spec, container: Container) -> list[Volume]:
    """The container's volumes whose files come from the API server."""
    names = {mount.name for mount in container.volume_mounts}
    return [volume for volume in spec.volumes if volume.name in names and is_filled(volume)]


def references(spec: Spec, container: Container) -> set[Reference]:
    """All that a container's variables and mounted volumes refer to."""
    found = {asked[0] for one in container.env if (asked := _asked(one)) is not None}
    for source in container.env_from:
        found |= {reference for reference, _ in _sources(source)}
    for volume in mounted(spec, container):
        found |= {_reference(kind, item) for kind, item in _parts(volume) if kind in (SECRET, CONFIG_MAP)}
    return found


def tokens(spec: Spec, container: Container) -> set[TokenWanted]:
    """The tokens that a container's mounted volumes ask for."""
    parts = [part for volume in mounted(spec, container) for part in _parts(volume)]
    return {_token(spec, item) for kind, item in parts if kind == TOKEN}


def given_env(container: Container, found: Found) -> Given:
    """The values of the variables that refer to something. Raises MissingError."""
    first: dict[str, str] = {}
    for source in container.env_from:
        prefix = str(source.get("prefix") or "")
        for reference, item in _sources(source):
            if (held := _object(reference, item, found)) is None:
                continue
            for name, value in _data(held, reference).items():
                if _VARIABLE.fullmatch(prefix + name):
                    first[prefix + name] = _text(value, reference, name)
    values: dict[str, str | None] = {}
    for one in container.env:
        if (asked := _asked(one)) is not None:
            values[one.name] = _value(*asked, found)
    return Given(first, values)


def files_of(volume: Volume, pod: Pod, found: Found, held: Mapping[TokenWanted, str], spec: Spec) -> dict[str, File]:
    """Path within the volume → file. `held`: the tokens. Raises MissingError."""
    made: dict[str, File] = {}
    for kind, item in _parts(volume):
        mode = int(item.get("defaultMode") or _MODE)
        if kind == TOKEN:
            made[str(item.get("path"))] = File(held[_token(spec, item)].encode(), mode)
        elif kind == "downwardAPI":
            for one in item.get("items") or ():
                made[str(one["path"])] = File(_field(pod, one).encode(), int(one.get("mode") or mode))
        else:
            made |= dict(_keys(_reference(kind, item), item, found, mode))
    for path in made:
        if not path or path.startswith("/") or ".." in path.split("/"):
            raise MissingError(f"volume {volume.name}: a path within it was expected, got {path!r}")
    return made


# --- parts of specs --------------------------------------------------------------------------------------


def _parts(volume: Volume) -> Iterator[tuple[str, Json]]:
    """What a volume is made of: its kind, and the item with its mode."""
    if volume.secret is not None:
        yield SECRET, volume.secret
    elif volume.config_map is not None:
        yield CONFIG_MAP, volume.config_map
    elif volume.downward_api is not None:
        yield "downwardAPI", volume.downward_api
    elif volume.projected is not None:
        mode = volume.projected.get("defaultMode")
        for source in volume.projected.get("sources") or ():
            for key, kind in (("secret", SECRET), ("configMap", CONFIG_MAP)):
                if source.get(key) is not None:
                    yield kind, {"defaultMode": mode, **source[key]}
            for kind in ("downwardAPI", TOKEN):
                if source.get(kind) is not None:
                    yield kind, {"defaultMode": mode, **source[kind]}


def _reference(kind: str, item: Json) -> Reference:
    return Reference(kind, str(item.get("secretName") or item.get("name")))


def _sources(source: Json) -> Iterator[tuple[Reference, Json]]:
    for key, kind in (("configMapRef", CONFIG_MAP), ("secretRef", SECRET)):
        if source.get(key) is not None:
            yield Reference(kind, str(source[key].get("name"))), source[key]


def _asked(one: EnvVar) -> tuple[Reference, Json] | None:
    if one.value_from is None:
        return None
    if one.value_from.secret_key_ref is not None:
        return _reference(SECRET, one.value_from.secret_key_ref), one.value_from.secret_key_ref
    if one.value_from.config_map_key_ref is not None:
        return _reference(CONFIG_MAP, one.value_from.config_map_key_ref), one.value_from.config_map_key_ref
    return None


def _token(spec: Spec, item: Json) -> TokenWanted:
    seconds = int(item.get("expirationSeconds") or _TOKEN_SECONDS)
    return TokenWanted(spec.service_account_name or "default", str(item.get("audience") or ""), seconds)


# --- values ----------------------------------------------------------------------------------------------


def _object(reference: Reference, item: Json, found: Found) -> Json | None:
    held = found.get(reference)
    if held is None and not item.get("optional"):
        raise MissingError(f"{reference}: there is none")
    return held


def _value(reference: Reference, item: Json, found: Found) -> str | None:
    """One key's value; None when it may be missing, and is."""
    held = _object(reference, item, found)
    data = {} if held is None else _data(held, reference)
    key = str(item.get("key"))
    if key in data:
        return _text(data[key], reference, key)
    if item.get("optional"):
        return None
    raise MissingError(f"{reference}: it has no key {key!r}")


def _keys(reference: Reference, item: Json, found: Found, mode: int) -> Iterator[tuple[str, File]]:
    held = _object(reference, item, found)
    if held is None:
        return
    data = _data(held, reference)
    asked = item.get("items")
    if not asked:
        yield from ((key, File(value, mode)) for key, value in data.items())
        return
    for one in asked:
        if one["key"] in data:
            yield str(one["path"]), File(data[one["key"]], int(one.get("mode") or mode))
        elif not item.get("optional"):
            raise MissingError(f"{reference}: it has no key {one['key']!r}")


def _data(held: Json, reference: Reference) -> dict[str, bytes]:
    plain, encoded = held.get("data") or {}, held.get("binaryData") or {}
    if reference.kind == SECRET:
        plain, encoded = {}, plain
    made = {str(key): str(value).encode() for key, value in plain.items()}
    try:
        return made | {str(key): base64.b64decode(value, validate=True) for key, value in encoded.items()}
    except (binascii.Error, ValueError) as error:
        raise MissingError(f"{reference}: base64 was expected: {error}") from error


def _text(value: bytes, reference: Reference, key: str) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise MissingError(f"{reference}: key {key!r} is no text, and can't be a variable") from error
    if "\0" in text:
        raise MissingError(f"{reference}: key {key!r} holds a zero byte, and can't be a variable")
    return text


def _field(pod: Pod, item: Json) -> str:
    """A field as a file of the downward API; all labels or annotations are lines."""
    path = str((item.get("fieldRef") or {}).get("fieldPath", ""))
    if path in ("metadata.labels", "metadata.annotations"):
        held = pod["metadata"].get(path.partition(".")[2]) or {}
        kept = sorted((key, value) for key, value in held.items() if not key.startswith("protokube.io/"))
        return "".join(f"{key}={_quoted(str(value))}\n" for key, value in kept)
    return field(pod, path, "")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
