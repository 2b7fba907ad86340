"""What the data connections tell of the other nodes."""

from laminar.node.evidence import Evidence


def test_only_what_is_new_is_a_sign_of_life():
    evidence = Evidence()
    assert sorted(evidence.look({"b": 1.0}, {"c": 1.0})) == ["b", "c"]
    assert evidence.look({"b": 1.0}, {"c": 1.0}) == []
    assert evidence.look({"b": 1.0}, {"c": 2.0}) == ["c"]


def test_the_end_that_heard_last_counts():
    evidence = Evidence()
    assert evidence.look({"b": 1.0}, {"b": 3.0}) == ["b"]
    assert evidence.look({"b": 2.0}, {"b": 3.0}) == []


def test_a_connection_that_ended_tells_nothing():
    evidence = Evidence()
    evidence.look({"b": 1.0}, {"b": 2.0})
    assert evidence.look({}, {}) == []
    assert evidence.look({"b": 2.5}, {}) == ["b"]
