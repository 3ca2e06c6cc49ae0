"""The version of this package, apart from its `__init__`, which names modules that need the version."""

from __future__ import annotations

__version__ = "0.1.0"
