"""Where the HTTP server listens, and which requests it serves.

Knows headers and no SDK, so a bad address, token or host name is refused before the SDK is loaded, which
takes half a second.

A foreign web page can make a browser send requests to this machine, also under a name that the
page's owner points here (DNS rebinding). So Host and Origin must name this server on every route. Starlette's
`TrustedHostMiddleware` and the SDK's `TransportSecuritySettings` compare fixed texts: neither knows the
address that the connection was made to, which is the name of a server that listens on all addresses, nor
the other ways to write an address or a name, and both accept the first of two Host headers.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from python_mcp_server.errors import InvalidInput
from python_mcp_server.regular import read_given
from python_mcp_server.runner.textfile import decode
from python_mcp_server.settings import variable

_NOT_OURS: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL})


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: An address of this machine, or a name of one.
        port: 0 takes a free one.

    Raises:
        InvalidInput: The address is not of this machine, or the port cannot be taken.
    """
    if not host:
        raise InvalidInput(f"host is {host!r}; it must be an address of this machine, such as 127.0.0.1")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = _address_of(host, family)
    try:
        return socket.create_server((address[0], port, *address[2:]), family=family)
    except OverflowError as exc:
        raise InvalidInput(f"port is {port}; it must be 0 to 65535") from exc
    except OSError as exc:
        reason = os.strerror(exc.errno or 0)
        if exc.errno in _NOT_OURS:
            raise InvalidInput(f"host is {host!r}; it is no address of this machine: {reason}") from exc
        raise InvalidInput(f"port is {port}; {host} cannot listen there: {reason}") from exc


