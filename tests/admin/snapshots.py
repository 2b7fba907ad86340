"""A snapshot in which every number is another one."""

from laminar.cluster.gossip.member import Member, MemberState
from laminar.cluster.gossip.statistics import GossipStatistics
from laminar.cluster.seal import SealStatistics
from laminar.net.statistics import CertificateStatistics
from laminar.node.statistics import DiscoveryStatistics, NodeStatistics
from laminar.shuffle.statistics import (
    ChannelStatistics,
    LinkStatistics,
    OutboundChannelStatistics,
    PeerStatistics,
    ReceiverStatistics,
    SenderStatistics,
)

SENT = OutboundChannelStatistics(
    frames=1,
    batches=2,
    bytes=3,
    window_used_bytes=4,
    window_used_frames=5,
    credit_bytes=6,
    blocked_s=7.5,
)
RECEIVED = ChannelStatistics(
    frames=11,
    batches=12,
    bytes=13,
    window_used_bytes=14,
    window_used_frames=15,
    credit_bytes=16,
)
LINK = LinkStatistics(
    alive=True,
    silent_s=20.5,
    connections=22,
    trouble="a cable was cut",
    frames_sent=23,
    bytes_sent=24,
    channels={"orders": SENT},
)
PEER = PeerStatistics(
    alive=False, silent_s=None, connections=31, duplicates=32, channels={"orders": RECEIVED}
)
CONNECTED = PeerStatistics(alive=True, silent_s=33.5, connections=34, duplicates=35, channels={})
GOSSIP = GossipStatistics(
    rounds=41,
    members={MemberState.ALIVE: 2},
    datagrams_sent=42,
    bytes_sent=43,
    datagrams_received=44,
    bytes_received=45,
    unanswered=52,
    suspicions=46,
    refutations=53,
    deaths=47,
    renewals=48,
    lateness_s=49.5,
    health_score=50,
    drops={"key": 51},
)
FULL = NodeStatistics(
    node="a",
    cluster="prod",
    version="1.2.3",
    addr="127.0.0.1:7946",
    uptime_s=60.5,
    members={
        "a": Member("a", 1, MemberState.ALIVE, "127.0.0.1:7946"),
        "b": Member("b", 2, MemberState.ALIVE, None),
        "c": Member("c", 3, MemberState.DEAD, None),
    },
    sender=SenderStatistics({"b": LINK}, CertificateStatistics(61, 62, None)),
    receiver=ReceiverStatistics(
        {"b": PEER, "c": CONNECTED}, {"version": 71}, 72, CertificateStatistics(73, 74, "")
    ),
    discovery=DiscoveryStatistics(GOSSIP, SealStatistics(81, 82, 83, {}, {}), {"send": 84}),
)
EMPTY = NodeStatistics(
    node="a",
    cluster="prod",
    version="1.2.3",
    addr="127.0.0.1:7946",
    uptime_s=0.5,
    members={},
    sender=SenderStatistics({}),
    receiver=ReceiverStatistics({}, {}, 0),
    discovery=None,
)
