"""What Prometheus is told: one table, each row read off a snapshot of the node.

Pure. Counters end in ``_total``, and begin anew when the session or channel that they count does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias, TypeVar

from laminar.cluster.gossip.member import MemberState
from laminar.cluster.gossip.statistics import GossipStatistics
from laminar.net.statistics import CertificateStatistics
from laminar.node.statistics import NodeStatistics
from laminar.shuffle.statistics import (
    ChannelStatistics,
    LinkStatistics,
    OutboundChannelStatistics,
    PeerStatistics,
    ReceiverStatistics,
)

T = TypeVar("T")

Labels: TypeAlias = tuple[str, ...]
Sample: TypeAlias = tuple[Labels, float]
Row: TypeAlias = tuple[str, str, Callable[[T], float | None]]
"""A metric's name and what it means, and its value, if it has one now."""


class Metric(NamedTuple):
    """One metric."""

    name: str
    labels: Labels
    help: str
    samples: Callable[[NodeStatistics], Iterable[Sample]]
    """Each with the values of the labels."""

    @property
    def is_counter(self) -> bool:
        """Whether it only grows; otherwise it is a gauge."""
        return self.name.endswith("_total")


def _each(
    labels: Labels, found: Callable[[NodeStatistics], Iterable[tuple[Labels, T]]], *rows: Row[T]
) -> list[Metric]:
    """Metrics of the same things: ``found`` tells the labels and the statistics of each."""

    def metric(name: str, meaning: str, value: Callable[[T], float | None]) -> Metric:
        def samples(node: NodeStatistics) -> Iterator[Sample]:
            for values, each in found(node):
                number = value(each)
                if number is not None:
                    yield values, number

        return Metric(name, labels, meaning, samples)

    return [metric(*row) for row in rows]


# -- what there is to be counted --------------------------------------------------------------


def _node(node: NodeStatistics) -> Iterator[tuple[Labels, NodeStatistics]]:
    yield (), node


def _identity(node: NodeStatistics) -> Iterator[tuple[Labels, NodeStatistics]]:
    yield (node.node, node.cluster, node.version), node


def _member_states(node: NodeStatistics) -> Iterator[tuple[Labels, int]]:
    states = Counter(member.state for member in node.members.values())
    for state in MemberState:
        yield (state.value,), states[state]


def _links(node: NodeStatistics) -> Iterator[tuple[Labels, LinkStatistics]]:
    for peer, link in node.sender.peers.items():
        yield (peer,), link


def _outbound(node: NodeStatistics) -> Iterator[tuple[Labels, OutboundChannelStatistics]]:
    for peer, link in node.sender.peers.items():
        for name, channel in link.channels.items():
            yield (peer, name), channel


def _peers(node: NodeStatistics) -> Iterator[tuple[Labels, PeerStatistics]]:
    for peer, statistics in node.receiver.peers.items():
        yield (peer,), statistics


def _inbound(node: NodeStatistics) -> Iterator[tuple[Labels, ChannelStatistics]]:
    for peer, statistics in node.receiver.peers.items():
        for name, channel in statistics.channels.items():
            yield (peer, name), channel


def _receiver(node: NodeStatistics) -> Iterator[tuple[Labels, ReceiverStatistics]]:
    yield (), node.receiver


def _refusals(node: NodeStatistics) -> Iterator[tuple[Labels, int]]:
    for reason, count in node.receiver.drops.items():
        yield (reason,), count


def _certificates(node: NodeStatistics) -> Iterator[tuple[Labels, CertificateStatistics]]:
    for end, statistics in (
        ("sender", node.sender.certificates),
        ("receiver", node.receiver.certificates),
    ):
        if statistics is not None:
            yield (end,), statistics


def _gossip(node: NodeStatistics) -> Iterator[tuple[Labels, GossipStatistics]]:
    if node.discovery is not None:
        yield (), node.discovery.gossip


