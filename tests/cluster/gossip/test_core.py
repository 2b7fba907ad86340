"""The rules of one node's gossip, a datagram at a time."""

from random import Random

import pytest

from laminar.cluster.amplification import SECRET_BYTES, AddressProof
from laminar.cluster.gossip.codec import NUMBER_MAX, MessageWriter, decode
from laminar.cluster.gossip.core import GossipCore
from laminar.cluster.gossip.exchange import GRAVES_MAX
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.gossip.messages import Beats, Digest, Grave, Item, Kind, LaneDelta
from laminar.cluster.kv import KEY_LENGTH_MAX, KvEvent
from laminar.cluster.seal import LIFE_BYTES, DatagramSealer
from laminar.config import DatagramConfig, GossipConfig
from laminar.errors import ConfigError
from laminar.model import NodeId

NOW = 1000.0
WALL_NS = 1_700_000_000 * 10**9
DATAGRAMS = DatagramConfig()


class Peer:
    """Somebody who says whatever a test wants, in well sealed datagrams."""

    def __init__(self, name="p", addr="10.0.0.2:1"):
        self.name, self.addr = name, addr
        self.sealer = DatagramSealer("test", NodeId(name), addr.rjust(12).encode(), None)
        self.heartbeat = 0

    def digest(self, incarnation=WALL_NS, versions=(0, 0, 0, 0)):
        self.heartbeat += 1
        return Digest(NodeId(self.name), incarnation, self.heartbeat, *versions)

    def say(
        self,
        kind,
        *digests,
        deltas=(),
        graves=(),
        hints=(),
        beats=None,
        echo=b"",
        own=None,
        size=0,
        brief=False,
    ):
        writer = MessageWriter(kind, b"c" * 8, echo, own or self.digest(), 10_000)
        for digest in digests:
            assert writer.add_digest(digest)
        for delta in deltas:
            assert writer.add_delta(delta) is None
        for grave in graves:
            assert writer.add_grave(grave)
        for hint in hints:
            assert writer.add_hint(hint)
        assert beats is None or writer.add_beats(beats)
        writer.pad(size)
        writer.leaves_out_own = brief
        return self.sealer.seal(writer.finish())

    def hear(self, datagram):
        sender, payload = self.sealer.open(datagram, "10.0.0.1:1", NOW)
        return sender, decode(payload)


class Node:
    """A core, its time and its chance."""

    def __init__(self, config=None, name="n", incarnation=WALL_NS):
        sealer = DatagramSealer(
            "test", NodeId(name), name.encode().ljust(LIFE_BYTES), None, DATAGRAMS
        )
        proof = AddressProof(bytes(SECRET_BYTES), DATAGRAMS)
        self.config = config or GossipConfig(interval_s=1.0)
        self.core = GossipCore(
            NodeId(name),
            "10.0.0.1:1",
            incarnation,
            sealer,
            proof,
            self.config,
            wall_ns=WALL_NS,
            now=NOW,
        )
        self.now, self.rng = NOW, Random(1)

    def hear(self, peer, datagram):
        return self.core.on_datagram(peer.addr, datagram, self.now, self.rng)

    def tick(self, times=1):
        out = []
        for _ in range(times):
            self.now += self.config.interval_s
            out = self.core.on_tick(self.now, self.rng)
        return out

    @property
    def drops(self):
        return self.core.statistics().drops

    def state(self, name):
        return self.core.members()[name].state


def delta_of(node, start, end, *items, incarnation=WALL_NS, gc=0, lane=1):
    return LaneDelta(NodeId(node), incarnation, lane, start, end, gc, items)


def prove(node, peer):
    """Let the peer answer what was sent to it."""
    (answer,) = node.hear(peer, peer.say(Kind.SYN, size=200))
    node.hear(peer, peer.say(Kind.ACK, echo=peer.hear(answer.datagram)[1].cookie))


# -- writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["k", "ä" * 128, "k" * KEY_LENGTH_MAX])
def test_what_may_be_written_fits_a_datagram_of_any_node(key):
    node = Node()
    room = node.core.entry_bytes_max - len(key.encode())
    node.core.write(key, "v" * room, NOW)
    with pytest.raises(ConfigError, match=f"at most {node.core.entry_bytes_max} bytes together"):
        node.core.write(key, "v" * (room + 1), NOW)
    peer = Peer("p" * 128)
    prove(node, peer)
    answers = node.hear(peer, peer.say(Kind.SYN, Digest(NodeId("n"), WALL_NS, 0, 0, 0, 0, 0)))
    items = [
        item
        for answer in answers
        for delta in peer.hear(answer.datagram)[1].deltas
        for item in delta.items
    ]
    assert key in [item.key for item in items]


