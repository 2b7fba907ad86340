"""What strangers send: no crash, no change, no answer, and each is counted by its reason."""

import random
import struct
from unittest.mock import patch

import pytest

from fuzz.state import state_of
from laminar.cluster import seal
from laminar.cluster.amplification import SECRET_BYTES, AddressProof
from laminar.cluster.gossip import codec
from laminar.cluster.gossip.agent import GossipAgent
from laminar.cluster.gossip.codec import MessageWriter, decode
from laminar.cluster.gossip.core import GossipCore
from laminar.cluster.gossip.messages import Digest, Kind
from laminar.cluster.gossip.statistics import REFUSED
from laminar.cluster.keyring import Keyring, key_id
from laminar.cluster.seal import LIFE_BYTES, DatagramSealer
from laminar.config import DatagramConfig, GossipConfig
from laminar.model import NodeId
from laminar.net.udp import UdpNetwork
from tests.wiring import eventually, limited

CLUSTER, KEY, OTHER = "tested", b"k" * 32, b"o" * 32
DATAGRAMS = DatagramConfig(reordered_max=8)
SLOW = GossipConfig(interval_s=60.0, leave_timeout_s=0.01)
"""A node that says nothing by itself while a test lasts."""
WALL_NS = 1_700_000_000 * 10**9
NOW = 1000.0


class Sender:
    """A member of the cluster, and what others make of its datagrams."""

    def __init__(self):
        self.lives = iter(range(1, 1000))
        self.sealer = self.other()
        self.heartbeat = 0

    def other(self, cluster=CLUSTER, key=KEY, node="p"):
        life = next(self.lives).to_bytes(LIFE_BYTES, "big")
        return DatagramSealer(cluster, NodeId(node), life, Keyring([key]) if key else None)

    def payload(self, node="p"):
        """A question that gets an answer."""
        self.heartbeat += 1
        own = Digest(NodeId(node), WALL_NS, self.heartbeat, 0, 0, 0, 0)
        writer = MessageWriter(Kind.SYN, b"c" * 8, b"", own, 600)
        writer.pad(300)
        return writer.finish()

    def good(self):
        return self.sealer.seal(self.payload())

    def by_a_holder_of_the_key(self, inside):
        """A datagram with a right seal around whatever is inside."""
        life = next(self.lives).to_bytes(LIFE_BYTES, "big")
        header = struct.pack("<B4s4s12sQ", 1, self.sealer._cluster_id, key_id(KEY), life, 0)
        cipher, nonce = seal._cipher(KEY, life, 0)
        return header + cipher.encrypt(nonce, inside, header + CLUSTER.encode())


# Each is given the sender and an answer of the node's, and returns datagrams, the last one bad.


def forged(sender, answer):
    datagram = bytearray(sender.good())
    datagram[60] ^= 1
    return [bytes(datagram)]


def cut_short(sender, answer):
    return [sender.good()[:-1]]


def cut_to_the_header(sender, answer):
    return [sender.good()[:40]]


def empty(sender, answer):
    return [b""]


def replayed(sender, answer):
    datagram = sender.good()
    return [datagram, datagram]


def overtaken(sender, answer):
    late = sender.good()
    return [*(sender.good() for _ in range(DATAGRAMS.reordered_max)), late]


def sent_back(sender, answer):
    return [answer]


def wrongly_keyed(sender, answer):
    return [sender.other(key=OTHER).seal(sender.payload())]


def not_keyed(sender, answer):
    return [sender.other(key=None).seal(sender.payload())]


def of_another_cluster(sender, answer):
    return [sender.other(cluster="another").seal(sender.payload())]


def of_another_version(sender, answer):
    return [b"\x02" + sender.good()[1:]]


def oversized(sender, answer):
    return [sender.good().ljust(DATAGRAMS.datagram_bytes_max + 1, b"\0")]


def as_large_as_udp_allows(sender, answer):
    return [bytes(65_507)]


def random_bytes(sender, answer):
    return [b"\xab" + random.Random(1).randbytes(300)]


def without_a_name(sender, answer):
    return [sender.by_a_holder_of_the_key(b"\x00" + sender.payload())]


def sealed_nonsense(sender, answer):
    return [sender.sealer.seal(b"nonsense")]


def sealed_nothing(sender, answer):
    return [sender.sealer.seal(b"")]


def gossip_of_another_version(sender, answer):
    with patch.object(codec, "VERSION", codec.VERSION + 1):
        return [sender.sealer.seal(sender.payload())]


def in_the_name_of_another(sender, answer):
    return [sender.sealer.seal(sender.payload("q"))]


