"""Who does not answer, who says so, and who is believed."""

import pytest

from laminar.cluster.gossip.asking import IN_VAIN_MIN, REPEATS
from laminar.cluster.gossip.core import FAREWELL_ROUNDS
from laminar.cluster.gossip.liveness import Lateness
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.gossip.messages import Beats, Digest, Hint, Item, Kind
from laminar.cluster.gossip.slot import ADDR_KEY
from laminar.cluster.gossip.suspicion import QUESTIONS_MAX
from laminar.config import GossipConfig
from tests.cluster.gossip.test_core import WALL_NS, Node, Peer, delta_of, prove

CONFIG = GossipConfig(interval_s=1.0, suspicion_intervals_max=3.5)


class Known(Peer):
    """A peer that a node knows, alive and with an address that is proven."""

    def __init__(self, node, name="p", addr="10.0.0.2:1"):
        super().__init__(name, addr)
        prove(node, self)
        address = delta_of(name, 0, 1, Item(ADDR_KEY, 1, addr), lane=0)
        node.hear(self, self.say(Kind.DELTA, deltas=[address]))
        assert node.state(name) is MemberState.ALIVE

    def digest(self, incarnation=WALL_NS, versions=(1, 0, 0, 0)):
        return super().digest(incarnation, versions)

    def hints(self, outgoing):
        return [hint for datagram in self.to_me(outgoing) for hint in datagram.hints]

    def to_me(self, outgoing, kind=None):
        heard = [self.hear(out.datagram)[1] for out in outgoing if out.addr == self.addr]
        return [message for message in heard if kind is None or message.kind is kind]


def settle(node, *peers):
    """Let what is new be told."""
    for _ in range(10):
        node.now = max(node.now, node.core.due) if node.core.due < node.now + 0.5 else node.now
        node.core.on_tick(node.now, node.rng)
        for peer in peers:
            node.hear(peer, peer.say(Kind.ACK))
    node.now += 0.2
    assert node.core.due > node.now


def run(node, seconds, answer=lambda out: None):
    """Tick when it is due; what was sent, and when."""
    end, sent = node.now + seconds, []
    while node.core.due <= end:
        node.now = max(node.now, node.core.due)
        out = node.core.on_tick(node.now, node.rng)
        sent += [(node.now, each) for each in out]
        answer(out)
    node.now = end
    return sent


def test_who_does_not_answer_is_asked_again_then_suspected_then_dead():
    node = Node(CONFIG)
    peer = Known(node)
    settle(node, peer)
    seen = {}
    for _ in range(100):
        sent = run(node, 0.1)
        seen.setdefault(node.state("p"), node.now)
        asked = [peer.hear(out.datagram)[1] for _, out in sent if out.addr == peer.addr]
        if node.state("p") is MemberState.DEAD:
            break
    assert list(seen) == [MemberState.ALIVE, MemberState.SUSPECT, MemberState.DEAD]
    begun = seen[MemberState.DEAD] - 3.5
    assert begun <= seen[MemberState.SUSPECT] - 1.4 <= begun + 0.2
    assert all(message.kind in (Kind.SYN, Kind.PUSH) for message in asked)
    statistics = node.core.statistics()
    assert 7 <= statistics.unanswered <= 9  # there is no hurry any more once others were told
    assert (statistics.suspicions, statistics.deaths) == (1, 1)


def test_others_are_told_of_who_does_not_answer():
    node = Node(CONFIG)
    peer, other = Known(node), Known(node, "q", "10.0.0.3:1")
    settle(node, peer, other)
    sent = run(node, 4.0, lambda out: other.to_me(out) and node.hear(other, other.say(Kind.ACK)))
    told = [(at, hint) for at, out in sent for hint in other.hints([out])]
    assert {hint for _, hint in told} == {Hint("p", WALL_NS, peer.heartbeat)}
    asked = [at for at, out in sent if peer.to_me([out], Kind.SYN)]
    assert told[0][0] == pytest.approx(asked[0] + IN_VAIN_MIN / REPEATS)
    assert node.state("q") is MemberState.ALIVE