def test_a_key_may_have_more_characters_than_bytes_fit():
    with pytest.raises(ConfigError, match="256 for the key"):
        Node().core.write("ä" * KEY_LENGTH_MAX, "", NOW)


def test_a_node_has_so_many_keys_and_bytes():
    node = Node(GossipConfig(keys_max=3, slot_bytes_max=100))
    node.core.write("k1", "v", NOW)
    node.core.write("k2", "v", NOW)
    with pytest.raises(ConfigError, match="keys_max"):
        node.core.write("k3", "v", NOW)
    node.core.write("k2", "w", NOW)
    with pytest.raises(ConfigError, match="slot_bytes_max"):
        node.core.write("k2", "w" * 100, NOW)
    assert node.core.scan("", NOW) == {"n": {"k1": "v", "k2": "w"}}


def test_what_is_refused_is_said_and_nothing_is_written():
    node = Node()
    node.core.write("k", "old", NOW)
    node.core.take_events()
    before, most = node.core._own.digest, node.core.entry_bytes_max
    with pytest.raises(ConfigError) as refusal:
        node.core.write("k", "v" * 1200, NOW)
    assert str(refusal.value) == (
        f"the KV key 'k' and its value have 1201 bytes; what is gossiped must fit one datagram: at "
        f"most {most} bytes together, and 256 for the key. Publish where to get it instead"
    )
    assert node.core._own.digest == before
    assert node.core.take_events() == []
    assert node.core.read("n", "k", NOW) == "old"


def test_what_is_there_can_be_changed_at_the_limit():
    limits = GossipConfig(keys_max=4, slot_bytes_max=1000)
    node, peer = Node(limits), Peer()
    taken = node.core._own.size_bytes
    node.core.write("a", "1" * 499, NOW)
    node.core.write("b", "1" * (500 - taken - 1), NOW)
    assert node.core._own.size_bytes == 1000
    for key in ("c", "shuffle:addr"):
        with pytest.raises(ConfigError, match="1000 of at most 1000 bytes"):
            node.core.write(key, "", NOW)
    node.core.write("a", "2" * 499, NOW)
    with pytest.raises(ConfigError, match="slot_bytes_max"):
        node.core.write("a", "3" * 500, NOW)
    # Those who copy it have room for the old and the new.
    prove(node, peer)
    other = Node(limits, "other", WALL_NS + 1)
    teller = Peer("n", "10.0.0.1:1")
    for answer in node.hear(peer, peer.say(Kind.SYN, Digest(NodeId("n"), WALL_NS, 0, 0, 0, 0, 0))):
        other.hear(teller, answer.datagram)
    assert other.core.read("n", "a", NOW) == "2" * 499
    assert other.drops == {}
    node.core.delete("b", NOW)
    node.core.write("c", "4" * 100, NOW)
    with pytest.raises(ConfigError, match="4 of at most 4 keys"):
        node.core.write("d", "", NOW)


def test_datagrams_must_have_room_for_keys():
    sealer = DatagramSealer("test", NodeId("n"), bytes(12), None, DatagramConfig(512))
    proof = AddressProof(bytes(SECRET_BYTES))
    with pytest.raises(ConfigError, match="raise the size of datagrams"):
        GossipCore(NodeId("n"), "a:1", 1, sealer, proof, GossipConfig(), wall_ns=0, now=0.0)


def test_addresses_travel_before_bulk():
    node, peer = Node(), Peer()
    for number in range(20):
        node.core.write(f"bulk:{number}", "x" * 300, NOW)
    node.core.write("shuffle:addr", "10.0.0.1:4000", NOW)
    prove(node, peer)
    answers = node.hear(peer, peer.say(Kind.SYN, Digest(NodeId("n"), WALL_NS, 0, 0, 0, 0, 0)))
    deltas = [delta for answer in answers for delta in peer.hear(answer.datagram)[1].deltas]
    assert [item.key for item in deltas[0].items] == ["gossip:addr", "shuffle:addr"]
    bulk = [item.key for delta in deltas[1:] for item in delta.items]
    assert bulk == [f"bulk:{number}" for number in range(20)]
    assert all(len(answer.datagram) <= 1200 for answer in answers)


