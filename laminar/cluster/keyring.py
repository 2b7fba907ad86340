"""The keys that the nodes of a cluster share, and their replacement while it runs.

The invariant: one key, the *primary*, seals; every key of the ring opens. So a key is replaced
without losing a datagram by three steps, each carried to all nodes before the next one begins:
:meth:`Keyring.install` the new one, :meth:`Keyring.use` it, :meth:`Keyring.remove` the old one.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

from laminar.config import KEY_BYTES_MAX, KEY_BYTES_MIN, KEYS_MAX
from laminar.errors import ConfigError

KEY_ID_BYTES: Final = 4


def key_id(key: bytes) -> bytes:
    """What a key is called, on the wire too: enough to find it, too little to learn it."""
    return hmac.digest(key, b"laminar gossip key id", "sha256")[:KEY_ID_BYTES]


class Keyring:
    """Keys by id, one of them the primary. Never shows a key.

    One ring may be shared by a gossip agent, a sender and a receiver. Changes count from the
    next datagram and from the next connection on; what is connected stays so.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Hold ``keys``, the first one as the primary.

        Raises :class:`~laminar.errors.ConfigError` when there is none, or one that
        :meth:`install` refuses.
        """
        if not keys:
            raise ConfigError("a keyring needs at least one key")
        self._keys: dict[bytes, bytes] = {}
        for key in keys:
            self.install(key)
        self._primary = key_id(keys[0])

    def __repr__(self) -> str:
        """The ids only."""
        return f"Keyring(primary={self._primary.hex()}, ids={[i.hex() for i in self.ids]})"

    @property
    def ids(self) -> tuple[bytes, ...]:
        """The ids of all keys, in the order in which they came."""
        return tuple(self._keys)

    @property
    def primary(self) -> bytes:
        """The id of the key that seals."""
        return self._primary

    @property
    def primary_key(self) -> bytes:
        """The key that seals."""
        return self._keys[self._primary]

    @property
    def keys(self) -> tuple[bytes, ...]:
        """All keys, the one that seals first."""
        others = (key for identity, key in self._keys.items() if identity != self._primary)
        return (self.primary_key, *others)

    def key(self, identity: bytes) -> bytes | None:
        """Return the key with this id, ``None`` when the ring does not have it."""
        return self._keys.get(identity)

    def install(self, key: bytes) -> bytes:
        """Open with ``key`` from now on, and return its id; one that is there stays.

        Raises :class:`~laminar.errors.ConfigError` when it is no bytes, too short or too long,
        one too many, or has the id of another key.
        """
        if type(key) is not bytes or not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
            raise ConfigError(
                f"a key is {KEY_BYTES_MIN} to {KEY_BYTES_MAX} random bytes; make one with "
                "secrets.token_bytes(32)"
            )
        identity = key_id(key)
        present = self._keys.get(identity)
        if present is None and len(self._keys) == KEYS_MAX:
            raise ConfigError(f"a keyring holds at most {KEYS_MAX} keys; remove an old one first")
        if present is not None and present != key:
            raise ConfigError(f"another key has the id {identity.hex()} already; make a new key")
        self._keys[identity] = key
        return identity

    def use(self, identity: bytes) -> None:
        """Seal with this key from now on.

        Raises :class:`~laminar.errors.ConfigError` when it was not installed.
        """
        self._check_present(identity)
        self._primary = identity

    def remove(self, identity: bytes) -> None:
        """Open nothing with this key any more.

        Raises :class:`~laminar.errors.ConfigError` when it was not installed, or is the primary.
        """
        self._check_present(identity)
        if identity == self._primary:
            raise ConfigError(f"key {identity.hex()} is in use; use another one before removing it")
        del self._keys[identity]

    def _check_present(self, identity: bytes) -> None:
        if identity not in self._keys:
            raise ConfigError(f"no key {identity.hex()} in the keyring; install it first")
