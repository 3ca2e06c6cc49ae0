"""The names of principals in records, which do not tell the token that they stand for.

A name is an HMAC with a key of the home. So a weak token cannot be guessed from a record alone, and records
of two homes do not tell that their clients had the same token. Older versions wrote a part of the token's
SHA-256; such a name is read as the name of the same principal.
"""

from __future__ import annotations

import json
import logging
import os
import re
from typing import Final

from python_mcp_server.atomic import read_file, translate_os_errors, write_file
from python_mcp_server.store.layout import Layout
from python_mcp_server.store.locks import Locks

_log: Final = logging.getLogger(__name__)
_FILE: Final = "principal.key"
_BYTES: Final = 32
_LOCK: Final = "principal"
_LOCK_S: Final = 10.0
_NAME_CHARS: Final = 32
_CLIENT: Final = "client:"
_OLD: Final = re.compile(r"client:(http-token:[0-9a-f]{16})")


class PrincipalNames:
    """Names the principals of one home."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._path = os.path.join(home, _FILE)
        self._key: bytes | None = None

    def name(self, old: str) -> str:
        """Return the name of a principal; the key is made on first use, under a lock of the home.

        Args:
            old: The name that older versions gave to the principal, without `client:`.

        Raises:
            StoreError: The key can be neither read nor written.
        """
        return _named(self._made(), old)

    def digest(self, *texts: str | None) -> str:
        """Return a digest of texts that cannot be guessed without the key of the home, as hexadecimal.

        Raises:
            StoreError: The key can be neither read nor written.
        """
        import hashlib
        import hmac

        return hmac.new(self._made(), json.dumps(texts).encode(), hashlib.sha256).hexdigest()

    def _made(self) -> bytes:
        with translate_os_errors(self._home, "make the key of the names of principals"):
            key = self._read()
            if key is None:
                with Locks(Layout(self._home).locks, self._home, _LOCK_S).hold(_LOCK):
                    key = self._read() or self._make()
        return key

    def _make(self) -> bytes:
        if read_file(self._path):
            raise OSError(f"{self._path} is no key of {_BYTES} bytes; remove it, and a new one is made")
        key = os.urandom(_BYTES)
        write_file(self._path, key, temporary_in=Layout(self._home).tmp, fsync=True)
        return key

    def key_id(self) -> str | None:
        """Return a text that differs between keys and does not tell the key; None if there is no key yet."""
        key = self._key_or_none()
        return None if key is None else _named(key, "")

    def present(self, recorded: str | None) -> str | None:
        """Return the present name of the principal in a record."""
        old = _OLD.fullmatch(recorded) if recorded else None
        key = None if old is None else self._key_or_none()
        return recorded if old is None or key is None else _CLIENT + _named(key, old[1])

    def _key_or_none(self) -> bytes | None:
        try:
            return self._read()
        except OSError as error:
            _log.warning("a job of a token is the account owner's only: %s", error)
            return None

    def _read(self) -> bytes | None:
        if self._key is None:
            found = read_file(self._path)
            self._key = found if found is not None and len(found) == _BYTES else None
        return self._key


def _named(key: bytes, old: str) -> str:
    import hashlib  # workers read records, too, and need neither
    import hmac

    return f"http-token-hmac:{hmac.new(key, old.encode(), hashlib.sha256).hexdigest()[:_NAME_CHARS]}"
