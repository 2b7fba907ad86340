"""What a node may write into its own slot."""

from __future__ import annotations

from laminar.cluster.gossip.slot import RESERVED_PREFIX, Slot
from laminar.cluster.kv import KEY_LENGTH_MAX, check_key, check_value
from laminar.config import GossipConfig
from laminar.errors import ConfigError


def check_writable(key: str) -> None:
    """Raise :class:`~laminar.errors.ConfigError` if the gossip keeps ``key`` for itself."""
    if key.startswith(RESERVED_PREFIX):
        raise ConfigError(f"KV keys that begin with {RESERVED_PREFIX!r} are reserved: {key!r}")


def check_room(
    own: Slot, key: str, value: str, ttl_s: float | None, entry_bytes_max: int, config: GossipConfig
) -> None:
    """Raise :class:`~laminar.errors.ConfigError` unless this may be written into ``own``.

    It must be valid, fit a datagram (``entry_bytes_max`` for key and value), and fit the slot.
    """
    check_value(check_key(key), value)
    check_writable(key)
    if ttl_s is not None and not 0 < ttl_s < 2**32:
        raise ConfigError(f"a time to live is greater than 0 s, got {ttl_s!r} for {key!r}")
    size = len(key.encode()) + len(value.encode())
    if size > entry_bytes_max or len(key.encode()) > KEY_LENGTH_MAX:
        raise ConfigError(
            f"the KV key {key[:64]!r} and its value have {size} bytes; what is gossiped must "
            f"fit one datagram: at most {entry_bytes_max} bytes together, and "
            f"{KEY_LENGTH_MAX} for the key. Publish where to get it instead"
        )
    old = own.priority.entry(key) or own.bulk.entry(key)
    if old is None and own.keys >= config.keys_max:
        raise ConfigError(
            f"there is no room for the KV key {key!r}: this node has {own.keys} of at "
            f"most {config.keys_max} keys (keys_max), those deleted lately included"
        )
    replaced = 0 if old is None else len(key.encode()) + len((old.value or "").encode())
    if own.size_bytes - replaced + size > config.slot_bytes_max:
        raise ConfigError(
            f"there is no room for the KV key {key!r}: this node's keys have "
            f"{own.size_bytes} of at most {config.slot_bytes_max} bytes (slot_bytes_max)"
        )