def test_a_question_says_how_far_the_asker_knows():
    """So what is answered is newer than whatever it knows, and others can be told of it."""
    node = Node(CONFIG)
    peer = Known(node)
    settle(node, peer)
    node.core.unreachable("p", node.now)
    sent = node.core.on_tick(node.now, node.rng)
    assert peer.hints(sent) == [Hint("p", WALL_NS, peer.heartbeat)]
    asked = next(out for out in sent if out.addr == peer.addr)
    victim = Node(name="p", incarnation=WALL_NS)
    victim.core._own.heartbeat = peer.heartbeat
    answers = victim.core.on_datagram("10.0.0.1:1", asked.datagram, victim.now, victim.rng)
    assert peer.hear(answers[0].datagram)[1].digests[0].heartbeat == peer.heartbeat + 1
    assert victim.core.statistics().refutations == 1


# -- what others say ----------------------------------------------------------------------------


def lie(peer, *hints):
    """What somebody says of others, in a well sealed datagram."""
    return peer.say(Kind.PUSH, hints=hints)


def test_a_lie_about_a_death_costs_a_question():
    node = Node(CONFIG)
    peer, liar = Known(node), Known(node, "q", "10.0.0.3:1")
    settle(node, peer, liar)
    node.core.take_events()

    def answer(out):
        for each in (peer, liar):
            if each.to_me(out, Kind.SYN):
                node.hear(each, each.say(Kind.SYN_ACK))

    asked = 0
    for _ in range(100):
        run(node, 0.6, answer)
        node.hear(liar, lie(liar, Hint("p", WALL_NS, peer.heartbeat)))
        sent = run(node, 0.0, answer)
        asked += len(peer.to_me([out for _, out in sent], Kind.SYN))
    assert 30 < asked <= 100  # not while it has just spoken
    assert node.core.take_events() == []
    assert node.core.statistics().suspicions == 0


def test_a_hint_is_no_sign_of_life():
    node = Node(CONFIG)
    peer, other = Known(node), Known(node, "q", "10.0.0.3:1")
    settle(node, peer, other)
    until_dead = 0
    while node.state("p") is not MemberState.DEAD:
        node.hear(other, other.say(Kind.ACK))
        node.hear(other, lie(other, Hint("p", WALL_NS, peer.heartbeat + until_dead)))
        run(node, 0.1)
        until_dead += 1
        assert until_dead < 60


@pytest.mark.parametrize(
    "hint",
    [Hint("nobody", WALL_NS, 1), Hint("p", WALL_NS - 1, 1), Hint("p", WALL_NS + 1, 1)],
    ids=["unknown", "older", "newer"],
)
def test_a_hint_of_another_life_is_ignored(hint):
    node = Node(CONFIG)
    peer, other = Known(node), Known(node, "q", "10.0.0.3:1")
    settle(node, peer, other)
    run(node, 0.0)
    before = node.core.due
    node.hear(other, lie(other, hint))
    assert node.core.due == before


def test_only_so_many_are_asked_because_of_hints():
    node = Node(GossipConfig(interval_s=1.0, nodes_max=1000))
    other = Known(node, "q", "10.0.0.3:1")
    names = [f"x{number}" for number in range(2 * QUESTIONS_MAX)]
    for name in names:
        Known(node, name, f"{name}.net:1")
    node.now += 0.4
    node.core.on_tick(node.now, node.rng)
    node.now += 0.2
    hints = [Hint(name, WALL_NS, 1) for name in names]
    for hint in hints:
        node.hear(other, lie(other, hint))
    assert len(node.core._suspicion.asking) <= QUESTIONS_MAX


def test_a_node_that_is_said_not_to_answer_shows_itself():
    node = Node(CONFIG)
    other = Known(node, "q", "10.0.0.3:1")
    settle(node, other)
    beat = node.core._own.heartbeat
    node.hear(other, lie(other, Hint("n", WALL_NS, beat)))
    sent = [out for _, out in run(node, 0.2)]
    shown = [message.digests[0].heartbeat for message in other.to_me(sent, Kind.PUSH)]
    assert shown
    assert max(shown) > beat
    assert node.core.statistics().refutations == 1
    # One that knows less is not worth an answer to all.
    node.hear(other, lie(other, Hint("n", WALL_NS, beat - 1)))
    assert node.core.statistics().refutations == 1


def test_a_node_outbids_a_hint_that_knows_too_much():
    node = Node(CONFIG)
    other = Known(node, "q", "10.0.0.3:1")
    node.hear(other, lie(other, Hint("n", WALL_NS, node.core._own.heartbeat + 1)))
    assert node.core.incarnation > WALL_NS


