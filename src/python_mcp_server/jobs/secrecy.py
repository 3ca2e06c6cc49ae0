"""What sounds like a secret, and so may not be written into a record.

Guessed from names, for nobody tells: rather a job too many that cannot be taken over than a password
on disk. Used by `recipe` only.
"""

from __future__ import annotations

import re
from typing import Final

_ANYWHERE: Final = re.compile(
    "passw(or)?d|passphrase|secret|token|credential|api_?key|authorization|cookie", re.IGNORECASE
)
_WORDS: Final = frozenset(
    {"auth", "bearer", "dotenv", "env", "environ", "environment", "key", "keys", "pass", "pin", "pwd"}
)
_WORD: Final = re.compile("[A-Z]?[a-z]+|[A-Z]+")
_WITH_PASSWORD: Final = re.compile(r"://[^/@\s:]*:[^/@\s]+@")


def names_a_secret(name: str) -> bool:
    """Whether a parameter or a key of this name may hold a secret; `env_vars` and `env_file` do."""
    return _ANYWHERE.search(name) is not None or any(word.lower() in _WORDS for word in _WORD.findall(name))


def tells_a_secret(text: str) -> bool:
    """Whether a text is an option that sounds like a secret (`--token=x`), or a URL with a password."""
    option = text.startswith("-") and names_a_secret(text.partition("=")[0])
    return option or _WITH_PASSWORD.search(text) is not None