# -- strangers ----------------------------------------------------------------------------------


def test_a_stranger_gets_little_until_its_address_has_answered():
    node, peer = Node(), Peer()
    for number in range(50):
        node.core.write(f"k{number}", "x" * 300, NOW)
    asked = peer.say(Kind.SYN, Digest(NodeId("n"), WALL_NS, 0, 0, 0, 0, 0))
    answers = node.hear(peer, asked)
    assert sum(len(answer.datagram) for answer in answers) <= 3 * len(asked)
    assert peer.hear(answers[0].datagram)[1].asks_proof
    prove(node, peer)
    answers = node.hear(peer, asked)
    assert len(answers) == node.config.delta_datagrams_max


def test_a_stranger_that_asks_again_and_again_gets_no_more_for_each():
    node, peer = Node(), Peer()
    for number in range(50):
        node.core.write(f"k{number}", "x" * 300, NOW)
    received = sent = 0
    for size in (0, 100, 200, 400) * 10:
        asked = peer.say(Kind.SYN, Digest(NodeId("n"), WALL_NS, 0, 0, 0, 0, 0), size=size)
        received += len(asked)
        answers = [out for out in node.hear(peer, asked) if out.addr == peer.addr]
        sent += sum(len(answer.datagram) for answer in answers)
        assert sent <= DATAGRAMS.amplification_max * received
    assert sent > received


@pytest.mark.parametrize("kind", [Kind.ACK, Kind.DELTA])
def test_what_ends_an_exchange_is_not_answered(kind):
    node, peer = Node(), Peer()
    assert node.hear(peer, peer.say(kind)) == []


def test_a_sender_speaks_for_itself():
    node, peer = Node(), Peer()
    assert node.hear(peer, peer.say(Kind.SYN, own=Peer("q").digest())) == []
    assert node.drops == {"sender": 1}
    assert set(node.core.members()) == {"n"}


def test_only_so_many_nodes_are_known():
    node, peer = Node(GossipConfig(nodes_max=3)), Peer()
    node.hear(peer, peer.say(Kind.SYN, *(Peer(f"x{number}").digest() for number in range(5))))
    assert set(node.core.members()) == {"n", "p", "x0"}
    assert node.drops == {"nodes": 4}


def test_a_slot_that_grows_without_end_is_cut_off():
    node, peer = Node(GossipConfig(slot_bytes_max=1000, keys_max=5, tombstones_max=2)), Peer()
    node.hear(peer, peer.say(Kind.SYN))
    for number in range(10):
        item = Item(f"k{number}", number + 1, "v" * 300)
        node.hear(peer, peer.say(Kind.DELTA, deltas=[delta_of("p", number, number + 1, item)]))
    assert len(node.core.scan("k", NOW)["p"]) == 6
    assert node.drops["full"] == 1


def test_what_could_not_be_given_on_is_not_taken():
    """It would stand in the way of all that is to be said behind it."""
    node, peer, other = Node(), Peer(), Peer("q", "10.0.0.3:1")
    prove(node, peer)
    prove(node, other)
    large = Item("k", 1, "v" * node.core.entry_bytes_max)
    node.hear(peer, peer.say(Kind.DELTA, deltas=[delta_of("p", 0, 1, large, lane=0)]))
    assert node.drops == {"large": 1}
    node.hear(other, other.say(Kind.DELTA, deltas=[delta_of("q", 0, 1, Item("k", 1, "v"))]))
    asked = [Digest(NodeId(name), WALL_NS, 0, 0, 0, 0, 0) for name in "pq"]
    answers = node.hear(peer, peer.say(Kind.SYN, *asked))
    told = [delta for answer in answers for delta in peer.hear(answer.datagram)[1].deltas]
    assert [delta.node for delta in told if delta.items] == ["q"]


def test_a_key_is_in_one_lane_of_a_slot():
    node, peer = Node(), Peer()
    for lane, value in ((1, "bulk"), (0, "first")):
        item = Item("k", 1, value)
        node.hear(peer, peer.say(Kind.DELTA, deltas=[delta_of("p", 0, 1, item, lane=lane)]))
    assert node.drops == {"lane": 1}
    assert node.core.read("p", "k", NOW) == node.core.scan("", NOW)["p"]["k"] == "bulk"


