"""What callers of the API give, checked by its type before it is used: a program may give anything."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

from python_mcp_server.errors import InvalidInput
from python_mcp_server.settings import Settings
from python_mcp_server.store.contract import JobStore


def checked_settings(store: object, settings: Any) -> Settings:
    """Return the settings of a manager, those of the environment where None is given.

    Raises:
        InvalidInput: The store is no store, or the settings are none.
    """
    if store is not None and not isinstance(store, JobStore):
        raise InvalidInput(
            f"store is {store!r:.160}; it must be a JobStore, such as FileJobStore(directory); a URL is for "
            "the setting `store`"
        )
    if settings is not None and not isinstance(settings, Settings):
        raise InvalidInput(f"settings is {settings!r:.160}; it must be Settings")
    return settings or Settings.from_environ()


def check_job(token: object) -> None:
    """Refuse what cannot be the id of a job.

    Raises:
        InvalidInput: It is no text.
    """
    if not isinstance(token, str):
        raise InvalidInput(f"the job is {token!r:.160}; it must be the id of a job")


def check_whole(**numbers: Any) -> None:
    """Refuse what is no whole number.

    Raises:
        InvalidInput: The text has the name and the value of the first one.
    """
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidInput(f"{name} is {value!r:.160}; it must be a whole number")


def check_number(**numbers: Any) -> None:
    """Refuse what is no number, also NaN, which compares with nothing.

    Raises:
        InvalidInput: The text has the name and the value of the first one.
    """
    for name, value in numbers.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool) or math.isnan(value):
            raise InvalidInput(f"{name} is {value!r:.160}; it must be a number")


def check_text(**texts: Any) -> None:
    """Refuse what is neither a text nor None.

    Raises:
        InvalidInput: The text has the name and the value of the first one.
    """
    for name, value in texts.items():
        if value is not None and not isinstance(value, str):
            raise InvalidInput(f"{name} is {value!r:.160}; it must be a text")


def check_keywords(method: Callable[..., Any], given: Iterable[str]) -> None:
    """Refuse keywords that a method does not have.

    Raises:
        InvalidInput: The text names one, and those that there are.
    """
    known = [name for name in inspect.signature(method).parameters if name != "self"]
    if unknown := set(given) - set(known):
        raise InvalidInput(
            f"{method.__name__} has no parameter {min(unknown)!r:.100}; it has {', '.join(known)}"
        )
