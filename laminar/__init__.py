"""Laminar: a shuffle fabric for Arrow record batches.

Batches travel between the nodes of a dataflow job in order, with bounded memory, and with
checkpoint barriers among them. Start with ``ShuffleSender`` and ``ShuffleReceiver`` (one
connection), ``Exchange`` (an operator's view of many), ``Node`` (all of it, with discovery)
or the ``laminar shuffle`` command.

Where things are, from the top; an import only ever points down::

    laminar.testing       suites and fakes for tests; imports all, imported by none
    laminar.cli           the command line
    laminar.admin         what operators ask a node over HTTP: health, members, metrics
    laminar.repartition   the job behind ``laminar shuffle``: readers, workers, writers
    laminar.node          one member of a cluster: wires discovery and data plane together
    laminar.shuffle       the data plane. Pure: messages, frames, control, arrow, window,
                          session, authentication, aligner, hashing, partition,
                          placement. Drivers: sender, receiver, exchange
    laminar.cluster       discovery: the KV protocol, in memory and on etcd; gossip. Pure: watch,
                          seal, keyring, replay, tenure, amplification, gossip but its drivers
    laminar.net           streams, datagrams, TLS; the only place that touches a socket
    laminar.config        limits and settings, each with its unit in its name
    laminar.model         the vocabulary: NodeId, VNode, Epoch, CheckpointBarrier, ...
    laminar.errors        every error, as one tree

The names below load when first used, so ``import laminar`` itself costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from laminar.admin.server import Admin
    from laminar.cluster import SHUFFLE_ADDR_KEY, ClusterKv, InMemoryKv, KvEvent
    from laminar.cluster.gossip.agent import GossipAgent
    from laminar.cluster.gossip.key_driver import KeyChange
    from laminar.cluster.gossip.key_messages import KeyReport
    from laminar.cluster.gossip.kv import GossipKv
    from laminar.cluster.gossip.member import Member, MemberState
    from laminar.cluster.keyring import Keyring
    from laminar.config import (
        AdminConfig,
        DatagramConfig,
        EtcdConfig,
        GossipConfig,
        ShuffleConfig,
        TlsConfig,
    )
    from laminar.errors import (
        AdminRefusedError,
        BatchTooLargeError,
        ChannelEndedError,
        ClosedError,
        ConfigError,
        FanOutError,
        HandshakeRefusedError,
        InputError,
        JobError,
        KeyRotationError,
        KvRefusedError,
        KvUnavailableError,
        LaminarError,
        LocalError,
        NoCreditError,
        NodeIdTakenError,
        OutputError,
        PeerLostError,
        PeerRestartedError,
        PeerUnreachableError,
        ProtocolError,
        RemoteError,
        SchemaError,
        StreamBrokenError,
        StreamClosedError,
        StreamError,
        StreamUntrustedError,
        UnknownPeerError,
        UnsupportedKeyError,
        WorkerError,
    )
    from laminar.model import (
        BarrierFlags,
        CheckpointBarrier,
        CheckpointId,
        Epoch,
        Incarnation,
        NodeId,
        VNode,
        node_id,
        node_uri,
    )
    from laminar.node.config import NodeConfig
    from laminar.node.node import Node
    from laminar.shuffle.aligner import BarrierAligner, Superseded
    from laminar.shuffle.exchange import Exchange
    from laminar.shuffle.hash_partitioner import HashPartitioner
    from laminar.shuffle.liveness import PeerEvent, PeerState
    from laminar.shuffle.messages import (
        Barrier,
        Close,
        Data,
        End,
        Message,
        SchemaChanged,
        Watermark,
    )
    from laminar.shuffle.partition import Partitioner
    from laminar.shuffle.range_partitioner import RangePartitioner
    from laminar.shuffle.receiver import ShuffleReceiver
    from laminar.shuffle.sender import ShuffleSender
    from laminar.shuffle.spread import (
        BroadcastPartitioner,
        CustomPartitioner,
        RoundRobinPartitioner,
        SinglePartitioner,
    )

__version__ = "0.1.0"

_HOMES: dict[str, tuple[str, ...]] = {
    "laminar.admin.server": ("Admin",),
    "laminar.cluster": ("SHUFFLE_ADDR_KEY", "ClusterKv", "InMemoryKv", "KvEvent"),
    "laminar.cluster.gossip.agent": ("GossipAgent",),
    "laminar.cluster.gossip.key_driver": ("KeyChange",),
    "laminar.cluster.gossip.key_messages": ("KeyReport",),
    "laminar.cluster.gossip.kv": ("GossipKv",),
    "laminar.cluster.gossip.member": ("Member", "MemberState"),
    "laminar.cluster.keyring": ("Keyring",),
    "laminar.config": (
        "AdminConfig",
        "DatagramConfig",
        "EtcdConfig",
        "GossipConfig",
        "ShuffleConfig",
        "TlsConfig",
    ),
    "laminar.errors": (
        "AdminRefusedError",
        "BatchTooLargeError",
        "ChannelEndedError",
        "ClosedError",
        "ConfigError",
        "FanOutError",
        "HandshakeRefusedError",
        "InputError",
        "JobError",
        "KeyRotationError",
        "KvRefusedError",
        "KvUnavailableError",
        "LaminarError",
        "LocalError",
        "NoCreditError",
        "NodeIdTakenError",
        "OutputError",
        "PeerLostError",
        "PeerRestartedError",
        "PeerUnreachableError",
        "ProtocolError",
        "RemoteError",
        "SchemaError",
        "StreamBrokenError",
        "StreamClosedError",
        "StreamError",
        "StreamUntrustedError",
        "UnknownPeerError",
        "UnsupportedKeyError",
        "WorkerError",
    ),
    "laminar.model": (
        "BarrierFlags",
        "CheckpointBarrier",
        "CheckpointId",
        "Epoch",
        "Incarnation",
        "NodeId",
        "VNode",
        "node_id",
        "node_uri",
    ),
    "laminar.node.config": ("NodeConfig",),
    "laminar.node.node": ("Node",),
    "laminar.shuffle.aligner": ("BarrierAligner", "Superseded"),
    "laminar.shuffle.exchange": ("Exchange",),
    "laminar.shuffle.hash_partitioner": ("HashPartitioner",),
    "laminar.shuffle.liveness": ("PeerEvent", "PeerState"),
    "laminar.shuffle.messages": (
        "Barrier",
        "Close",
        "Data",
        "End",
        "Message",
        "SchemaChanged",
        "Watermark",
    ),
    "laminar.shuffle.partition": ("Partitioner",),
    "laminar.shuffle.range_partitioner": ("RangePartitioner",),
    "laminar.shuffle.receiver": ("ShuffleReceiver",),
    "laminar.shuffle.sender": ("ShuffleSender",),
    "laminar.shuffle.spread": (
        "BroadcastPartitioner",
        "CustomPartitioner",
        "RoundRobinPartitioner",
        "SinglePartitioner",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "SHUFFLE_ADDR_KEY",
    "Admin",
    "AdminConfig",
    "AdminRefusedError",
    "Barrier",
    "BarrierAligner",
    "BarrierFlags",
    "BatchTooLargeError",
    "BroadcastPartitioner",
    "ChannelEndedError",
    "CheckpointBarrier",
    "CheckpointId",
    "Close",
    "ClosedError",
    "ClusterKv",
    "ConfigError",
    "CustomPartitioner",
    "Data",
    "DatagramConfig",
    "End",
    "Epoch",
    "EtcdConfig",
    "Exchange",
    "FanOutError",
    "GossipAgent",
    "GossipConfig",
    "GossipKv",
    "HandshakeRefusedError",
    "HashPartitioner",
    "InMemoryKv",
    "Incarnation",
    "InputError",
    "JobError",
    "KeyChange",
    "KeyReport",
    "KeyRotationError",
    "Keyring",
    "KvEvent",
    "KvRefusedError",
    "KvUnavailableError",
    "LaminarError",
    "LocalError",
    "Member",
    "MemberState",
    "Message",
    "NoCreditError",
    "Node",
    "NodeConfig",
    "NodeId",
    "NodeIdTakenError",
    "OutputError",
    "Partitioner",
    "PeerEvent",
    "PeerLostError",
    "PeerRestartedError",
    "PeerState",
    "PeerUnreachableError",
    "ProtocolError",
    "RangePartitioner",
    "RemoteError",
    "RoundRobinPartitioner",
    "SchemaChanged",
    "SchemaError",
    "ShuffleConfig",
    "ShuffleReceiver",
    "ShuffleSender",
    "SinglePartitioner",
    "StreamBrokenError",
    "StreamClosedError",
    "StreamError",
    "StreamUntrustedError",
    "Superseded",
    "TlsConfig",
    "UnknownPeerError",
    "UnsupportedKeyError",
    "VNode",
    "Watermark",
    "WorkerError",
    "__version__",
    "node_id",
    "node_uri",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