def test_tombstones_are_dropped_by_the_owner_and_by_copies_when_they_are_old():
    node, peer = Node(GossipConfig(interval_s=1.0, tombstone_s=30.0)), Peer()
    for number in range(5):
        node.core.write(f"k{number}", "v", node.now)
        node.core.delete(f"k{number}", node.now)
    gone = [Item(f"k{number}", number + 1, None) for number in range(5)]
    node.hear(peer, peer.say(Kind.DELTA, deltas=[delta_of("p", 0, 5, *gone)]))
    lanes = [node.core._own.bulk, node.core._view.slots["p"].bulk]
    assert [lane.tombstones for lane in lanes] == [5, 5]
    for _ in range(35):
        node.hear(peer, peer.say(Kind.SYN))
        node.tick()
    assert [(len(lane), lane.gc_version) for lane in lanes] == [(0, 10), (0, 5)]


def test_a_copy_holds_only_so_many_tombstones():
    node, peer = Node(GossipConfig(tombstones_max=4)), Peer()
    node.hear(peer, peer.say(Kind.SYN))
    for number in range(50):
        item = Item(f"k{number}", number + 1, None)
        node.hear(peer, peer.say(Kind.DELTA, deltas=[delta_of("p", number, number + 1, item)]))
    lane = node.core._view.slots["p"].bulk
    assert (lane.tombstones, lane.gc_version, lane.max_version) == (4, 46, 50)


def test_only_so_many_of_the_forgotten_are_remembered():
    node = Node(GossipConfig(interval_s=1.0, forget_s=1.0, graves_max=3))
    for number in range(10):
        peer = Peer(f"x{number}")
        node.hear(peer, peer.say(Kind.SYN))
        while len(node.core.members()) > 1:
            node.tick()
    assert list(node.core._view.graves) == ["x7", "x8", "x9"]


def test_farewells_are_counted_once_there_is_one_and_up_to_a_limit():
    node = Node(GossipConfig(nodes_max=3))

    def all_heard():
        for number in range(10):
            peer = Peer(f"x{number}")
            node.hear(peer, peer.say(Kind.ACK, node.core._own.digest))
        return node.core.farewells

    assert all_heard() == 0
    assert len(node.core._told) == 0
    node.core.leave(node.now)
    assert all_heard() == 3


# -- lies ---------------------------------------------------------------------------------------


def test_nobody_else_changes_a_nodes_own_keys():
    node, peer = Node(), Peer()
    node.core.write("k", "1", NOW)
    lie = delta_of("n", 0, 50, Item("k", 50, "forged"))
    node.hear(peer, peer.say(Kind.DELTA, deltas=[lie]))
    assert node.core.read("n", "k", NOW) == "1"
    assert node.drops == {"unknown": 1}


@pytest.mark.parametrize("lane", [0, 1])
def test_a_node_outbids_a_change_that_it_never_made(lane):
    """Who believes in it tells it back, instead of a digest."""
    node, peer = Node(), Peer()
    node.core.write("k", "1", NOW)
    known = delta_of("n", 0, 1, Item("k", 1, "1"), lane=lane)
    old = delta_of("n", 1, 2, Item("k", 2, "forged"), lane=lane, incarnation=WALL_NS - 1)
    node.hear(peer, peer.say(Kind.DELTA, deltas=[known, old]))
    assert node.core.incarnation == WALL_NS
    forged = delta_of("n", 1, 2, Item("k", 2, "forged"), lane=lane)
    node.hear(peer, peer.say(Kind.DELTA, deltas=[forged]))
    assert node.core.incarnation > WALL_NS
    assert node.core.statistics().renewals == 1
    assert node.core.read("n", "k", NOW) == "1"


@pytest.mark.parametrize(
    "lie",
    [
        (WALL_NS, NUMBER_MAX, 0, 0, 0, 0),
        (WALL_NS, 0, 0, 0, NUMBER_MAX, 0),
        (WALL_NS + 5, 0) + (0,) * 4,
    ],
    ids=["heartbeat", "version", "incarnation"],
)
def test_a_node_outbids_what_it_never_said(lie):
    node, peer = Node(), Peer()
    node.hear(peer, peer.say(Kind.SYN, Digest(NodeId("n"), *lie)))
    assert node.core.incarnation > lie[0]
    assert node.core.statistics().renewals == 1
    assert node.core.error is None


