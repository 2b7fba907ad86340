"""Who may come in, and which session a Hello belongs to."""

import pytest

from laminar.config import ShuffleConfig
from laminar.errors import ProtocolError
from laminar.shuffle import control
from laminar.shuffle.frames import HEADER_BYTES, Kind, encode_frame
from laminar.shuffle.inbound import Mailbox
from laminar.shuffle.messages import Hello
from laminar.shuffle.peers import Peers


class Box(Mailbox):
    def put(self, channel, frame):
        pass


def hello(node="a", incarnation=5, **more):
    return Hello("laminar", node, incarnation, **{"round": 1, **more})


def peers(**settings):
    return Peers(ShuffleConfig(**settings), lambda name: Box())


def refused(peers, greeting):
    before = dict(peers.sessions)
    with pytest.raises(ProtocolError) as caught:
        peers.greet(greeting)
    assert peers.sessions == before
    return caught.value.reason


def test_a_new_peer_gets_a_session():
    known = peers()
    session, ended = known.greet(hello())
    assert (session.peer, session.incarnation, ended) == ("a", 5, None)
    assert known.sessions == {"a": session}


def test_a_returning_peer_gets_its_session_back():
    known = peers()
    session, _ = known.greet(hello())
    assert known.greet(hello(round=2)) == (session, None)


def test_peers_are_apart():
    known = peers()
    a, _ = known.greet(hello("a"))
    b, ended = known.greet(hello("b", incarnation=1))
    assert a is not b
    assert ended is None


def test_an_older_life_is_refused():
    known = peers()
    known.greet(hello(incarnation=5))
    assert refused(known, hello(incarnation=4, round=99)) == "incarnation"


def test_a_newer_life_ends_the_older():
    known = peers()
    old, _ = known.greet(hello(incarnation=5))
    new, ended = known.greet(hello(incarnation=6))
    assert ended is old
    assert new is not old
    assert new.channels == {}
    assert known.sessions == {"a": new}


def test_peers_max_counts_peers_not_connections():
    known = peers(peers_max=2)
    known.greet(hello("a"))
    b, _ = known.greet(hello("b"))
    assert refused(known, hello("c")) == "peers"
    known.greet(hello("a", round=2))
    known.greet(hello("a", incarnation=6))
    assert known.forget(b)
    known.greet(hello("c"))


def test_only_the_current_session_is_forgotten():
    """A late cleanup must not remove what has replaced its subject."""
    known = peers()
    old, _ = known.greet(hello(incarnation=5))
    new, _ = known.greet(hello(incarnation=6))
    assert not known.forget(old)
    assert known.sessions == {"a": new}
    assert known.forget(new)
    assert not known.forget(new)
    assert known.sessions == {}


class TestRounds:
    def welcome_of(self, session, number):
        frame = session.attach(hello(round=number), "me", 9)
        return control.decode_welcome(frame[HEADER_BYTES:])

    def test_each_connection_is_newer(self):
        session, _ = peers().greet(hello())
        self.welcome_of(session, 1)
        self.welcome_of(session, 4)
        assert session.connections == 2

    @pytest.mark.parametrize("number", [3, 2, 1])
    def test_a_late_connection_does_not_supersede_a_newer_one(self, number):
        session, _ = peers().greet(hello())
        self.welcome_of(session, 3)
        session.on_frames([])
        with pytest.raises(ProtocolError) as caught:
            self.welcome_of(session, number)
        assert caught.value.reason == "round"
        assert session.round == 3

    def test_the_welcome_says_who_and_how_much(self):
        config = ShuffleConfig(window_bytes=12345, control_frames_max=67)
        session, _ = Peers(config, lambda name: Box()).greet(hello())
        welcome = self.welcome_of(session, 1)
        assert (welcome.node, welcome.incarnation) == ("me", 9)
        assert (welcome.window_bytes, welcome.control_frames) == (12345, 67)
        assert welcome.channels == {}

    def test_is_one_frame(self):
        session, _ = peers().greet(hello())
        frame = session.attach(hello(), "me", 9)
        assert frame == encode_frame(Kind.WELCOME, frame[HEADER_BYTES:])
