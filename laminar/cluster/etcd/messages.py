"""What is said to and by etcd's gRPC gateway: JSON, with bytes in base64 and integers as strings.

A field with its default value is left out. Answers are data from outside: what does not have
the documented form is a :class:`~laminar.errors.ProtocolError`.
See the etcd documentation, "gRPC gateway", and its ``rpc.proto``.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from laminar.cluster.etcd.layout import Cell, Layout
from laminar.errors import KvRefusedError, ProtocolError

Json: TypeAlias = dict[str, Any]
"""A JSON object."""

LEASE_NOT_FOUND: Final = 5
"""The gRPC status with which a write with a lease that ended is refused."""

OUT_OF_RANGE: Final = 11
"""The gRPC status with which a read at a compacted revision is refused."""

TRANSIENT: Final = frozenset({1, 4, 8, 10, 14})
"""gRPC statuses after which the same may be asked again: cancelled, late, exhausted, ..."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a key holds since ``revision``; ``value`` is ``None`` once it is gone."""

    cell: Cell
    value: str | None
    revision: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some keys, as they were at ``revision`` of the store ``store``."""

    store: int
    revision: int
    changes: tuple[Change, ...]
    more: bytes | None
    """The first key of the next page, if there is one."""
    strange: int
    """Keys that no node wrote through Laminar."""


@dataclass(frozen=True, slots=True)
class News:
    """A message of a watch."""

    store: int
    revision: int
    """The store's when the watch was created, else the one up to which all is told.

    The header's may be newer than what was told, unless the message is there to tell just that.
    """
    created: bool
    ended: bool
    """etcd ended the watch: what it would have to tell is compacted, or the store is gone."""
    partial: bool
    """Another message with changes of the same revisions follows."""
    changes: tuple[Change, ...]
    strange: int


def text(data: bytes) -> str:
    """Bytes as they are put into a request."""
    return b64encode(data).decode()


def parse(data: bytes | bytearray) -> Json:
    """Return the JSON object in ``data``.

    Raises :class:`~laminar.errors.ProtocolError` when there is none, and
    :class:`~laminar.errors.KvRefusedError` when it tells an error.
    """
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _unexpected(f"no JSON but {bytes(data[:80])!r}") from error
    if not isinstance(message, dict):
        raise _unexpected(f"no JSON object but {bytes(data[:80])!r}")
    if "error" in message:
        raise _refusal(message)
    return message


def integer(message: Json, name: str) -> int:
    """The 64-bit integer ``name``, 0 when it is left out."""
    value = message.get(name, "0")
    if isinstance(value, str | int):
        try:
            return int(value)
        except ValueError:
            pass
    raise _unexpected(f"{name} is no integer but {value!r}")


def header(message: Json) -> tuple[int, int]:
    """The store's identity and revision that every answer names."""
    told = _object(message, "header")
    return integer(told, "cluster_id"), integer(told, "revision")


def result(message: Json) -> Json:
    """What a message of a stream holds."""
    return _object(message, "result")


def page(message: Json, layout: Layout) -> Page:
    """What a range request returned."""
    store, revision = header(message)
    entries = _objects(message, "kvs")
    changes, strange = _changes(((False, entry) for entry in entries), layout)
    more = _data(entries[-1], "key") + b"\0" if message.get("more") and entries else None
    return Page(store, revision, changes, more, strange)


def news(message: Json, layout: Layout) -> News:
    """What a watch told."""
    inner = result(message)
    store, revision = header(inner)
    events = _objects(inner, "events")
    told = [(event.get("type") == "DELETE", _object(event, "kv")) for event in events]
    changes, strange = _changes(told, layout)
    revision = max((integer(entry, "mod_revision") for _, entry in told), default=revision)
    return News(
        store,
        revision,
        created=bool(inner.get("created")),
        ended=bool(inner.get("canceled")),
        partial=bool(inner.get("fragment")),
        changes=changes,
        strange=strange,
    )


def _changes(
    entries: Iterable[tuple[bool, Json]], layout: Layout
) -> tuple[tuple[Change, ...], int]:
    """Those of the entries that are ours, and how many are not."""
    changes, strange = [], 0
    for deleted, entry in entries:
        cell = layout.cell(_data(entry, "key"))
        value = None if deleted else _string(_data(entry, "value"))
        if cell is None or (value is None and not deleted):
            strange += 1
        else:
            changes.append(Change(cell, value, integer(entry, "mod_revision")))
    return tuple(changes), strange


def _refusal(message: Json) -> KvRefusedError:
    """What an error, as a call or as a stream tells it, says."""
    inner = message["error"]
    told = inner if isinstance(inner, dict) else message
    code = told.get("grpc_code", told.get("code", 2))
    detail = told.get("message", inner)
    return KvRefusedError(code if isinstance(code, int) else 2, f"etcd refused: {detail}")


def _data(entry: Json, name: str) -> bytes:
    value = entry.get(name, "")
    try:
        return b64decode(value, validate=True)
    except (ValueError, TypeError) as error:
        raise _unexpected(f"{name} is no base64 but {value!r}") from error


def _string(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _object(message: Json, name: str) -> Json:
    value = message.get(name, {})
    if not isinstance(value, dict):
        raise _unexpected(f"{name} is no object but {value!r}")
    return value


def _objects(message: Json, name: str) -> list[Json]:
    value = message.get(name, [])
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise _unexpected(f"{name} is no list of objects but {value!r}")
    return value


def _unexpected(what: str) -> ProtocolError:
    return ProtocolError("etcd", f"the answer of etcd has an unexpected form: {what}")