def test_that_a_suspect_lives_is_told_on():
    node = Node(CONFIG)
    peer, other = Known(node), Known(node, "q", "10.0.0.3:1")
    settle(node, peer, other)
    node.core.unreachable("p", node.now)
    run(node, 1.0, lambda out: other.to_me(out) and node.hear(other, other.say(Kind.ACK)))
    node.hear(other, other.say(Kind.PUSH, peer.digest()))
    told = [m for _, out in run(node, 0.2) for m in other.to_me([out], Kind.PUSH)]
    assert ("p", peer.heartbeat) in [(d.node, d.heartbeat) for m in told for d in m.digests]


# -- who is out of reach ------------------------------------------------------------------------


def test_nobody_is_dead_whose_heartbeat_goes_on():
    """One that others hear and this one does not is asked for a while, then left in peace."""
    node = Node(CONFIG)
    peer, other = Known(node), Known(node, "q", "10.0.0.3:1")
    settle(node, peer, other)
    questions = []
    for _ in range(40):
        sent = [out for _, out in run(node, 0.5)]
        questions.append(len([m for m in peer.to_me(sent) if m.hints and m.kind is Kind.SYN]))
        node.hear(other, other.say(Kind.ACK, peer.digest()))
        assert node.state("p") is not MemberState.DEAD
    assert sum(questions[:16]) > 10
    assert sum(questions[-10:]) == 0
    # Whether it still lives is judged by its heartbeat alone.
    for _ in range(30):
        run(node, 1.0)
        node.hear(other, other.say(Kind.ACK))
    assert node.state("p") is MemberState.DEAD


def test_who_has_just_spoken_is_not_asked_because_of_a_hint():
    node = Node(CONFIG)
    peer, other = Known(node), Known(node, "q", "10.0.0.3:1")
    settle(node, peer, other)
    node.hear(peer, peer.say(Kind.ACK))
    before = node.core.due
    node.hear(other, lie(other, Hint("p", WALL_NS, peer.heartbeat)))
    assert node.core.due == before


# -- quiet rounds -------------------------------------------------------------------------------


def beats_of(node, peer):
    """What the node says of heartbeats in its next SYN to the peer."""
    for _ in range(10):
        for _, out in run(node, 1.0):
            for message in peer.to_me([out], Kind.SYN):
                if message.beats is not None:
                    return message
        node.hear(peer, peer.say(Kind.ACK))
    raise AssertionError("no SYN")


def test_where_views_are_equal_only_heartbeats_travel():
    node = Node(CONFIG)
    peer = Known(node)
    said = beats_of(node, peer)
    while said.digests:  # there is news for some rounds
        node.hear(peer, peer.say(Kind.ACK))
        said = beats_of(node, peer)
    assert said.deltas == []
    assert said.cookie == said.echo == b""
    assert len(said.beats.low) == 1
    own = peer.digest()
    node.hear(peer, peer.say(Kind.ACK, own=own))
    equal = node.core._view.roll.part(0, 2)
    (answer,) = node.hear(peer, peer.say(Kind.SYN, own=own, beats=equal))
    message = peer.hear(answer.datagram)[1]
    assert len(message.digests) == 1
    assert message.beats is None  # nothing new
    node.core._own.heartbeat += 1
    (answer,) = node.hear(peer, peer.say(Kind.SYN, own=own, beats=equal))
    message = peer.hear(answer.datagram)[1]
    assert message.digests == []  # the heartbeats stand for it
    assert message.beats.low != equal.low


def test_heartbeats_are_a_word_from_the_node_itself():
    node = Node(CONFIG)
    peer = Known(node)
    settle(node, peer)
    run(node, 2.4)
    assert "p" in node.core._suspicion.asking
    node.core._view.slots["p"].heartbeat += 1
    beats = node.core._view.roll.part(0, 2)
    node.core._view.slots["p"].heartbeat -= 1
    node.hear(peer, peer.say(Kind.SYN, beats=beats, brief=True))
    assert "p" not in node.core._suspicion.asking
    # But not if they are of another view.
    run(node, 2.4)
    assert "p" in node.core._suspicion.asking
    wrong = beats._replace(tag=bytes(8))
    node.hear(peer, peer.say(Kind.SYN, beats=wrong, brief=True))
    assert "p" in node.core._suspicion.asking


def test_a_nodes_own_view_is_not_taken_from_a_stranger():
    node = Node(CONFIG)
    beats = node.core._view.roll.part(0, 2)
    double = Peer("n", "10.0.0.9:1")
    assert node.hear(double, double.say(Kind.SYN, beats=beats, brief=True)) == []
    assert node.drops == {"echo": 1}


