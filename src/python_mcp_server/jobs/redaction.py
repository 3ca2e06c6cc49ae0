"""What looks like a secret in names and texts, so that it is written into no record.

It is a guess: an author declares the parameters that hold secrets, and a caller puts secrets into `env_vars`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
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
_TAKES_SHORT: Final = re.compile(r"(?:.*[/\\])?(?:mysql|maria|my|sshpass|mongo)", re.IGNORECASE)
"""Programs that take it: `-pv` is no password for others, such as `mkdir`."""
_KNOWN_FORM: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}|xox[a-z]-[\w-]{10,}"
    r"|sk-[\w-]{20,}|[rs]k_(?:live|test)_\w{16,}|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,}"
    r"|A(?:KIA|SIA)[0-9A-Z]{16}|AIza[\w-]{35}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
"""Tokens of large services, and keys, tell by their form what they are."""
_BEARER: Final = re.compile(
    r"""authorization["']?\s*[:=]\s*["']?(?:basic|bearer|token)\s+\S""", re.IGNORECASE
)
_OPTION: Final = re.compile(r"""(?:^|(?<=[\s"']))--?(\w[\w-]*)(?:=|\s+(?!-))(?=[^\s])""")
_LITERAL: Final = re.compile(r"""(?<![\w.-])([\w.-]+)["']?\]?\s*[=:]\s*[rbuf]?["']{1,3}[^"'\s]""")
"""A name in code that a literal is behind."""


def name_looks_secret(name: str) -> bool:
    """Whether a parameter or a key of this name may hold a secret; `env_vars` and `env_file` do."""
    return _ANYWHERE.search(name) is not None or any(word.lower() in _WORDS for word in _WORD.findall(name))


def value_looks_secret(text: str) -> bool:
    """Whether any text is, or has in it, an option that names a secret (`--token=x`), a URL with a password,
    or a token of a well-known form.
    """
    if text.startswith("-") and name_looks_secret(text.partition("=")[0].split(maxsplit=1)[0]):
        return True
    if any(pattern.search(text) for pattern in (_WITH_PASSWORD, _KNOWN_FORM, _BEARER)):
        return True
    return any(name_looks_secret(found[1]) for found in _OPTION.finditer(text))


def command_looks_secret(words: Sequence[str]) -> bool:
    """Whether a program with its arguments, or a text for a shell as one word, seems to hold a secret: a list
    of jobs would show "…" in the place of a part of it.
    """
    short = any(_TAKES_SHORT.match(inner) for word in words for inner in word.split())
    hidden = zip(words, without_secrets(words, short=short), strict=True)
    return any(shown != shlex.quote(word) for word, shown in hidden)


def code_looks_secret(code: str) -> bool:
    """Whether Python code seems to hold a secret: a literal behind a name that says so, or what any text has.

    `key="x"` is common in code, and counts not.
    """
    literal = any(_ANYWHERE.search(found[1]) for found in _LITERAL.finditer(code))
    return literal or value_looks_secret(code)


def without_secrets(words: Iterable[str], *, short: bool = True) -> Iterator[str]:
    """Yield the words of a command line, quoted for a shell, with "…" for what looks like a secret: the value
    of an option whose name says so, and a word that holds a secret; `short` says whether `-px` is a password.
    """
    secret_follows = False
    for word in words:
        option, sign, _ = word.partition("=")
        named = word.startswith("-") and name_looks_secret(option)
        if secret_follows and not word.startswith("-"):
            yield HIDDEN
        elif named and sign:
            yield f"{shlex.quote(option)}={HIDDEN}"
        elif short and _SHORT_PASSWORD.fullmatch(word):
            yield f"-p{HIDDEN}"
        elif holds_secret(word, short=short):
            yield HIDDEN
        else:
            yield shlex.quote(word)
        secret_follows = named and not sign


def holds_secret(text: str, *, short: bool = True) -> bool:
    """Whether a word of a command line, or a line of code, seems to hold a secret anywhere: a URL with one,
    a value behind a name (`TOKEN=x`, `Authorization: x`), or a command line of its own with one.
    """
    if _WITH_USER.search(text) or _KNOWN_FORM.search(text) or _holds_named(text):
        return True
    inner = text.split()
    return len(inner) > 1 and any(HIDDEN in word for word in without_secrets(inner, short=short))


def _holds_named(text: str) -> bool:
    return any(name_looks_secret(found[1]) for found in _NAMED.finditer(text))
