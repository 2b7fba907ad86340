"""A snapshot of a whole node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from laminar.cluster.gossip.member import Member
from laminar.cluster.gossip.statistics import GossipStatistics
from laminar.cluster.seal import SealStatistics
from laminar.model import NodeId
from laminar.shuffle.statistics import ReceiverStatistics, SenderStatistics


@dataclass(frozen=True, slots=True)
class DiscoveryStatistics:
    """A snapshot of the gossip with all that it stands on."""

    gossip: GossipStatistics
    seal: SealStatistics
    network_errors: Mapping[str, int]
    """How often the system refused to ``send``, ``receive`` or ``resolve``."""


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """What one node has done, and what it sees."""

    node: NodeId
    cluster: str
    version: str
    """Of Laminar."""
    addr: str
    """Where others reach it."""
    uptime_s: float
    members: Mapping[NodeId, Member]
    sender: SenderStatistics
    receiver: ReceiverStatistics
    discovery: DiscoveryStatistics | None
    """``None`` without gossip."""
