"""Looks at a Redis server without opening a store: whether one is there, its removal, what the server keeps.

Used by `opening` and by `doctor`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

from python_mcp_server.errors import StoreError
from python_mcp_server.store.redis.address import RedisAddress
from python_mcp_server.store.redis.connection import RedisServer

_LOOK_S: Final = 2.0
_KEEPS_ALL: Final = "noeviction"
_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Durability:
    """What a server keeps.

    Attributes:
        version: The version of the server.
        has_log: Whether it writes each change to a log on its disk (`appendonly`).
        evicts: The policy by which it removes keys when its memory is full; empty where it never does.
    """

    version: str
    has_log: bool
    evicts: str

    @classmethod
    def of(cls, url: str) -> Self:
        """Ask the server.

        Raises:
            InvalidInput: The URL is not that of a Redis server.
            StoreError: The server is away, or refuses.
        """
        server = RedisServer(RedisAddress.parse(url, "url"), _LOOK_S)
        try:
            told: dict[str, Any] = dict(server.command("ask for its state", "INFO"))
        finally:
            server.close()
        policy = str(told.get("maxmemory_policy", _KEEPS_ALL))
        evicts = "" if policy == _KEEPS_ALL or not int(told.get("maxmemory", 0)) else policy
        return cls(str(told.get("redis_version", "?")), bool(int(told.get("aof_enabled", 0))), evicts)


def is_made(url: str) -> bool:
    """Whether there is a store on this server; one that cannot be looked at counts as made."""
    address = RedisAddress.parse(url, "url")
    server = RedisServer(address, _LOOK_S)
    try:
        return bool(server.command("look for a store", "EXISTS", f"{address.key_prefix}format"))
    except StoreError:  # the store tells why it cannot be opened
        return True
    finally:
        server.close()


def remove_store(url: str) -> None:
    """Remove all keys of a store. Its files stay.

    Raises:
        StoreError: The server is away, or refuses.
    """
    address = RedisAddress.parse(url, "url")
    server, cursor = RedisServer(address, _LOOK_S), 0
    try:
        while True:
            cursor, keys = server.command(
                "remove a store", "SCAN", cursor, "MATCH", f"{address.key_prefix}*", "COUNT", _CHUNK
            )
            if keys:
                server.command("remove a store", "DEL", *keys)
            if not int(cursor):
                return
    finally:
        server.close()