def test_a_settled_node_outbids_a_claim_that_does_not_live():
    node, peer = Node(), Peer()
    node.tick(30)
    for _ in range(20):
        node.hear(peer, peer.say(Kind.SYN, Digest(NodeId("n"), WALL_NS + 5, 7, 0, 0, 0, 0)))
        node.tick()
    assert node.core.incarnation > WALL_NS + 5
    assert node.core.error is None


def test_an_incarnation_from_the_far_future_is_not_believed():
    node, peer = Node(), Peer()
    far = WALL_NS + round(2 * 86_400e9)
    node.hear(peer, peer.say(Kind.SYN, Digest(NodeId("x"), far, 0, 0, 0, 0, 0)))
    node.hear(peer, peer.say(Kind.SYN, Digest(NodeId("n"), far, 0, 0, 0, 0, 0)))
    node.hear(peer, peer.say(Kind.SYN, graves=[Grave(NodeId("n"), NUMBER_MAX)]))
    assert set(node.core.members()) == {"n", "p"}
    assert node.core.incarnation == WALL_NS
    assert node.drops == {"incarnation": 3}


# -- lives --------------------------------------------------------------------------------------


def test_a_new_life_replaces_the_old_one_at_once():
    node, peer = Node(), Peer()
    keys = delta_of("p", 0, 1, Item("k", 1, "old"))
    node.hear(peer, peer.say(Kind.DELTA, deltas=[keys]))
    node.core.take_events()
    node.hear(peer, peer.say(Kind.SYN, own=peer.digest(WALL_NS + 1)))
    assert node.core.read("p", "k", NOW) is None
    assert KvEvent("p", "k", None) in node.core.take_events()
    node.hear(peer, peer.say(Kind.DELTA, deltas=[keys]))
    assert node.core.read("p", "k", NOW) is None
    assert node.drops["unknown"] == 1


def test_silence_makes_suspect_then_dead_then_forgotten_and_no_ghost():
    node, peer = Node(GossipConfig(interval_s=1.0, forget_s=30.0)), Peer()
    for _ in range(10):
        node.hear(peer, peer.say(Kind.SYN))
        node.tick()
    assert node.state("p") is MemberState.ALIVE
    seen = []
    while "p" in node.core.members() and len(seen) < 100:
        seen.append(node.state("p"))
        node.tick()
    assert list(dict.fromkeys(seen)) == [
        MemberState.ALIVE,
        MemberState.SUSPECT,
        MemberState.DEAD,
    ]
    assert 29 <= seen.count(MemberState.DEAD) <= 32
    assert seen.count(MemberState.ALIVE) <= 10
    # What others still say of it is not believed; its heartbeat is.
    rumour = Digest(NodeId("p"), WALL_NS, peer.heartbeat, 0, 0, 0, 0)
    other = Peer("q", "10.0.0.3:1")
    node.hear(other, other.say(Kind.SYN, rumour))
    assert "p" not in node.core.members()
    assert node.drops["ghost"] == 1
    node.hear(other, other.say(Kind.SYN, rumour._replace(heartbeat=peer.heartbeat + 50)))
    assert node.state("p") is MemberState.JOINING


def test_a_node_that_paused_itself_accuses_nobody():
    node, peer = Node(), Peer()
    for _ in range(20):
        node.hear(peer, peer.say(Kind.SYN))
        node.tick()
    node.now += 300
    node.tick()
    assert node.state("p") is MemberState.ALIVE
    assert node.core.statistics().health_score == 1
    assert node.core.statistics().lateness_s == pytest.approx(300, abs=1)


def test_membership_is_told_on_change_only():
    node, peer = Node(), Peer()
    node.core.take_events()
    told = []
    for _ in range(20):
        node.hear(peer, peer.say(Kind.SYN))
        node.tick()
        told += node.core.take_events()
    assert [event.state for event in told if event.node == "p"] == [
        MemberState.JOINING,
        MemberState.ALIVE,
    ]


def test_where_a_member_is_is_told_once_it_is_known():
    node, peer = Node(), Peer()
    node.hear(peer, peer.say(Kind.SYN))
    node.core.take_events()
    addr = delta_of("p", 0, 1, Item("gossip:addr", 1, peer.addr), lane=0)
    node.hear(peer, peer.say(Kind.DELTA, deltas=[addr]))
    assert node.core.members()["p"] in node.core.take_events()
    assert node.core.members()["p"].addr == peer.addr


