"""What findings mean: one thing wrong at a time, and the verdict on it."""

from dataclasses import replace

import pytest

from laminar.cluster.gossip.member import MemberState
from laminar.model import NodeId
from laminar.node.consultation import Answer
from laminar.node.diagnosis import DATAGRAMS, HANDSHAKE, Level, diagnose
from laminar.node.findings import EtcdFindings, Findings, MemberFindings, SeedFindings
from laminar.shuffle.reach import Probe, Reach

A = NodeId("a")
GREETED = Probe(Reach.GREETED, node=A)
SEED = SeedFindings("a.example:1", ("10.0.0.1:1",), GREETED, 1, A)
ANSWER = Answer("n", "greeted", "", "", 1.0, "1.0")
MEMBER = MemberFindings(
    node=A,
    state=MemberState.ALIVE,
    addr="10.0.0.1:1",
    data_addr="10.0.0.1:1",
    probe=GREETED,
    heard=2,
    answers=1,
    heard_from="10.0.0.1:1",
    answer=ANSWER,
    clock_ahead_s=(-0.1, 0.1),
)
ETCD = EtcdFindings(("http://10.0.0.5:2379",), "/l", {A: "10.0.0.1:1", NodeId("b"): "b:1"})
FINE = Findings(
    node=NodeId("doctor-x"),
    member=NodeId("doctor-x"),
    addr="10.0.0.9:1",
    cluster="laminar",
    version="1.0",
    gossips=True,
    keyed=True,
    seeds=(SEED,),
    members=(MEMBER,),
    others=0,
    datagrams_refused={},
    connections_refused={},
    seconds=1.0,
)


def verdicts(level, **changes):
    return [v for v in diagnose(replace(FINE, **changes)) if v.level is level]


def wrong(**changes):
    return {(v.about, v.what): v for v in verdicts(Level.WRONG, **changes)}


def member(**changes):
    return {"members": (replace(MEMBER, **changes),)}


def seed(**changes):
    return {"seeds": (replace(SEED, **changes),)}


def test_all_is_well():
    assert wrong() == {}
    assert verdicts(Level.NOTE) == []
    assert {v.what for v in verdicts(Level.OK)} == {
        "name",
        "TCP",
        "UDP",
        "TCP there (10.0.0.1:1)",
        "TCP back (10.0.0.9:1)",
        "clock",
        "version",
    }


def test_every_wrong_thing_has_advice():
    for reach in (Reach.NOWHERE, Reach.CONNECTED):
        for reason in (*HANDSHAKE, "unheard of"):
            (found,) = wrong(**seed(probe=Probe(reach, reason, "it is so"))).values()
            assert found.what == "TCP"
            assert found.advice
            assert "it is so" in found.text


