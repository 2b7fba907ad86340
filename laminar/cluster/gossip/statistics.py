"""A snapshot of the gossip of one node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from laminar.cluster.gossip.member import MemberState


@dataclass(frozen=True, slots=True)
class GossipStatistics:
    """What one node has done, and how it sees the others."""

    rounds: int
    members: Mapping[MemberState, int]
    """How many nodes are in each state, the own one included."""
    datagrams_sent: int
    bytes_sent: int
    datagrams_received: int
    bytes_received: int
    """Those that were refused included."""
    suspicions: int
    """How often a node became suspect."""
    deaths: int
    """How often a node was taken for dead."""
    renewals: int
    """How often this node took a newer incarnation because of what was said of it."""
    lateness_s: float
    """By how much the latest tick was late."""
    health_score: int
    """0 when this process keeps time; all timeouts are that many times longer."""
    drops: Mapping[str, int]
    """What was refused or not believed, by reason: whole datagrams and parts of them."""
