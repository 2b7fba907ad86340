"""What the doctor shows; what it finds is in tests/node."""

from dataclasses import replace

from laminar.cli.doctor import json_object, lines, told_by, whom
from laminar.node.diagnosis import Level, Verdict
from laminar.node.findings import Findings

FINDINGS = Findings(
    "doctor-x", "doctor-x", "10.0.0.9:1", "prod", "1.0", True, False, (), (), 0, {}, {}, 1.25
)
VERDICTS = [
    Verdict("seed s:1", "name", Level.OK, "10.0.0.1:1", "nothing"),
    Verdict("seed s:1", "TCP", Level.WRONG, "no\x1b[2J way", "open it"),
    Verdict("here", "members", Level.NOTE, "few", "wait"),
]
STATISTICS = {
    "node": "a",
    "members": {"a": {"state": "alive"}, "b": {"state": "dead"}, "c": {"state": "alive"}},
    "receiver": {"drops": {"key": 2, "silent": 9}},
    "discovery": {
        "gossip": {"drops": {"cluster": 3, "gap": 9}},
        "seal": {"refused_from": {"cluster": "10.0.0.7:1"}},
        "network_errors": {"resolve": 4},
    },
}


def test_lines_are_for_people():
    assert lines(FINDINGS, VERDICTS) == [
        "doctor-x at 10.0.0.9:1 (TCP and UDP), cluster 'prod', without keys",
        "",
        "seed s:1",
        "  ok     name: 10.0.0.1:1",
        "  WRONG  TCP: no\\x1b[2J way",
        "         -> open it",
        "",
        "here",
        "  note   members: few",
        "         -> wait",
        "",
        "1 thing is wrong, after 1.2 s",
    ]
    assert lines(FINDINGS, VERDICTS[:1])[-1] == "all well, after 1.2 s"
    assert lines(replace(FINDINGS, node="c"), [])[0].endswith("; in the gossip it is doctor-x")
    assert "10.0.0.9:1 (TCP)," in lines(replace(FINDINGS, gossips=False), [])[0]


def test_json_has_everything():
    found = json_object(FINDINGS, VERDICTS)
    assert (found["wrong"], found["cluster"]) == (1, "prod")
    assert found["verdicts"][1] == {
        "about": "seed s:1",
        "what": "TCP",
        "level": "wrong",
        "text": "no\x1b[2J way",
        "advice": "open it",
    }


def test_what_a_node_says_itself():
    told = [(verdict.what, verdict.text) for verdict in told_by(STATISTICS)]
    assert told[0] == ("members", "it sees 2 alive, 1 dead")
    assert told[1][1].startswith("3 refused (the last one from 10.0.0.7:1): of another cluster")
    assert told[2][1].startswith("2 refused: without a key")
    assert told[3] == ("network", "a seed's name could not be resolved, 4 times")
    assert len(told) == 4


def test_a_node_that_does_not_gossip():
    assert len(told_by({**STATISTICS, "discovery": None})) == 2


def test_whom_a_node_says_to_examine():
    members = {
        "a": {"node": "a", "state": "alive", "addr": None},
        "b": {"node": "b", "state": "suspect", "addr": "b:1"},
        "c": {"node": "c", "state": "left", "addr": "c:1"},
        "d": {"node": "d", "state": "joining", "addr": None},
    }
    told = {"node": "a", "addr": "a:1", "members": members, "discovery": {}}
    assert whom(told) == (("a:1",), {})
    assert whom({**told, "discovery": None}) == ((), {"a": "a:1", "b": "b:1"})
