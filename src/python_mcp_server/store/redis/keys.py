"""Jobs as a Redis server has them, and the names of the sets that they are in."""

from __future__ import annotations

from typing import NamedTuple, Self

from python_mcp_server.errors import StoreError
from python_mcp_server.store.encoding import Stored, Unreadable, decode_row


class Row(NamedTuple):
    """A job as the server has it."""

    job_id: str
    write: bytes
    status: str
    record: bytes
    host: str

    @classmethod
    def of(cls, values: list[bytes]) -> Self:
        """Read what a script returns."""
        job_id, write, status, record, host = values
        return cls(text_of(job_id), write, text_of(status), record, text_of(host))

    def decoded(self) -> Stored:
        """Return the record.

        Raises:
            Unreadable, StoreError: As `decode_row`.
        """
        return decode_row(self.job_id, self.status, self.record)

    def is_damaged(self) -> bool:
        """Whether it is no record; one of a newer version is not damaged."""
        try:
            self.decoded()
        except Unreadable:
            return True
        except StoreError:
            return False
        return False


def set_of(state: str, principal: str | None) -> str:
    """Return the name of the set of ids of a state, `live` or `ended`, or of all where it is empty; of one
    principal, or of all where that is None.
    """
    return f"ids:{state}:{principal_key(principal)}"


def principal_key(principal: str | None) -> str:
    """Return a principal as it stands in names and hashes; empty for jobs without one."""
    return "" if principal is None else f"p{principal.encode('utf-8', 'backslashreplace').decode()}"


def text_of(value: bytes) -> str:
    """Return bytes as text; what is no UTF-8 is damaged, and costs nothing else."""
    return value.decode("utf-8", "replace")
