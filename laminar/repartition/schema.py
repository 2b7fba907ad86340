"""Two schemas of one job: the logical one of the files, the physical one between them.

The *logical* schema is what the inputs have and the outputs must have again, to the last
piece of field metadata. It is not always what is fast, or possible, to move around:

* view types have no ``take`` kernel, and a slice of one drags all its buffers along;
* a text column with a few distinct values is decoded, moved and encoded several times faster
  as dictionary indices;
* dictionaries with small indices overflow when the dictionaries of two files are merged.

So workers hold rows in the *physical* schema. A Parquet file does not care: both schemas have
the same Parquet types, and the logical one is stored beside the data in the file's
``ARROW:schema`` entry, which is what readers of Arrow restore types from. An Arrow file gets
its columns cast back.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from laminar.errors import InputError

STORED_SCHEMA_KEY: Final = b"ARROW:schema"

CSV_HINT: Final = "; CSV types are inferred: write the values of a column alike in all files"


def physical_schema(logical: pa.Schema, dictionary_columns: Collection[str]) -> pa.Schema:
    """The schema that workers hold rows in; names, order and nullability stay.

    ``dictionary_columns`` are text columns to be held as dictionary indices.
    """
    fields = []
    for field in logical:
        held = physical_type(field.type)
        if field.name in dictionary_columns and pa.types.is_string(held):
            held = pa.dictionary(pa.int32(), held)
        fields.append(field.with_type(held))
    return pa.schema(fields)


def physical_type(logical: Any) -> Any:
    """The Arrow type that can be taken from, sliced and merged, for an Arrow type.

    List views stay as they are: Arrow's cast of a list view to a list loses values.
    """
    types = pa.types
    if types.is_string_view(logical):
        return pa.string()
    if types.is_binary_view(logical):
        return pa.binary()
    if types.is_dictionary(logical):
        return _physical_dictionary(logical)
    if types.is_struct(logical):
        return pa.struct([_physical_field(logical.field(i)) for i in range(logical.num_fields)])
    if types.is_map(logical):
        key, item = _physical_field(logical.key_field), _physical_field(logical.item_field)
        make_map: Any = pa.map_
        return make_map(key, item, keys_sorted=logical.keys_sorted)
    if types.is_fixed_size_list(logical):
        return pa.list_(_physical_field(logical.value_field), logical.list_size)
    if types.is_list(logical):
        return pa.list_(_physical_field(logical.value_field))
    if types.is_large_list(logical):
        return pa.large_list(_physical_field(logical.value_field))
    return logical


def _physical_field(field: pa.Field[Any]) -> pa.Field[Any]:
    return field.with_type(physical_type(field.type))


def _physical_dictionary(logical: Any) -> Any:
    index = logical.index_type
    if index.bit_width < 32:
        index = pa.int32()
    return pa.dictionary(index, physical_type(logical.value_type), ordered=logical.ordered)


def stored_metadata(logical: pa.Schema) -> dict[bytes, bytes]:
    """What a Parquet file says besides, for readers to restore the logical schema."""
    stored = base64.b64encode(logical.serialize().to_pybytes())
    return {**(logical.metadata or {}), STORED_SCHEMA_KEY: stored}


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with its columns cast to ``schema``, by position.

    Raises ``pyarrow.ArrowInvalid`` when a value does not fit, or when a column that may not
    hold nulls does.
    """
    columns = []
    for column, field in zip(batch.columns, schema, strict=True):
        if not field.nullable and column.null_count:
            raise pa.ArrowInvalid(f"column {field.name!r} holds nulls, and its schema forbids it")
        columns.append(_cast(column, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(column: Any, kind: pa.DataType) -> Any:
    if column.type == kind:
        return column
    if pa.types.is_dictionary(column.type) and not pa.types.is_dictionary(kind):
        column = column.dictionary_decode()  # Arrow casts dictionaries to some types only
    return column.cast(kind)


def common_schema(schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
    """The one schema of all files, given as (file name, schema).

    Fields must agree in name, order, type and nullability. Metadata may differ: the first
    file's is kept. Raises :class:`~laminar.errors.InputError` naming the first two files that
    differ, and where.
    """
    first_name, first = schemas[0]
    for name, schema in schemas[1:]:
        difference = _difference(first, schema)
        if difference:
            hint = CSV_HINT if any(".csv" in file.lower() for file in (first_name, name)) else ""
            raise InputError(f"{first_name} and {name} have different schemas: {difference}{hint}")
    return first


def settle_csv(
    schemas: Sequence[pa.Schema], names: Sequence[str]
) -> list[tuple[pa.Schema, tuple[str, ...]]]:
    """Inferred schemas of CSV files, made to agree where that loses nothing.

    Columns come in the order of ``names`` when they are the same ones. A column that has
    whole numbers in some files and fractions in others has fractions in all; returned beside
    each schema are those of its columns that are to be read as integers first, which tells when
    one is too large for that. A column without a value in the inspected part of a file is typed
    like in the other files, and text when it has none in any.
    """
    known: dict[str, pa.DataType] = {}
    for field in (field for schema in schemas for field in schema):
        before = known.get(field.name, pa.null())
        whole_before = pa.types.is_int64(before) and pa.types.is_float64(field.type)
        if pa.types.is_null(before) or whole_before:
            known[field.name] = field.type
    settled = []
    for schema in schemas:
        fields, integers = [], []
        for position in _positions(schema.names, names):
            field = schema.field(position)
            kind = known[field.name]
            if pa.types.is_null(field.type):
                field = field.with_type(pa.string() if pa.types.is_null(kind) else kind)
            elif pa.types.is_int64(field.type) and pa.types.is_float64(kind):
                field = field.with_type(kind)
                integers.append(field.name)
            fields.append(field)
        settled.append((pa.schema(fields), tuple(integers)))
    return settled


def _positions(have: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where the wanted columns are; all of them as they come unless they are the same ones."""
    if len(set(have)) == len(have) and sorted(have) == sorted(wanted):
        return [have.index(name) for name in wanted]
    return list(range(len(have)))


def _difference(left: pa.Schema, right: pa.Schema) -> str | None:
    if left.equals(right, check_metadata=False):
        return None
    for position, (one, other) in enumerate(zip(left, right, strict=False), start=1):
        if one.name != other.name:
            return f"column {position} is {one.name!r} in the first, {other.name!r} in the second"
        if one.type != other.type:
            return f"column {one.name!r} is {one.type} in the first, {other.type} in the second"
        if one.nullable != other.nullable:
            first, second = ("nullable" if f.nullable else "not null" for f in (one, other))
            return f"column {one.name!r} is {first} in the first, {second} in the second"
    longer, which = (left, "first") if len(left) > len(right) else (right, "second")
    extra = longer.field(min(len(left), len(right))).name
    return f"column {extra!r} is only in the {which}"


def check_keys(schema: pa.Schema, by: Sequence[str], name: str) -> None:
    """Raise :class:`~laminar.errors.InputError` when a key is not exactly one column."""
    for column in by:
        count = len(schema.get_all_field_indices(column))
        if count == 0:
            known = ", ".join(schema.names[:12]) + (", …" if len(schema) > 12 else "")
            raise InputError(f"{name} has no column {column!r}; it has: {known}")
        if count > 1:
            raise InputError(f"{name} has {count} columns named {column!r}: not usable as a key")


def changed_fields(wanted: pa.Schema, written: pa.Schema) -> Mapping[str, str]:
    """Fields that a file format could not keep: name to a description of the change."""
    changed = {}
    for before, after in zip(wanted, written, strict=True):
        if not before.equals(after, check_metadata=False):
            changed[before.name] = f"{before.type} becomes {after.type}"
    return changed


def pack_schema(schema: pa.Schema) -> str:
    """A schema as text, metadata included."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")


def unpack_schema(text: str) -> pa.Schema:
    """The schema of :func:`pack_schema`."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
