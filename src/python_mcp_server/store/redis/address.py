"""The URL of a Redis server. What is shown of it has neither user nor password."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from python_mcp_server.errors import InvalidInput
from python_mcp_server.settings import Settings
from python_mcp_server.store.layout import is_plain_name

SCHEMES: Final = ("redis", "rediss", "unix")
RIGHT: Final = "redis://[user:password@]host:port/db"
DEFAULT_PREFIX: Final = "default"
_PORT: Final = 6379
_MOST_DBS: Final = 1_000_000
_OWN: Final = "prefix"
_TLS: Final = frozenset(
    {"ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile", "ssl_min_version"}
)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A database of a Redis server, and the part of its keys that is one store.

    Attributes:
        url: The URL for the client library, which may have a password.
        shown: The URL as people may see it.
        prefix: What the keys of the store begin with, between `python_mcp:{` and `}:`. The braces keep all of
            them in one slot of a cluster.
    """

    url: str = field(repr=False)
    shown: str
    prefix: str

    @property
    def server(self) -> str:
        """The server and its database, as people may see them."""
        return self.shown.partition("?")[0]

    @property
    def key_prefix(self) -> str:
        """What each key of the store begins with."""
        return f"python_mcp:{{{self.prefix}}}:"

    def without_secrets(self, text: str) -> str:
        """Return a text without the password, should it repeat it."""
        password = urlsplit(self.url).password or ""
        for secret in filter(None, (password, unquote(password))):
            text = text.replace(secret, "***")
        return text

    @classmethod
    def parse(cls, url: str, name: str) -> RedisAddress:
        """Read the URL of a server.

        Args:
            url: `redis://[user:password@]host:port/db`, `rediss://...` with TLS, or `unix:///path?db=0`, with
                `?prefix=name` for another store on the same server.
            name: The name of the setting or the argument, for the text of an error.

        Raises:
            InvalidInput: It is something else. The text has no part of the URL, which may have a password.
        """
        try:
            parts = urlsplit(url.strip())
            options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
            prefix = options.pop(_OWN, DEFAULT_PREFIX)
            shown = _shown(parts, options)
        except ValueError:
            raise InvalidInput(
                f"{name} is no URL of a Redis server; it must be {RIGHT}, rediss://... with TLS, or "
                "unix:///path?db=0, with %XX for signs of the password that a URL may not have"
            ) from None
        if not is_plain_name(prefix):
            raise InvalidInput(
                f"{name} has a prefix that is not 1 to 100 of A-Z a-z 0-9 . _ -; it must be a plain name"
            )
        if prefix != DEFAULT_PREFIX:
            shown += f"{'&' if '?' in shown else '?'}{urlencode({_OWN: prefix})}"
        query = f"?{urlencode(options)}" if options else ""
        return cls(f"{parts.scheme}://{parts.netloc}{parts.path}{query}", shown, prefix)


def _shown(parts: SplitResult, options: dict[str, str]) -> str:
    """Return the URL without user, password and options of TLS.

    Raises:
        ValueError: It is no URL of a Redis server.
    """
    is_socket = parts.scheme == "unix"
    allowed = {"db", *(_TLS if parts.scheme == "rediss" else ())}
    if parts.scheme not in SCHEMES or parts.fragment or not allowed.issuperset(options):
        raise ValueError
    database = options.get("db") or ("0" if is_socket else parts.path.strip("/") or "0")
    if not database.isdecimal() or int(database) > _MOST_DBS:
        raise ValueError
    if is_socket:
        if parts.hostname or not parts.path.strip("/"):
            raise ValueError
        return f"unix://{parts.path}" + (f"?db={database}" if int(database) else "")
    if not parts.hostname:
        raise ValueError
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port or _PORT}/{int(database)}"


def files_of(address: RedisAddress, home: Path | None = None) -> Path:
    """Return where the files of the jobs of a store lie on this machine.

    Args:
        address: The store.
        home: The home of the settings; that of the environment where None.
    """
    return (home or Settings.from_environ().home) / "redis" / address.prefix
