"""What an operator is told, and what not."""

from dataclasses import replace

import pytest

from laminar.cli.chronicle import ALONE_S, REPEAT_S, Chronicle
from laminar.cluster.gossip.member import Member, MemberState
from laminar.model import Incarnation, NodeId
from laminar.shuffle.liveness import PeerEvent, PeerState

JOINING, ALIVE, SUSPECT, LEFT, DEAD = MemberState
B = Member(NodeId("b"), Incarnation(1), ALIVE, "10.0.0.2:1")


def chronicle(*, seeks=False):
    return Chronicle(NodeId("a"), seeks=seeks, now=0.0)


def told(changes):
    """The words for b's states, each given with its incarnation and address."""
    it = chronicle()
    events = []
    for state, incarnation, *addr in changes:
        member = replace(B, state=state, incarnation=Incarnation(incarnation))
        events.append(it.member(replace(member, addr=addr[0]) if addr else member))
    return [event and event.event for event in events]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([(JOINING, 1, None), (ALIVE, 1, None), (ALIVE, 1)], [None, None, "joined"]),
        ([(ALIVE, 1), (ALIVE, 1)], ["joined", None]),
        ([(ALIVE, 1), (SUSPECT, 1), (ALIVE, 1)], ["joined", "suspected", "recovered"]),
        ([(ALIVE, 1), (SUSPECT, 1), (DEAD, 1)], ["joined", "suspected", "died"]),
        ([(ALIVE, 1), (DEAD, 1), (DEAD, 1)], ["joined", "died", None]),
        ([(ALIVE, 1), (LEFT, 1), (JOINING, 2), (ALIVE, 2)], ["joined", "left", None, "returned"]),
        ([(ALIVE, 1), (DEAD, 1), (ALIVE, 1)], ["joined", "died", "returned"]),
        ([(ALIVE, 1), (ALIVE, 2)], ["joined", "restarted"]),
        ([(ALIVE, 1), (ALIVE, 1, "10.0.0.9:1")], ["joined", "moved"]),
        ([(DEAD, 1)], [None]),
        ([(LEFT, 1), (ALIVE, 2)], [None, "joined"]),
        ([(JOINING, 1), (SUSPECT, 1)], [None, None]),
    ],
)
def test_members(changes, words):
    assert told(changes) == words


def test_an_event_has_all_there_is_to_know():
    it = chronicle()
    joined = it.member(B)
    assert (joined.node, joined.addr, joined.incarnation) == ("b", "10.0.0.2:1", 1)
    assert joined.text == "b has joined at 10.0.0.2:1"
    died = it.member(replace(B, state=DEAD, addr=None))
    assert (died.node, died.addr) == ("b", "10.0.0.2:1")
    back = it.member(replace(B, incarnation=Incarnation(2)))
    assert (back.event, back.restarted) == ("returned", True)
    assert back.text == "b is back at 10.0.0.2:1, restarted"


def test_who_is_forgotten_comes_anew():
    it = chronicle()
    it.member(B)
    it.keep([])
    assert it.member(replace(B, state=LEFT)).event == "left"  # a guest is no member by then
    it.keep(["b"])
    assert it.member(B).event == "returned"
    it.member(replace(B, state=LEFT))
    it.keep([])
    assert it.member(B).event == "joined"


def test_seeds_that_do_not_answer_are_told_now_and_then():
    it = chronicle(seeks=True)
    own = Member(NodeId("a"), Incarnation(1), JOINING, "10.0.0.1:1")
    assert it.member(own) is None
    assert it.alone(ALONE_S - 1) is None
    assert "laminar doctor" in it.alone(ALONE_S).text
    assert it.alone(ALONE_S + 1) is None
    assert it.alone(ALONE_S + REPEAT_S).event == "alone"
    assert it.member(replace(own, state=ALIVE)).event == "found"
    assert it.alone(10 * REPEAT_S) is None


def test_who_seeks_nobody_is_not_alone():
    it = chronicle()
    assert it.member(replace(B, node=NodeId("a"))) is None
    assert it.alone(100.0) is None


def test_peers_that_are_lost_or_restarted():
    it = chronicle()
    assert it.peer(PeerEvent(NodeId("b"), PeerState.CONNECTED, "", 0)) is None
    assert it.peer(PeerEvent(NodeId("b"), PeerState.RESTARTED, "", 1)).event == "peer_restarted"
    lost = it.peer(PeerEvent(NodeId("b"), PeerState.LOST, "peer b is lost", 2))
    assert (lost.event, lost.text) == ("peer_lost", "peer b is lost")


def refused(it, now, datagrams=(), connections=(), network=()):
    found = it.refusals(dict(datagrams), {}, dict(connections), dict(network), now)
    return [(event.event, event.reason, event.count) for event in found]


def test_each_reason_is_told_at_once_and_then_now_and_then():
    it = chronicle()
    assert refused(it, 0.0) == []
    assert refused(it, 1.0, {"cluster": 1}) == [("datagrams_refused", "cluster", 1)]
    assert refused(it, 2.0, {"cluster": 5}) == []
    assert refused(it, 2.0, {"cluster": 5}, {"key": 2}) == [("connections_refused", "key", 2)]
    assert refused(it, 1.0 + REPEAT_S, {"cluster": 9}) == [("datagrams_refused", "cluster", 8)]
    assert refused(it, 1.0 + 2 * REPEAT_S, {"cluster": 9}) == []
    assert refused(it, 0.0, network={"resolve": 1}) == [("network_errors", "resolve", 1)]


def test_where_datagrams_came_from_is_told():
    (event,) = chronicle().refusals({"key": 2}, {"key": "10.0.0.7:1"}, {}, {}, 0.0)
    assert event.addr == "10.0.0.7:1"
    assert event.text.startswith("refused 2 datagrams (the last one from 10.0.0.7:1) sealed with")


def test_what_is_as_the_network_is_is_not_told():
    assert refused(chronicle(), 0.0, {"replay": 9, "late": 9, "echo": 9}, {"silent": 9}) == []
