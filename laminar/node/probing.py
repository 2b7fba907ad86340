"""Making the prober of a node."""

from __future__ import annotations

from typing import Final

from laminar.cluster.keyring import Keyring
from laminar.config import ShuffleConfig
from laminar.model import NodeId
from laminar.net.stream import Network
from laminar.net.tcp import TcpNetwork
from laminar.net.tls import TlsNetwork
from laminar.shuffle.probe import Prober

PROBE_TIMEOUT_S: Final = 3.0
"""Longest time for each step of a probe."""


def make_prober(
    local: NodeId, config: ShuffleConfig, keyring: Keyring | None, network: Network | None
) -> Prober:
    """One that introduces itself as ``local``, with the keys and files as they are now.

    Raises :class:`~laminar.errors.ConfigError` when the files of TLS cannot be used.
    """
    network = network or TcpNetwork()
    if config.tls is not None:
        network = TlsNetwork(network, config.tls)
    keys = () if keyring is None else keyring.keys
    return Prober(local, config.cluster, keys, network, PROBE_TIMEOUT_S)