def _disbelief(node: NodeStatistics) -> Iterator[tuple[Labels, int]]:
    if node.discovery is not None:
        for reason, count in node.discovery.gossip.drops.items():
            yield (reason,), count


def _system_refusals(node: NodeStatistics) -> Iterator[tuple[Labels, int]]:
    if node.discovery is not None:
        for call, count in node.discovery.network_errors.items():
            yield (call,), count


# -- what every channel has ------------------------------------------------------------------


def _bytes(channel: ChannelStatistics) -> float:
    return channel.bytes


def _frames(channel: ChannelStatistics) -> float:
    return channel.frames


def _batches(channel: ChannelStatistics) -> float:
    return channel.batches


def _credit(channel: ChannelStatistics) -> float:
    return channel.credit_bytes


def _queued_bytes(channel: ChannelStatistics) -> float:
    return channel.window_used_bytes


def _queued_frames(channel: ChannelStatistics) -> float:
    return channel.window_used_frames


# -- the table --------------------------------------------------------------------------------

_PEER: Final = ("peer",)
_CHANNEL: Final = ("peer", "channel")

METRICS: Final[tuple[Metric, ...]] = (
    *_each(
        ("node", "cluster", "version"),
        _identity,
        ("laminar_node_info", "Always 1: which node this is.", lambda _: 1),
    ),
    *_each(
        (),
        _node,
        ("laminar_node_uptime_seconds", "Since the node began.", lambda node: node.uptime_s),
    ),
    *_each(
        ("state",),
        _member_states,
        ("laminar_members", "Nodes in that state, this one included.", float),
    ),
    # What is sent.
    *_each(
        _CHANNEL,
        _outbound,
        ("laminar_shuffle_sent_bytes_total", "Bytes of data queued for sending.", _bytes),
        ("laminar_shuffle_sent_frames_total", "Frames queued for sending.", _frames),
        ("laminar_shuffle_sent_batches_total", "Record batches handed in.", _batches),
        ("laminar_shuffle_send_credit_bytes", "Room in the window now.", _credit),
        (
            "laminar_shuffle_send_queued_bytes",
            "Bytes of data sent or waiting, and not yet consumed.",
            _queued_bytes,
        ),
        (
            "laminar_shuffle_send_queued_frames",
            "Frames sent or waiting, and not yet consumed.",
            _queued_frames,
        ),
        (
            "laminar_shuffle_send_blocked_seconds_total",
            "How long senders have waited for room, in sum.",
            lambda channel: channel.blocked_s,
        ),
    ),
    *_each(
        _PEER,
        _links,
        (
            "laminar_shuffle_send_connected",
            "1 while there is a connection to the peer.",
            lambda link: link.alive,
        ),
        (
            "laminar_shuffle_send_reconnects_total",
            "Connections to the peer after the first one.",
            lambda link: max(0, link.connections - 1),
        ),
        (
            "laminar_shuffle_send_silence_seconds",
            "Since the peer was last heard on that connection.",
            lambda link: link.silent_s,
        ),
        (
            "laminar_shuffle_wire_sent_bytes_total",
            "Bytes of frames written, those sent again included.",
            lambda link: link.bytes_sent,
        ),
        (
            "laminar_shuffle_wire_sent_frames_total",
            "Frames written, those sent again included.",
            lambda link: link.frames_sent,
        ),
    ),
    # What is received.
    *_each(
        _CHANNEL,
        _inbound,
        ("laminar_shuffle_received_bytes_total", "Bytes of data received.", _bytes),
        ("laminar_shuffle_received_frames_total", "Frames received.", _frames),
        ("laminar_shuffle_received_batches_total", "Record batches handed out.", _batches),
        ("laminar_shuffle_receive_credit_bytes", "What the peer may still send.", _credit),
        (
            "laminar_shuffle_receive_queued_bytes",
            "Bytes of data received and not yet consumed.",
            _queued_bytes,
        ),
        (
            "laminar_shuffle_receive_queued_frames",
            "Frames received and not yet consumed.",
            _queued_frames,
        ),
    ),
    *_each(
        _PEER,
        _peers,
        (
            "laminar_shuffle_receive_connected",
            "1 while there is a connection from the peer.",
            lambda peer: peer.alive,
        ),
        (
            "laminar_shuffle_receive_reconnects_total",
            "Connections from the peer after the first one.",
            lambda peer: max(0, peer.connections - 1),
        ),
        (
            "laminar_shuffle_receive_silence_seconds",
            "Since the peer was last heard on that connection.",
            lambda peer: peer.silent_s,
        ),
        (
            "laminar_shuffle_receive_duplicates_total",
            "Frames that came again after a reconnect and were dropped.",
            lambda peer: peer.duplicates,
        ),
    ),
    *_each(
        ("reason",),
        _refusals,
        ("laminar_shuffle_drops_total", "Connections refused or cut off.", float),
    ),
    *_each(
        (),
        _receiver,
        (
            "laminar_shuffle_accept_failures_total",
            "How often the system failed to accept a connection.",
            lambda receiver: receiver.accept_failures,
        ),
    ),
    *_each(
        ("end",),
        _certificates,
        (
            "laminar_tls_reloads_total",
            "How often changed certificate files were read again.",
            lambda certificates: certificates.reloads,
        ),
        (
            "laminar_tls_reload_failures_total",
            "How often changed certificate files could not be used.",
            lambda certificates: certificates.failures,
        ),
    ),
    # The gossip, when there is one.
    *_each(
        (),
        _gossip,
        ("laminar_gossip_rounds_total", "Rounds begun.", lambda gossip: gossip.rounds),
        (
            "laminar_gossip_sent_bytes_total",
            "Bytes of datagrams sent.",
            lambda gossip: gossip.bytes_sent,
        ),
        (
            "laminar_gossip_sent_datagrams_total",
            "Datagrams sent.",
            lambda gossip: gossip.datagrams_sent,
        ),
        (
            "laminar_gossip_received_bytes_total",
            "Bytes of datagrams received, those refused included.",
            lambda gossip: gossip.bytes_received,
        ),
        (
            "laminar_gossip_received_datagrams_total",
            "Datagrams received, those refused included.",
            lambda gossip: gossip.datagrams_received,
        ),
        (
            "laminar_gossip_unanswered_total",
            "How often a node was asked whether it is there and did not answer in time.",
            lambda gossip: gossip.unanswered,
        ),
        (
            "laminar_gossip_suspicions_total",
            "How often a node became suspect.",
            lambda gossip: gossip.suspicions,
        ),
        (
            "laminar_gossip_refutations_total",
            "How often this node showed that it lives because it was said not to answer.",
            lambda gossip: gossip.refutations,
        ),
        (
            "laminar_gossip_deaths_total",
            "How often a node was taken for dead.",
            lambda gossip: gossip.deaths,
        ),
        (
            "laminar_gossip_renewals_total",
            "How often this node had to contradict what was said of it.",
            lambda gossip: gossip.renewals,
        ),
        (
            "laminar_gossip_tick_lateness_seconds",
            "By how much the latest tick was late.",
            lambda gossip: gossip.lateness_s,
        ),
        (
            "laminar_gossip_health_score",
            "0 while this process keeps time; timeouts are that many times longer.",
            lambda gossip: gossip.health_score,
        ),
    ),
    *_each(
        ("reason",),
        _disbelief,
        (
            "laminar_gossip_drops_total",
            "Datagrams, and parts of them, refused or not believed.",
            float,
        ),
    ),
    *_each(
        ("call",),
        _system_refusals,
        (
            "laminar_gossip_network_errors_total",
            "How often the system refused to send, receive or resolve.",
            float,
        ),
    ),
)
