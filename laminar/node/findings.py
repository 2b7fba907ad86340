"""What a doctor saw, without a judgement: see :mod:`laminar.node.diagnosis`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from laminar.cluster.gossip.member import MemberState
from laminar.model import NodeId
from laminar.node.consultation import Answer
from laminar.shuffle.reach import Probe


def is_own_id(probe: Probe | None) -> bool:
    """Whether whoever answered said that it has the id of this side itself."""
    return probe is not None and probe.told and probe.reason == "identity"


@dataclass(frozen=True, slots=True)
class SeedFindings:
    """What came of one address that was given."""

    seed: str
    """As it was given."""
    addrs: tuple[str, ...]
    """What its name stands for; none if that could not be found out."""
    probe: Probe | None
    """Over TCP; None when it was not tried, or not to its end."""
    datagrams_sent: int
    answered_by: NodeId | None
    """Who answered over UDP."""
    expected: NodeId | None = None
    """Who should be there, if that was given, too."""


@dataclass(frozen=True, slots=True)
class EtcdFindings:
    """What came of asking etcd."""

    endpoints: tuple[str, ...]
    prefix: str
    published: Mapping[NodeId, str]
    """Where each node listens for data, as it says."""
    error: str = ""
    """Why etcd gave no answer, if it gave none."""


@dataclass(frozen=True, slots=True)
class MemberFindings:
    """What came of one member that was found."""

    node: NodeId
    state: MemberState
    addr: str | None
    """Where it gossips, as it says."""
    data_addr: str | None
    """Where it listens for data, as it says."""
    probe: Probe | None
    """Over TCP, from here to there."""
    heard: int
    """Datagrams that came from there directly."""
    answers: int
    """Those among them that answer what was sent from here."""
    heard_from: str | None
    """The address that they came from."""
    answer: Answer | None
    """What it says of reaching this side over TCP."""
    clock_ahead_s: tuple[float, float] | None
    """By how much its clock is ahead of that here, at least and at most."""


@dataclass(frozen=True, slots=True)
class Findings:
    """All that one examination brought to light."""

    node: NodeId
    """As whom the doctor introduced itself over TCP."""
    member: NodeId
    """Its id in the gossip, which is its own in any case."""
    addr: str
    """Where the others were to reach it."""
    cluster: str
    version: str
    gossips: bool
    """Whether the nodes find each other by gossip, so that UDP matters."""
    keyed: bool
    seeds: tuple[SeedFindings, ...]
    members: tuple[MemberFindings, ...]
    others: int
    """Members that were not examined because there are too many."""
    datagrams_refused: Mapping[tuple[str, str], int]
    """By reason and source."""
    connections_refused: Mapping[str, int]
    """By reason."""
    seconds: float
    etcd: EtcdFindings | None = None
    """What came of asking it, if the nodes find each other there."""

    @property
    def has_taken_id(self) -> bool:
        """Whether a node runs that has the id which the doctor was given."""
        return any(is_own_id(seed.probe) for seed in self.seeds) or any(
            self.is_own(member) and not member.state.gone for member in self.members
        )

    def is_own(self, member: MemberFindings) -> bool:
        """Whether ``member`` has the id which the doctor was given."""
        return member.node == self.node

    def misses(self, node: NodeId) -> bool:
        """Whether ``node`` is no member, as far as can be told: not all may have been examined."""
        return not self.others and all(member.node != node for member in self.members)