def test_doubts_are_told_where_views_differ():
    node = Node(CONFIG)
    peer, other = Known(node), Known(node, "q", "10.0.0.3:1")
    settle(node, peer, other)
    while node.state("p") is not MemberState.DEAD:
        run(node, 0.5)
        node.hear(other, other.say(Kind.ACK))
    (answer,) = node.hear(other, other.say(Kind.SYN, beats=Beats(0, b"", bytes(8))))
    assert other.hints([answer]) == [Hint("p", WALL_NS, peer.heartbeat)]


def test_where_views_differ_digests_travel():
    node = Node(CONFIG)
    peer, other = Known(node), Known(node, "q", "10.0.0.3:1")
    settle(node, peer, other)
    strange = Beats(0, bytes(3), bytes(8))
    (answer,) = node.hear(peer, peer.say(Kind.SYN, beats=strange))
    message = peer.hear(answer.datagram)[1]
    assert {digest.node for digest in message.digests} == {"n", "q"}
    assert message.beats is None


def test_heartbeats_of_another_view_change_nothing():
    node = Node(CONFIG)
    peer, other = Known(node), Known(node, "q", "10.0.0.3:1")
    settle(node, peer, other)
    before = {slot.node: slot.heartbeat for slot in node.core._view.others()}
    beats = node.core._view.roll.part(0, 3)
    forged = beats._replace(low=bytes((low + 5) & 0xFF for low in beats.low))
    node.hear(peer, peer.say(Kind.SYN_ACK, beats=forged))
    after = {slot.node: slot.heartbeat for slot in node.core._view.others()}
    assert after == {**before, "p": peer.heartbeat}
    assert node.core.incarnation == WALL_NS


def test_a_node_outbids_a_heartbeat_that_it_never_had():
    node = Node(CONFIG)
    peer = Known(node)
    own = node.core._own
    own.heartbeat += 5
    beats = node.core._view.roll.part(0, 2)
    own.heartbeat -= 5
    node.hear(peer, peer.say(Kind.SYN, beats=beats))
    assert node.core.incarnation > WALL_NS


# -- news ---------------------------------------------------------------------------------------


def test_a_change_is_told_at_once_and_whole():
    node = Node(CONFIG)
    peer = Known(node)
    settle(node, peer)
    node.core.write("k", "v", node.now)
    assert node.core.due <= node.now
    (push,) = peer.to_me(node.core.on_tick(node.now, node.rng), Kind.PUSH)
    assert [item.key for delta in push.deltas for item in delta.items] == ["k"]
    assert push.beats is None


def test_an_address_that_has_not_answered_is_told_that_there_is_news_but_not_which():
    node, peer = Node(CONFIG), Peer()
    address = delta_of("p", 0, 1, Item(ADDR_KEY, 1, peer.addr), lane=0)
    node.hear(peer, peer.say(Kind.DELTA, deltas=[address]))
    node.core.write("k", "v", node.now)
    out = node.core.on_tick(node.now, node.rng)
    pushes = [peer.hear(o.datagram)[1] for o in out if o.addr == peer.addr]
    assert pushes
    assert all(push.deltas == [] for push in pushes)
    assert all(len(o.datagram) >= 160 for o in out)


def test_news_that_nothing_is_missing_of_is_not_answered():
    node = Node(CONFIG)
    peer = Known(node)
    settle(node, peer)
    assert node.hear(peer, peer.say(Kind.PUSH)) == []
    news = delta_of("p", 0, 1, Item("k", 1, "v"))
    own = peer.digest(versions=(1, 0, 1, 0))
    assert node.hear(peer, peer.say(Kind.PUSH, own=own, deltas=[news])) == []
    assert node.core.read("p", "k", node.now) == "v"
    # What was told of before it is missing: it is asked for.
    own = peer.digest(versions=(1, 0, 5, 0))
    late = delta_of("p", 4, 5, Item("k", 5, "w"))
    (answer,) = node.hear(peer, peer.say(Kind.PUSH, own=own, deltas=[late]))
    wanted = peer.hear(answer.datagram)[1].digests[1]
    assert (wanted.node, wanted.bulk_max) == ("p", 1)


def test_who_leaves_is_in_a_hurry():
    node = Node(CONFIG)
    peer = Known(node)
    settle(node, peer)
    node.core.leave(node.now)
    sent = run(node, 1.0)
    assert len([1 for _, out in sent if peer.to_me([out], Kind.SYN)]) >= FAREWELL_ROUNDS - 2
    first = peer.to_me([sent[0][1]])[0]
    assert first.deltas or first.digests[0].priority_max == 2
    assert node.core.farewells == 0
    node.hear(peer, peer.say(Kind.SYN_ACK, node.core._own.digest))
    assert node.core.farewells == 1


