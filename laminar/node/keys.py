"""The keys that a node begins with."""

from __future__ import annotations

from laminar.cluster.keyring import Keyring
from laminar.node.config import NodeConfig


def load_keyring(config: NodeConfig) -> Keyring | None:
    """The keyring that ``config`` asks for, if any.

    Raises :class:`~laminar.errors.ConfigError` when its file is none.
    """
    return Keyring(config.shuffle.keys) if config.shuffle.keys else None
