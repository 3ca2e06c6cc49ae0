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
_WITH_USER: Final = re.compile(rf"{_WITH_PASSWORD.pattern}|https?://[^/@\s]+@")
"""A web address with a user has a token in the place of the name, as those of GitHub do."""
_NAMED: Final = re.compile(r"""(?<![\w.-])([\w.-]+)["']?\s*[=:]""")
_SHORT_PASSWORD: Final = re.compile(r"-p(?!\d+$)[^-].*", re.DOTALL)
"""As that of MySQL's programs; a number is a port."""


def name_looks_secret(name: str) -> bool:
    """Whether a parameter or a key of this name may hold a secret; `env_vars` and `env_file` do."""
    return _ANYWHERE.search(name) is not None or any(word.lower() in _WORDS for word in _WORD.findall(name))


def value_looks_secret(text: str) -> bool:
    """Whether a text is an option that names a secret (`--token=x`), or a URL with a password."""
    option = text.startswith("-") and name_looks_secret(text.partition("=")[0])
    return option or _WITH_PASSWORD.search(text) is not None


def without_secrets(words: Iterable[str]) -> Iterator[str]:
    """Yield the words of a command line, quoted for a shell, with "…" for what looks like a secret: the value
    of an option whose name says so, and a word that holds a secret.
    """
    secret_follows = False
    for word in words:
        option, sign, _ = word.partition("=")
        named = word.startswith("-") and name_looks_secret(option)
        if secret_follows and not word.startswith("-"):
            yield HIDDEN
        elif named and sign:
            yield f"{shlex.quote(option)}={HIDDEN}"
        elif _SHORT_PASSWORD.fullmatch(word):
            yield f"-p{HIDDEN}"
        elif holds_secret(word):
            yield HIDDEN
        else:
            yield shlex.quote(word)
        secret_follows = named and not sign


def holds_secret(text: str) -> bool:
    """Whether a word of a command line, or a line of code, seems to hold a secret anywhere: a URL with one,
    a value behind a name (`TOKEN=x`, `Authorization: x`), or a command line of its own with one.
    """
    if _WITH_USER.search(text) or any(name_looks_secret(found[1]) for found in _NAMED.finditer(text)):
        return True
    inner = text.split()
    return len(inner) > 1 and any(HIDDEN in word for word in without_secrets(inner))