def test_a_digest_of_a_dead_node_is_not_passed_on():
    node = Node(CONFIG)
    peer, other = Known(node), Known(node, "q", "10.0.0.3:1")
    settle(node, peer, other)
    while node.state("p") is not MemberState.DEAD:
        run(node, 0.5)
        node.hear(other, other.say(Kind.ACK))
    rumour = Digest("p", WALL_NS, 0, 0, 0, 0, 0)
    (answer,) = node.hear(other, other.say(Kind.SYN, rumour, beats=Beats(0, b"", bytes(8))))
    assert {digest.node for digest in other.hear(answer.datagram)[1].digests} == {"n"}


# -- whose fault a silence is --------------------------------------------------------------------


def seconds_until(node, name, state, each=lambda: None, limit_s=200):
    """How long it takes until ``name`` is in that state."""
    began = node.now
    while node.state(name) is not state:
        each()
        run(node, 0.1)
        assert node.now < began + limit_s
    return node.now - began


def silent_peer(node, asked):
    """One that was alive until now; whether it can be asked shows what judges it."""
    if asked:
        peer = Known(node)
        settle(node, peer)
        return peer
    peer = Peer()
    for _ in range(10):
        node.hear(peer, peer.say(Kind.SYN))
        run(node, 1.0)
    node.hear(peer, peer.say(Kind.SYN))
    assert node.state("p") is MemberState.ALIVE
    return peer


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "unasked"])
def test_who_is_late_itself_has_more_patience_with_everybody(monkeypatch, asked):
    took = {}
    for stretch in (1.0, 4.0):
        monkeypatch.setattr(Lateness, "stretch", stretch)
        node = Node(CONFIG)
        silent_peer(node, asked)
        took[stretch] = [
            seconds_until(node, "p", state) for state in (MemberState.SUSPECT, MemberState.DEAD)
        ]
    for calm, strained in zip(took[1.0], took[4.0], strict=True):
        assert 3.0 * calm < strained < 5.0 * calm


def test_a_newcomer_has_more_time_too_where_the_node_is_late(monkeypatch):
    took = []
    for stretch in (1.0, 4.0):
        monkeypatch.setattr(Lateness, "stretch", stretch)
        node, other = Node(CONFIG), Peer("q", "10.0.0.3:1")
        node.hear(other, other.say(Kind.SYN, Peer().digest()))
        assert node.state("p") is MemberState.JOINING
        took.append(seconds_until(node, "p", MemberState.DEAD))
    assert 3.0 * took[0] < took[1] < 5.0 * took[0]


def test_a_node_whose_every_tick_is_late_becomes_patient():
    """Nothing is set here: it is what comes of being late again and again."""
    took = []
    for late_s in (0.0, 0.8):
        node = Node(CONFIG)
        silent_peer(node, False)
        began = node.now
        while node.state("p") is not MemberState.SUSPECT:
            node.now = node.core.due + late_s
            node.core.on_tick(node.now, node.rng)
            assert node.now < began + 500
        took.append(node.core.lateness.listened(node.now) - began)
        assert node.core.statistics().health_score == (Lateness.SCORE_MAX if late_s else 0)
    assert took[1] > 3 * took[0]


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "unasked"])
def test_who_is_reached_otherwise_is_not_suspected_whatever_the_gossip_says(asked):
    node = Node(CONFIG)
    silent_peer(node, asked)
    for _ in range(20):
        node.core.reachable("p", node.now)
        run(node, CONFIG.direct_evidence_s - 0.5)
        assert node.state("p") is MemberState.ALIVE
    assert node.core.statistics().suspicions == 0
    assert seconds_until(node, "p", MemberState.SUSPECT) < 10.0


def test_who_never_was_regular_is_suspect_in_the_end():
    """Or else one long silence after another would buy a longer one."""
    node, peer = Node(CONFIG), Peer()
    for turn in range(40):
        node.hear(peer, peer.say(Kind.SYN))
        run(node, 15.0 if turn % 2 else 1.0)
    node.hear(peer, peer.say(Kind.SYN))
    longest = CONFIG.silence_intervals_max * node.core._view.expected_s
    took = seconds_until(node, "p", MemberState.SUSPECT)
    assert longest < took < longest + 2.0
