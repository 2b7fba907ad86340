"""How a job is divided: which pieces of which files make a unit of work."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pyarrow as pa

from laminar.errors import OutputError
from laminar.repartition.footers import FileFacts, Piece, inspect, row_bytes_of
from laminar.repartition.hive import columns_of, keys_of
from laminar.repartition.plan import Layout, Plan, Split
from laminar.repartition.schema import (
    check_keys,
    common_schema,
    pack_schema,
    settle_csv,
)
from laminar.repartition.sources import find_sources, local_path
from laminar.repartition.spec import JobSpec
from laminar.repartition.writers import check_writable
from laminar.shuffle.hashing import check_key_type

SPLITS_PER_WORKER: Final = 12
"""Small enough pieces that workers finish together, large enough that a split costs little."""

SPLIT_BYTES_MAX: Final = 64 << 20
INSPECTION_THREADS: Final = 8


def make_plan(spec: JobSpec) -> Plan:
    """Find and inspect the inputs (this reads files) and divide the work.

    Raises :class:`~laminar.errors.InputError`, :class:`~laminar.errors.OutputError`, or
    :class:`~laminar.errors.UnsupportedKeyError` for a key whose equality is not settled.
    """
    sources = find_sources(spec.inputs)
    check_apart(spec, [source.name for source in sources])
    if len(sources) == 1:
        facts = [inspect(sources[0])]
    else:
        with ThreadPoolExecutor(INSPECTION_THREADS) as pool:
            facts = list(pool.map(inspect, sources))
    return divide(spec, facts)


def divide(spec: JobSpec, facts: Sequence[FileFacts]) -> Plan:
    """Check that the files fit together and divide them into splits. No I/O.

    Raises what :func:`make_plan` raises.
    """
    facts = _with_folders(_settle_csv(facts))
    schema = common_schema([(fact.source.name, fact.schema) for fact in facts])
    check_keys(schema, spec.by, facts[0].source.name)
    for column in spec.by:
        check_key_type(schema.field(column).type, column)
    dictionaries = _dictionary_columns(spec, facts)
    notes = check_writable(schema, dictionaries, spec.output_format, spec.codec)
    splits = tuple(arrange(facts, spec.workers))
    known = [split.rows for split in splits if split.rows is not None]
    return Plan(
        layout=Layout(
            schema=pack_schema(schema),
            dictionary_columns=dictionaries,
            decimals_as_integers=any(fact.decimals_as_integers for fact in facts),
            row_bytes=max(fact.row_bytes for fact in facts),
        ),
        splits=splits,
        files=len(facts),
        rows=sum(known) if len(known) == len(splits) else None,
        size_bytes=sum(split.size_bytes for split in splits),
        notes=(*_folder_notes(facts[0]), *notes),
    )


def _folder_notes(first: FileFacts) -> tuple[str, ...]:
    if not first.constants:
        return ()
    names = ", ".join(repr(name) for name, _ in first.constants)
    return (f"columns from the names of folders: {names}",)


def arrange(facts: Sequence[FileFacts], workers: int) -> Iterator[Split]:
    """Splits of about equal size, each of consecutive pieces of one file."""
    total = sum(piece.size_bytes for fact in facts for piece in fact.pieces)
    target = min(SPLIT_BYTES_MAX, total // (workers * SPLITS_PER_WORKER))
    for fact in facts:
        held: list[Piece] = []
        for piece in fact.pieces:
            if held and sum(p.size_bytes for p in held) + piece.size_bytes > target:
                yield _split(fact, held)
                held = []
            held.append(piece)
        if held:
            yield _split(fact, held)


def _split(fact: FileFacts, pieces: Sequence[Piece]) -> Split:
    counts = [piece.rows for piece in pieces if piece.rows is not None]
    return Split(
        source=fact.source.name,
        format=fact.source.format,
        pieces=tuple(piece.index for piece in pieces),
        rows=sum(counts) if len(counts) == len(pieces) else None,
        size_bytes=sum(piece.size_bytes for piece in pieces),
        constants=fact.constants,
        integers=fact.integers,
    )


def _settle_csv(facts: Sequence[FileFacts]) -> list[FileFacts]:
    csv = [i for i, fact in enumerate(facts) if fact.source.format == "csv"]
    agreed = settle_csv([facts[i].schema for i in csv], facts[0].schema.names)
    settled = list(facts)
    for i, (schema, integers) in zip(csv, agreed, strict=True):
        settled[i] = dataclasses.replace(facts[i], schema=schema, integers=integers)
    return settled


def _with_folders(facts: Sequence[FileFacts]) -> list[FileFacts]:
    """Add the columns that folders make to every file's own."""
    keys = []
    for fact in facts:
        own = set(fact.schema.names)
        keys.append(tuple(key for key in keys_of(fact.source.name) if key[0] not in own))
    added = columns_of([(fact.source.name, key) for fact, key in zip(facts, keys, strict=True)])
    return [
        dataclasses.replace(
            fact,
            schema=_extended(fact.schema, added),
            constants=constants,
            row_bytes=fact.row_bytes + row_bytes_of(added),
        )
        for fact, constants in zip(facts, keys, strict=True)
    ]


def _extended(schema: pa.Schema, added: pa.Schema) -> pa.Schema:
    for field in added:
        schema = schema.append(field)
    return schema


def _dictionary_columns(spec: JobSpec, facts: Sequence[FileFacts]) -> tuple[str, ...]:
    """Columns that are small dictionaries in every file; never a key, which gets hashed."""
    common = facts[0].low_cardinality
    for fact in facts[1:]:
        if fact.pieces:
            common &= fact.low_cardinality
    names = facts[0].schema.names
    return tuple(name for name in names if name in common and name not in spec.by)


def check_apart(spec: JobSpec, names: Sequence[str]) -> None:
    """Raise :class:`~laminar.errors.OutputError` when input and output overlap.

    Replacing a folder that holds an input would destroy it; writing into a folder that is
    an input would make the output the next run's input.
    """
    out = os.path.realpath(spec.out)
    for name in names:
        local = local_path(name)
        if local is not None and _inside(os.path.realpath(local), out):
            raise OutputError(f"the output folder {spec.out} holds the input {name}")
    for given in spec.inputs:
        local = local_path(given)
        if local and os.path.isdir(local) and _inside(out, os.path.realpath(local)):
            raise OutputError(f"the output folder {spec.out} is inside the input {given}")


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
