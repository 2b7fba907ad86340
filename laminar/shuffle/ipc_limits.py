"""What Arrow IPC, as pyarrow writes and reads it, does not carry.

Found by writing and reading every combination; each would arrive as another type, or not at
all. Refusing them at the sender is what keeps the promise that what arrives is what was sent.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.types as pat

from laminar.errors import SchemaError


def check_carried(schema: pa.Schema) -> None:
    """Raise :class:`SchemaError` when a column of ``schema`` would not arrive as it is."""
    for field in schema:
        why = _obstacle(field.type)
        if why:
            raise SchemaError(f"column {field.name!r} ({field.type}) cannot be sent: {why}")


def _obstacle(kind: Any) -> str:
    """Why ``kind`` is not carried; empty when it is."""
    inner: list[Any] = [kind.field(index).type for index in range(kind.num_fields)]
    if isinstance(kind, pa.BaseExtensionType):
        inner = [kind.storage_type]
        if isinstance(kind.storage_type, pa.BaseExtensionType):
            return "Arrow IPC loses an extension type within another; send the inner one"
    elif pat.is_dictionary(kind):
        inner = [kind.value_type]
        if isinstance(kind.value_type, pa.BaseExtensionType) or pat.is_dictionary(kind.value_type):
            return "Arrow IPC has no dictionary of dictionaries or extensions; decode it once"
    elif pat.is_map(kind):
        inner = [kind.key_type, kind.item_type]
        names = (kind.key_field.name, kind.item_field.name)
        if names != ("key", "value"):
            return f"Arrow IPC calls a map's fields 'key' and 'value', not {names}; cast it"
    return next(filter(None, map(_obstacle, inner)), "")