def test_somebody_forgotten_with_a_lower_incarnation_is_told_so():
    node, peer = Node(GossipConfig(interval_s=1.0, forget_s=5.0)), Peer()
    node.hear(peer, peer.say(Kind.SYN))
    node.tick(60)
    assert "p" not in node.core.members()
    (answer,) = node.hear(peer, peer.say(Kind.SYN, own=peer.digest(WALL_NS - 5)))
    assert peer.hear(answer.datagram)[1].graves == [("p", WALL_NS)]
    # Nor does it matter whether it says which life it is.
    brief = peer.say(Kind.SYN, beats=Beats(0, b"", bytes(8)), brief=True)
    (answer,) = node.hear(peer, brief)
    assert peer.hear(answer.datagram)[1].graves == [("p", WALL_NS)]
    victim = Node(name="p", incarnation=WALL_NS - 5)
    teller = Peer("n", "10.0.0.1:1")
    victim.core.on_datagram(teller.addr, answer.datagram, NOW, Random(1))
    assert victim.core.incarnation > WALL_NS


def test_who_knows_that_a_forgotten_node_lives_tells_it_once_a_round():
    """Two that have forgotten each other would never hear of it themselves."""
    node, holder, victim = Node(), Peer("h"), Peer("v", "10.0.0.3:1")
    addr = delta_of("v", 0, 1, Item("gossip:addr", 1, victim.addr), lane=0)
    node.hear(victim, victim.say(Kind.DELTA, deltas=[addr]))
    grave = Grave(NodeId("v"), WALL_NS + 5)

    def passed_on(*graves):
        """In the next round, as what comes from one address is answered there only."""
        for grave in graves:
            assert not node.hear(holder, holder.say(Kind.DELTA, graves=[grave]))
        node.hear(victim, victim.say(Kind.DELTA))
        node.now += 1.0
        told = [
            victim.hear(out.datagram)[1]
            for out in node.core.on_tick(node.now, node.rng)
            if out.addr == victim.addr
        ]
        return [grave for message in told for grave in message.graves]

    assert passed_on(grave, grave) == [grave]
    assert passed_on() == []
    # An older life than the one that is known here is nobody's concern.
    assert passed_on(Grave(NodeId("v"), WALL_NS - 1)) == []
    assert passed_on(Grave(NodeId("w"), WALL_NS)) == []


def test_only_so_many_graves_are_passed_on_in_a_round():
    node, holder = Node(), Peer("h")
    victims = [Peer(f"v{number}", f"10.0.1.{number}:1") for number in range(3 * GRAVES_MAX)]
    for victim in victims:
        addr = delta_of(victim.name, 0, 1, Item("gossip:addr", 1, victim.addr), lane=0)
        node.hear(victim, victim.say(Kind.DELTA, deltas=[addr]))
        grave = Grave(NodeId(victim.name), WALL_NS + 5)
        assert not node.hear(holder, holder.say(Kind.DELTA, graves=[grave]))
    node.now += 1.0
    out = node.core.on_tick(node.now, node.rng)
    graves = [victims[0].hear(told.datagram)[1].graves for told in out]
    assert sum(map(len, graves)) == GRAVES_MAX


def test_whoever_talks_of_a_forgotten_node_is_told_of_the_grave():
    node, peer, other = Node(GossipConfig(interval_s=1.0, forget_s=5.0)), Peer(), Peer("o")
    node.hear(peer, peer.say(Kind.SYN))
    node.tick(60)
    (answer,) = node.hear(other, other.say(Kind.SYN, peer.digest(WALL_NS - 5), size=200))
    assert other.hear(answer.datagram)[1].graves == [("p", WALL_NS)]


def test_who_says_goodbye_is_gone_with_its_keys():
    node, peer = Node(), Peer()
    node.hear(peer, peer.say(Kind.DELTA, deltas=[delta_of("p", 0, 1, Item("k", 1, "v"))]))
    node.core.take_events()
    goodbye = delta_of("p", 0, 1, Item("gossip:left", 1, "1"), lane=0)
    node.hear(peer, peer.say(Kind.DELTA, deltas=[goodbye]))
    assert node.state("p") is MemberState.LEFT
    assert KvEvent("p", "k", None) in node.core.take_events()
    assert node.core.scan("", NOW) == {}
    node.hear(peer, peer.say(Kind.SYN))
    assert node.state("p") is MemberState.LEFT
    late = delta_of("p", 1, 2, Item("l", 2, "v"))
    node.hear(peer, peer.say(Kind.DELTA, deltas=[late]))
    assert not [event for event in node.core.take_events() if isinstance(event, KvEvent)]
