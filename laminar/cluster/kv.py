"""The cluster's key-value store, as every node sees it.

It is weak on purpose, so that gossip can keep what it promises:

- A node writes and deletes keys in its *own slot* only; anybody reads every slot.
- A node sees its own writes at once and everybody else's eventually, each slot's
  keys possibly out of order.
- There is no compare-and-swap. Whoever needs one wants another interface.

``laminar.testing.kv.check_kv`` is this contract as a test suite.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from laminar.errors import ConfigError
from laminar.model import NodeId

SHUFFLE_ADDR_KEY = "shuffle:addr"
"""The key under which a receiver publishes the address it listens on, as ``host:port``."""

KEY_LENGTH_MAX = 256
"""Characters in a key."""

VALUE_BYTES_MAX = 64 * 1024
"""Bytes in a value, as UTF-8."""


@dataclass(frozen=True, slots=True)
class KvEvent:
    """What a key of a node's slot holds now; ``value`` is ``None`` once it was deleted."""

    node: NodeId
    key: str
    value: str | None


class ClusterKv(Protocol):
    """One node's handle on the store that its cluster shares."""

    @property
    def local_node(self) -> NodeId:
        """The node whose slot :meth:`write` and :meth:`delete` change."""
        ...

    @property
    def value_bytes_max(self) -> int:
        """Bytes of the largest value, as UTF-8, that :meth:`write` takes whatever the key.

        At most ``VALUE_BYTES_MAX``.
        """
        ...

    async def write(self, key: str, value: str) -> None:
        """Set ``key`` in the own slot.

        Raises :class:`~laminar.errors.ConfigError` when the key or the value breaks
        :func:`check_key` or :func:`check_value`, or is too large for this store; nothing is
        written then.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove ``key`` from the own slot; a key that is not there is no error."""
        ...

    async def read_from(self, node: str, key: str) -> str | None:
        """Return what ``node`` holds under ``key``, or ``None``, also for an unknown node."""
        ...

    async def scan(self, prefix: str = "") -> dict[NodeId, dict[str, str]]:
        """Return a copy of all keys that start with ``prefix``, by node.

        Nodes without such a key are left out.
        """
        ...

    def watch(self, prefix: str = "") -> AbstractAsyncContextManager[AsyncIterator[KvEvent]]:
        """Follow the keys that start with ``prefix``, in every slot.

        The iterator first yields what is there, then what changes, deletions included;
        it never ends by itself. It tells states, not writes: a slow reader gets the
        latest state of each key and misses those in between, so memory is bounded by
        the number of keys and the last state is never lost. Outside its ``async with``
        block the iterator raises :class:`~laminar.errors.ClosedError`.
        """
        ...


def check_key(key: str) -> str:
    """Return ``key`` if it is a string of 1 to ``KEY_LENGTH_MAX`` characters.

    Raises :class:`~laminar.errors.ConfigError` otherwise.
    """
    if not isinstance(key, str):
        raise ConfigError(f"a KV key is a string, not {type(key).__name__}: {key!r}")
    if not 1 <= len(key) <= KEY_LENGTH_MAX:
        raise ConfigError(
            f"a KV key has 1 to {KEY_LENGTH_MAX} characters, got {len(key)}: {key[:32]!r}"
        )
    _utf8_length(key, f"the KV key {key!r}")
    return key


def check_value(key: str, value: str) -> str:
    """Return ``value`` if it is a string of at most ``VALUE_BYTES_MAX`` bytes of UTF-8.

    Raises :class:`~laminar.errors.ConfigError`, naming ``key``, otherwise.
    """
    if not isinstance(value, str):
        raise ConfigError(f"the value of KV key {key!r} is no string but {type(value).__name__}")
    length = _utf8_length(value, f"the value of KV key {key!r}")
    if length > VALUE_BYTES_MAX:
        raise ConfigError(
            f"the value of KV key {key!r} has {length} bytes, at most {VALUE_BYTES_MAX} fit"
        )
    return value


def _utf8_length(text: str, what: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise ConfigError(f"{what} cannot be encoded as UTF-8: {error.reason}") from error