BAD = {
    forged: "forged",
    cut_short: "forged",
    cut_to_the_header: "short",
    empty: "short",
    replayed: "replay",
    overtaken: "late",
    sent_back: "echo",
    wrongly_keyed: "key",
    not_keyed: "unsealed",
    of_another_cluster: "cluster",
    of_another_version: "version",
    oversized: "size",
    as_large_as_udp_allows: "size",
    random_bytes: "version",
    without_a_name: "sender",
    sealed_nonsense: "malformed",
    sealed_nothing: "malformed",
    gossip_of_another_version: "version",
    in_the_name_of_another: "sender",
}
each_kind = pytest.mark.parametrize(
    ("make", "reason"), BAD.items(), ids=[make.__name__ for make in BAD]
)


def test_every_reason_to_refuse_is_tried():
    assert {*seal.REASONS, *REFUSED} == set(BAD.values())


class Node:
    """A core with a key."""

    def __init__(self):
        ring = Keyring([KEY])
        self.sealer = DatagramSealer(CLUSTER, NodeId("n"), bytes(LIFE_BYTES), ring, DATAGRAMS)
        self.core = GossipCore(
            NodeId("n"),
            "10.0.0.1:1",
            WALL_NS,
            self.sealer,
            AddressProof(bytes(SECRET_BYTES), DATAGRAMS),
            SLOW,
            wall_ns=WALL_NS,
            now=NOW,
        )
        self.rng = random.Random(1)

    def hear(self, datagram):
        return [
            out.datagram for out in self.core.on_datagram("10.0.0.2:1", datagram, NOW, self.rng)
        ]

    @property
    def state(self):
        """All that may not change; which datagrams were opened is the sealer's own affair."""
        return state_of(self.core, DatagramSealer)


@each_kind
def test_a_bad_datagram_changes_nothing_but_its_counter(make, reason):
    node, sender = Node(), Sender()
    (answer,) = node.hear(sender.good())
    *good, bad = make(sender, answer)
    for datagram in good:
        assert node.hear(datagram)
    before, sealed = node.state, state_of(node.sealer)
    told = node.core.statistics().drops
    assert node.hear(bad) == []
    assert node.core.statistics().drops == {**told, reason: told.get(reason, 0) + 1}
    assert node.state == before
    if reason in node.sealer.statistics().refused:
        assert state_of(node.sealer) == sealed
    (answer,) = node.hear(sender.good())
    assert decode(sender.sealer.open(answer, "", NOW).payload).digests[0].node == "n"


def test_many_bad_datagrams_change_nothing_and_are_all_counted():
    rng, node, sender = random.Random(2), Node(), Sender()
    node.hear(sender.good())
    before, count = node.state, 20_000
    for number in range(count):
        datagram = bytearray(rng.randbytes(rng.randint(0, 1400)))
        if number % 2:
            datagram[:] = sender.good()
            for place in rng.sample(range(len(datagram)), rng.randint(1, 4)):
                datagram[place] ^= 1 << rng.randrange(8)
            del datagram[rng.choice([len(datagram), rng.randrange(len(datagram))]) :]
        assert node.hear(bytes(datagram)) == []
    assert node.state == before
    assert sum(node.core.statistics().drops.values()) == count
    assert {"size", "short", "version", "cluster", "key", "forged"} <= {
        *node.core.statistics().drops
    }


class Stranger:
    """Somebody with a socket, who speaks to an agent."""

    def __init__(self, socket, agent):
        self._socket, self._agent = socket, agent

    async def say(self, datagram):
        await self._socket.send_to(self._agent.local_addr, datagram)

    async def ask(self, datagram):
        """The answer to a good one: the first that comes, so nothing was answered before."""
        await self.say(datagram)
        source, answer = await self._socket.receive()
        assert source == self._agent.local_addr
        assert len(answer) <= DATAGRAMS.amplification_max * len(datagram)
        return answer


@each_kind
@limited
async def test_a_bad_datagram_over_udp_gets_no_answer(make, reason):
    sender, socket = Sender(), await UdpNetwork().bind("127.0.0.1:0")
    agent = GossipAgent(
        "n",
        "127.0.0.1:0",
        cluster=CLUSTER,
        keyring=Keyring([KEY]),
        config=SLOW,
        datagrams=DATAGRAMS,
    )
    try:
        async with agent:
            stranger = Stranger(socket, agent)
            answer = await stranger.ask(sender.good())
            *good, bad = make(sender, answer)
            for datagram in good:
                await stranger.ask(datagram)
            members, told = agent.members(), agent.statistics()
            await stranger.say(bad)
            refused = {**told.drops, reason: told.drops.get(reason, 0) + 1}
            await eventually(lambda: agent.statistics().drops == refused)
            assert agent.members() == members
            assert agent.statistics().datagrams_sent == told.datagrams_sent
            await stranger.ask(sender.good())
            assert agent.statistics().drops == refused
            assert agent.network_errors == {}
            assert agent.error is None
    finally:
        socket.close()
