"""All settings of one node, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from laminar.config import DatagramConfig, EtcdConfig, GossipConfig, ShuffleConfig
from laminar.errors import ConfigError
from laminar.model import node_id
from laminar.net.address import is_unspecified, parse_addr


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Who a node is, where it listens, and how it finds the others.

    By gossip, unless ``peers`` or ``etcd`` say otherwise. :mod:`laminar.node.settings` reads one
    from TOML and the environment.

    Raises :class:`~laminar.errors.ConfigError` when a value is out of range or two contradict
    each other.
    """

    node: str
    """The node's id, unique in its cluster."""

    listen: str = "127.0.0.1:0"
    """``host:port`` for data over TCP and gossip over UDP; port 0 lets the system choose."""

    advertise: str | None = None
    """Where others reach this node, if not at ``listen``."""

    seeds: tuple[str, ...] = ()
    """``host:port`` of some nodes, by address or DNS name; one that answers is enough."""

    peers: Mapping[str, str] = field(default_factory=dict)
    """All other nodes and where they listen. With any, there is no gossip and nothing is found."""

    etcd: EtcdConfig | None = None
    """Find the others in etcd (extra ``etcd``) instead of by gossip."""

    keys_file: str | None = None
    """A file of the keys that the nodes share, for data and gossip, which only its owner may read.

    It is written anew when a key is replaced; see :mod:`laminar.cluster.keyring_file`.
    """

    state_file: str | None = None
    """Where the node remembers its incarnation, so that its next life is newer in any case."""

    admin: str | None = None
    """``host:port`` of the HTTP server that ``laminar node`` offers operators."""

    shuffle: ShuffleConfig = field(default_factory=ShuffleConfig)
    """Settings of the data plane. Its ``cluster``, ``keys`` and ``allow_unauthenticated`` hold for
    the gossip too."""

    gossip: GossipConfig = field(default_factory=GossipConfig)
    datagrams: DatagramConfig = field(default_factory=DatagramConfig)

    def __post_init__(self) -> None:
        node_id(self.node)
        seeds: object = self.seeds
        if isinstance(seeds, str):
            raise ConfigError("seeds is a tuple of addresses, also when it is one: ('host:port',)")
        parse_addr(self.listen)
        for addr in (*self.seeds, *self.peers.values()):
            parse_addr(addr)
        for peer in self.peers:
            node_id(peer)
        if self.advertise is not None:
            parse_addr(self.advertise)
        elif is_unspecified(self.listen):
            raise ConfigError(
                f"others cannot reach {self.listen}: give the address that they can reach as "
                "`advertise`"
            )
        ways = {"seeds": self.seeds, "peers": self.peers, "etcd": self.etcd}
        given = [name for name, value in ways.items() if value]
        if len(given) > 1:
            raise ConfigError(
                f"a node finds the others in one way, got {' and '.join(given)}: `seeds` is for "
                "gossip, `peers` names all of them, `etcd` looks there"
            )
        idle_s = 2 * self.shuffle.keepalive_interval_s
        if not (self.peers or self.etcd) and self.gossip.direct_evidence_s < idle_s:
            raise ConfigError(
                f"gossip.direct_evidence_s ({self.gossip.direct_evidence_s}) must be at least two "
                f"shuffle.keepalive_interval_s ({idle_s}): idle connections show only so often "
                "that their peers live"
            )
        if self.keys_file is not None and self.shuffle.keys:
            raise ConfigError("keys come from `keys_file` or `shuffle.keys`, not from both")
