"""How a provider behind HTTP is reached: its URL, certificates and token; and where one is served."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from protokube.core.model import Fault
from protokube.errors import ConfigError, ProviderError

ENDPOINT = "WEB_ENDPOINT_URL"
"""The environment's variable of 2017."""
_FILES = ("caFile", "certFile", "keyFile", "tokenFile")
_KEYS = ("url", *_FILES)


class WebConfig(Struct, frozen=True):
    """Where the provider is. `url` has no path and ends without a slash; `user` is the URL's `user:password`."""

    url: str
    user: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    token_file: str | None = None

    @property
    def secure(self) -> bool:
        """Whether the connection is encrypted."""
        return self.url.startswith("https:")

    def authorization(self) -> dict[str, str]:
        """The header that shows who asks: a token, or user and password of the URL. Raises ProviderError."""
        if self.token_file is not None:
            try:
                return {"Authorization": f"Bearer {Path(self.token_file).read_text().strip()}"}
            except (OSError, UnicodeDecodeError) as error:
                raise ProviderError(f"the token can't be read: {error}") from error
        if self.user is not None:
            return {"Authorization": f"Basic {base64.b64encode(self.user.encode()).decode()}"}
        return {}

    def tls(self) -> ssl.SSLContext:
        """The certificates: whom to believe, and who we are."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context


class Serving(Struct, frozen=True):
    """Where `serve-web` listens, and who may ask there."""

    host: str
    port: int
    token_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    client_ca_file: str | None = None


def read_config(given: Mapping[str, object], environ: Mapping[str, str], place: str) -> WebConfig:
    """The configuration of a provider's file, its URL from the environment if the file has none.

    Raises ConfigError with every fault.
    """
    known = ", ".join(_KEYS)
    faults = [Fault(f"{place}: {key}", f"unknown; the keys are {known}") for key in given if key not in _KEYS]
    texts: dict[str, str] = {}
    for key in _KEYS:
        value = given.get(key)
        if isinstance(value, str):
            texts[key] = value
        elif value is not None:
            faults.append(Fault(f"{place}: {key}", f"expected text, got {value!r}"))
    where, url = (f"{place}: url", texts["url"]) if "url" in texts else (ENDPOINT, environ.get(ENDPOINT, ""))
    faults += _url_faults(where, url)
    if ("certFile" in texts) != ("keyFile" in texts):
        faults.append(Fault(place, "certFile and keyFile go together; give both, or neither"))
    for key in _FILES:
        if key in texts and not Path(texts[key]).is_file():
            faults.append(Fault(f"{place}: {key}", f"{texts[key]}: there is no such file"))
    if faults:
        raise ConfigError(faults)
    parts = urlsplit(url)
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username is not None else None
    base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return WebConfig(base, user, *(texts.get(key) for key in _FILES))


def _url_faults(where: str, url: str) -> list[Fault]:
    if not url:
        return [Fault(where, f"the provider's URL is missing; set {ENDPOINT}, or url in --provider-config")]
    parts = urlsplit(url)
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return [Fault(where, f"expected http:// or https:// and a host, got {shown}")]
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return [Fault(where, f"{shown}: expected no path: the contract's paths begin at the root")]
    return []