def _address_of(host: str, family: socket.AddressFamily) -> tuple[Any, ...]:
    try:
        return socket.getaddrinfo(host, 0, family, socket.SOCK_STREAM)[0][4]
    except (socket.gaierror, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise InvalidInput(f"host is {host!r}; no address is found for it: {reason}") from exc


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can connect, whatever name the address was given by."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def url_of(host: str, listener: socket.socket) -> str:
    """Return the URL for clients."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}/mcp"


LARGEST_HEAD: Final = 65_536
_TOKEN_BYTES: Final = 32
_SHORTEST_TOKEN: Final = 16
_LONGEST_TOKEN_FILE: Final = 4096
_TOKEN_WAIT_S: Final = 60.0
"""Guessed: a password manager may ask for its passphrase before it writes the token."""
_MORE_NAMES: Final = f"{variable('http_allowed_hosts')} adds names"
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_AUTHORITY: Final = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:/?#@\[\]\\]+))(?::\d{0,5})?")
_ORIGIN: Final = re.compile(r"https?://(.+)", re.IGNORECASE)
_BEARER: Final = re.compile(rb"bearer +([^\s]+) *", re.IGNORECASE)

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served: the HTTP status, and a sentence."""

    status: HTTPStatus
    text: str


def _token_refusal(headers: list[tuple[bytes, bytes]], digest: bytes) -> Refusal | None:
    given = [value for name, value in headers if name == b"authorization"]
    match = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
    if match is None:
        needed = "an access token is needed: Authorization: Bearer <token>"
        return Refusal(HTTPStatus.UNAUTHORIZED, needed)
    if not hmac.compare_digest(_digest(match[1]), digest):
        return Refusal(HTTPStatus.UNAUTHORIZED, "the access token is not that of this server")
    return None


@dataclass(frozen=True, slots=True)
class Access:
    """The conditions that a request must meet.

    Attributes:
        names: The names and addresses, in lower case, that the server may be reached by, beside the
            address that the connection was made to.
        token_digest: The digest of the required token; None where no token is required.
    """

    names: frozenset[str] = _LOOPBACK_NAMES
    token_digest: bytes | None = None

    @property
    def old_principal(self) -> str | None:
        """The name that older versions gave to those who have the token; records do not have it as it is.
        None where no token is required.
        """
        return None if self.token_digest is None else f"http-token:{self.token_digest.hex()[:16]}"

    def refusal(self, headers: Headers, reached: str | None, *, open_to_all: bool = False) -> Refusal | None:
        """Return why a request is refused, or None.

        Args:
            headers: Its headers, with names in lower case.
            reached: The server's address that its connection was made to.
            open_to_all: Whether it needs no token.
        """
        listed = list(headers)
        if sum(len(name) + len(value) for name, value in listed) > LARGEST_HEAD:
            too_large = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            return Refusal(too_large, f"the headers are larger than {LARGEST_HEAD} bytes")
        own = self.names | {reached} if reached else self.names
        if (host := _only(listed, b"host")) is None or _name(host) not in own:
            told = f"Host is {host or ''!r:.100}; this server has no such name; {_MORE_NAMES}"
            return Refusal(HTTPStatus.MISDIRECTED_REQUEST, told)
        for origin in _all(listed, b"origin"):
            if not _from_one_of(own, origin):
                told = f"Origin is {origin!r:.100}, a page of another server; {_MORE_NAMES}"
                return Refusal(HTTPStatus.FORBIDDEN, told)
        if open_to_all or self.token_digest is None:
            return None
        return _token_refusal(listed, self.token_digest)


def grant(host: str, allowed_hosts: Iterable[str], token: str) -> Access:
    """Return the access to a server.

    Args:
        host: The address or name that it listens at.
        allowed_hosts: Further names.
        token: The token that clients must show; empty for none.

    Raises:
        InvalidInput: A name is not valid, or the token cannot be sent or is too short.
    """
    names = {_checked_name(name) for name in allowed_hosts}
    if token:
        _check_token(token, variable("http_token"))
    own = {name} if (name := _name(f"[{host}]" if ":" in host else host)) else set[str]()
    return Access(_LOOPBACK_NAMES | names | own, _digest(token.encode()) if token else None)


def new_token() -> str:
    """Return a token of 256 random bits."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def read_token(path: str) -> str:
    """Return the token that a file or a pipe has.

    Raises:
        InvalidInput: It cannot be read, is too long, is empty, or has no token.
    """
    name = variable("http_token_file")
    try:
        token = decode(read_given(os.path.expanduser(path), _LONGEST_TOKEN_FILE, _TOKEN_WAIT_S)).strip()
    except UnicodeDecodeError:
        raise InvalidInput(f"{name} is {path!r}; it must be a file with the token, and is no text") from None
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise InvalidInput(f"{name} is {path!r}; it must be a file that can be read: {reason}") from exc
    if not token:
        raise InvalidInput(f"{name} is {path!r}; it must be a file with the token, and it is empty")
    _check_token(token, f"{name} is {path!r}; what it holds")
    return token


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _check_token(token: str, name: str) -> None:
    fits = token.isascii() and token.isprintable() and " " not in token
    if not (fits and len(token) >= _SHORTEST_TOKEN):
        raise InvalidInput(
            f"{name} cannot be a token; "
            f"it must be {_SHORTEST_TOKEN} or more letters, digits or signs of ASCII, without spaces"
        )


def _checked_name(name: str) -> str:
    found = _name(f"[{name}]" if name.count(":") > 1 and "[" not in name else name)
    if found is None or "*" in name or name.count(":") == 1 or "]:" in name:
        raise InvalidInput(
            f"{variable('http_allowed_hosts')} names {name!r}; "
            "it must be host names or addresses, without scheme and port, with commas between them"
        )
    return found


def _name(authority: str) -> str | None:
    """Return the name in `name:port` in the one way to write it, or None."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    name = (match[1] or match[2]).lower().removesuffix(".")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name if match[2] else None


def _from_one_of(names: frozenset[str], origin: str) -> bool:
    match = _ORIGIN.fullmatch(origin)
    return match is not None and _name(match[1]) in names


def _all(headers: list[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == name]


def _only(headers: list[tuple[bytes, bytes]], name: bytes) -> str | None:
    values = _all(headers, name)
    return values[0] if len(values) == 1 else None
