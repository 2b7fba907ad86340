"""A snapshot of the gossip of one node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from laminar.cluster.gossip.member import MemberState

REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "malformed": "a payload that is no message",
        "version": "a message of another version",
        "sender": "a message in the name of another than who sealed it",
        "echo": "this node's own words",
    }
)
"""Why a datagram is refused that :data:`laminar.cluster.seal.REASONS` let through."""

DOUBTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "incarnation": "a life further ahead than any clock may be",
        "ghost": "word of a node that was forgotten, with no sign of life since",
        "nodes": "one node more than are remembered",
        "unknown": "a change of a node or a life that is not known here, or of this node's own",
        "repeated": "a change that was known",
        "gap": "a change before which others are missing",
        "large": "a value that fits no datagram of some node",
        "lane": "a key that is in the other lane already",
        "full": "more keys or bytes than a node may have",
        "keys": "an order to change keys, or a report on them, that is not in its form",
        "small": "a question that may not be answered: its address allows too few bytes",
    }
)
"""Why a part of a message has no effect; the rest of it has."""


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
    unanswered: int
    """How often a node was asked whether it is there and did not answer in time."""
    suspicions: int
    """How often a node became suspect."""
    refutations: int
    """How often this node showed that it lives because it was said not to answer."""
    deaths: int
    """How often a node was taken for dead."""
    renewals: int
    """How often this node took a newer incarnation because of what was said of it."""
    lateness_s: float
    """By how much the latest tick was late."""
    health_score: int
    """0 when this process keeps time; all timeouts are that many times longer."""
    drops: Mapping[str, int]
    """What was refused or not believed, by reason: see :data:`laminar.cluster.seal.REASONS`,
    :data:`REFUSED` and :data:`DOUBTED`."""
