"""The keys that a node begins with."""

from __future__ import annotations

from laminar.cluster import keyring_file
from laminar.cluster.keyring import Keyring
from laminar.node.config import NodeConfig


def load_keyring(config: NodeConfig) -> Keyring | None:
    """The one ring that gossip and data share, so that a key is replaced for both at once.

    Raises :class:`~laminar.errors.ConfigError` when its file is none.
    """
    if config.keys_file is not None:
        return keyring_file.load(config.keys_file)
    return Keyring(config.shuffle.keys) if config.shuffle.keys else None
