"""Where the server listens: taken before the SDK is loaded, so that a refusal comes at once."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import Any, Final

from python_mcp_server.errors import InvalidInput

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
    """Return what clients are to be given."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}/mcp"
