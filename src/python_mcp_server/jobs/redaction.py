"""What looks like a secret in names and texts, so that it is written into no record.

It is a guess: an author declares the parameters that hold secrets, and a caller puts secrets into `env_vars`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Final

HIDDEN: Final = "…"
"""It stands for a secret that is left out."""

_ANYWHERE: Final = re.compile(
    "passw(or)?d|passphrase|secret|token|credential|api_?key|authorization|cookie", re.IGNORECASE
)
_WORDS: Final = frozenset(
    {"auth", "bearer", "dotenv", "env", "environ", "environment", "key", "keys", "pass", "pin", "pwd"}
)
_WORD: Final = re.compile("[A-Z]?[a-z]+|[A-Z]+")
_WITH_PASSWORD: Final = re.compile(r"://[^/@\s:]*:[^/@\s]+@")


def name_looks_secret(name: str) -> bool:
    """Whether a parameter or a key of this name may hold a secret; `env_vars` and `env_file` do."""
    return _ANYWHERE.search(name) is not None or any(word.lower() in _WORDS for word in _WORD.findall(name))


def value_looks_secret(text: str) -> bool:
    """Whether a text is an option that names a secret (`--token=x`), or a URL with a password."""
    option = text.startswith("-") and name_looks_secret(text.partition("=")[0])
    return option or _WITH_PASSWORD.search(text) is not None


def without_secrets(words: Iterable[str]) -> Iterator[str]:
    """Yield the words of a command line, quoted for a shell, with "…" for what looks like a secret: the value
    of an option whose name says so, and a URL with a password.
    """
    secret_follows = False
    for word in words:
        option, sign, _ = word.partition("=")
        named = word.startswith("-") and name_looks_secret(option)
        if secret_follows and not word.startswith("-"):
            yield HIDDEN
        elif named and sign:
            yield f"{shlex.quote(option)}={HIDDEN}"
        else:
            yield HIDDEN if value_looks_secret(word) and not named else shlex.quote(word)
        secret_follows = named and not sign
