"""Whether the schema of a channel's batches changes, and whether it may."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.types as pat

from laminar.config import SchemaChange
from laminar.errors import SchemaError


class KnownSchema:
    """A schema that others are compared with, metadata included.

    ``Schema.equals`` alone does not see everything: it takes fixed-size lists of extensions of
    different lengths for equal, and overlooks metadata within dictionaries. Schemas with such
    types are compared as they would be written.
    """

    __slots__ = ("_written", "schema", "subtle")

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.subtle = any(_is_subtle(field.type) for field in schema)
        """Whether ``equals`` is not enough."""
        self._written = schema.serialize() if self.subtle else None

    def matches(self, schema: pa.Schema) -> bool:
        """Whether ``schema`` is the same."""
        if not schema.equals(self.schema, True):
            return False
        return self._written is None or bool(schema.serialize().equals(self._written))


def _is_subtle(kind: Any) -> bool:
    """Whether ``kind`` has parts that ``equals`` may overlook."""
    if isinstance(kind, pa.BaseExtensionType):
        return _is_nested(kind.storage_type)
    if pat.is_dictionary(kind):
        return _is_nested(kind.value_type)
    inner = [kind.field(index).type for index in range(kind.num_fields)]
    return any(isinstance(child, pa.BaseExtensionType) or _is_subtle(child) for child in inner)


def _is_nested(kind: pa.DataType) -> bool:
    return kind.num_fields > 0 or isinstance(kind, pa.BaseExtensionType) or pat.is_dictionary(kind)


class SchemaWatch:
    """Remembers the schema of the batches on one channel, metadata included."""

    def __init__(self, channel: str, policy: SchemaChange) -> None:
        self._channel = channel
        self._policy = policy
        self._known: KnownSchema | None = None

    def check(self, schema: pa.Schema) -> bool:
        """Whether ``schema`` is another one than that of the batches before, if there were any.

        Raises :class:`~laminar.errors.SchemaError` where such a change is refused.
        """
        known = self._known
        if known is None or known.matches(schema):
            return False
        if self._policy == "refuse":
            raise SchemaError(
                f"the schema on channel {self._channel!r} may not change (schema_change is "
                f"'refuse'): batches before had\n{known.schema}\nand this one has\n{schema}\n"
                "cast it, or send it on a channel of its own"
            )
        return True

    def note(self, schema: pa.Schema) -> None:
        """Batches of ``schema`` follow."""
        if self._known is None or not self._known.matches(schema):
            self._known = KnownSchema(schema)

    def changed(self, schema: pa.Schema) -> bool:
        """:meth:`check` and :meth:`note` in one."""
        changed = self.check(schema)
        if changed or self._known is None:
            self._known = KnownSchema(schema)
        return changed
