"""Whether the schema of a channel's batches changes, and whether it may."""

from __future__ import annotations

import pyarrow as pa

from laminar.config import SchemaChange
from laminar.errors import SchemaError


class SchemaWatch:
    """Remembers the schema of the batches on one channel, metadata included."""

    def __init__(self, channel: str, policy: SchemaChange) -> None:
        self._channel = channel
        self._policy = policy
        self._schema: pa.Schema | None = None

    def check(self, schema: pa.Schema) -> bool:
        """Whether ``schema`` is another one than that of the batches before, if there were any.

        Raises :class:`~laminar.errors.SchemaError` where such a change is refused.
        """
        before = self._schema
        if before is None or schema.equals(before, check_metadata=True):
            return False
        if self._policy == "refuse":
            raise SchemaError(
                f"the schema on channel {self._channel!r} may not change (schema_change is "
                f"'refuse'): batches before had\n{before}\nand this one has\n{schema}\n"
                "cast it, or send it on a channel of its own"
            )
        return True

    def note(self, schema: pa.Schema) -> None:
        """Batches of ``schema`` follow."""
        self._schema = schema

    def changed(self, schema: pa.Schema) -> bool:
        """:meth:`check` and :meth:`note` in one."""
        changed = self.check(schema)
        self._schema = schema
        return changed