@pytest.mark.parametrize(
    ("changes", "about", "what", "said"),
    [
        (seed(addrs=()), "seed a.example:1", "name", "cannot be resolved"),
        (seed(probe=None), "seed a.example:1", "TCP", "no result in time"),
        (seed(answered_by=None), "seed a.example:1", "UDP", "none answered"),
        (member(state=MemberState.DEAD), "member a", "state", "dead"),
        (member(state=MemberState.SUSPECT), "member a", "state", "suspect"),
        (member(heard=0, answers=0), "member a", "UDP", "nothing comes from 10.0.0.1:1 itself"),
        (member(answers=0), "member a", "UDP", "from there only"),
        (member(answer=None), "member a", "TCP back (10.0.0.9:1)", "has not told"),
        (
            member(answer=replace(ANSWER, reach="nowhere", detail="no way")),
            "member a",
            "TCP back (10.0.0.9:1)",
            "cannot connect to this node: no way",
        ),
        (
            member(answer=replace(ANSWER, reach="connected", reason="key", detail="no key")),
            "member a",
            "TCP back (10.0.0.9:1)",
            "the handshake fails: no key",
        ),
        (member(clock_ahead_s=(7.0, 8.0)), "member a", "clock", "7 s or more ahead"),
        (member(clock_ahead_s=(-8.0, -7.0)), "member a", "clock", "7 s or more behind"),
        ({"members": (), "seeds": ()}, "here", "members", "no member was found"),
        ({"datagrams_refused": {("key", "10.0.0.7:1"): 3}}, "here", "datagrams", "10.0.0.7:1"),
        ({"connections_refused": {"cluster": 2}}, "here", "connections", "2 refused: cluster"),
        (seed(expected=NodeId("b")), "node b", "id", "a listens there"),
        ({"etcd": replace(ETCD, error="no answer")}, "etcd", "answer", "no answer"),
        ({"etcd": replace(ETCD, published={})}, "etcd", "nodes", "published an address below '/l'"),
    ],
)
def test_one_thing_is_wrong(changes, about, what, said):
    ((at, found),) = wrong(**changes).items()
    assert at == (about, what)
    assert said in found.text
    assert found.advice


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (member(data_addr=None, probe=None), "published no shuffle:addr"),
        (member(heard_from="10.9.9.9:5"), "speaks from 10.9.9.9:5"),
        (member(answer=replace(ANSWER, version="0.9")), "Laminar 0.9, and 1.0 here"),
        ({"others": 3}, "3 more members"),
    ],
)
def test_what_may_be_so_on_purpose(changes, said):
    assert wrong(**changes) == {}
    (note,) = verdicts(Level.NOTE, **changes)
    assert said in note.text


def test_clocks_that_may_agree_do():
    assert wrong(**member(clock_ahead_s=(-30.0, 0.1))) == {}


def test_udp_is_told_as_what_follows_from_tcp():
    refused = Probe(Reach.CONNECTED, "cluster", "another", told=True)
    found = wrong(**seed(probe=refused, answered_by=None))
    assert "as is to be expected" in found["seed a.example:1", "UDP"].text


def test_without_gossip_udp_does_not_matter():
    changes = {"gossips": False, "members": (), **seed(answered_by=None)}
    assert wrong(**changes) == {}
    (note,) = verdicts(Level.NOTE, **changes)
    assert "was not examined" in note.text


def test_who_is_in_etcd():
    found = {v.what: v for v in diagnose(replace(FINE, etcd=ETCD)) if v.about == "etcd"}
    assert found["answer"].text == "http://10.0.0.5:2379"
    assert found["nodes"].text == "a, b have published an address below '/l'"
    assert wrong(etcd=ETCD, **seed(expected=A)) == {}


def test_of_many_in_etcd_some_are_named():
    many = {NodeId(f"n{number:02}"): "a:1" for number in range(12)}
    texts = [v.text for v in diagnose(replace(FINE, etcd=replace(ETCD, published=many)))]
    assert any("n09 and 2 more have published" in text for text in texts)


def test_a_taken_id():
    mine = replace(MEMBER, node=NodeId("c"), probe=None, answer=None)
    changes = {"node": NodeId("c"), "members": (mine,), "connections_refused": {"identity": 1}}
    found = wrong(**changes)
    assert set(found) == {("here", "id"), ("seed a.example:1", "member")}
    gone = replace(mine, state=MemberState.DEAD)
    assert ("here", "id") not in wrong(**{**changes, "members": (gone,)})


def test_the_usual_noise_is_not_told():
    assert wrong(datagrams_refused={("replay", "10.0.0.1:1"): 9}) == {}
    assert "replay" not in DATAGRAMS


def test_a_seed_that_answers_and_is_no_member():
    gone = SeedFindings("b.example:1", ("10.0.0.2:1",), GREETED, 1, NodeId("b"))
    found = wrong(seeds=(SEED, gone))
    assert set(found) == {("seed b.example:1", "member")}
    assert "b answers, but is no member" in found["seed b.example:1", "member"].text
    assert wrong(seeds=(SEED, gone), others=1) == {}
