"""What a receiver asks of a stranger, and in which order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.config import ShuffleConfig
from laminar.errors import ProtocolError
from laminar.model import node_uri
from laminar.shuffle import control
from laminar.shuffle.frames import HEADER_BYTES, MAGIC, PREFACE, Frame, Kind, encode_preface
from laminar.shuffle.greeting import Greeting
from laminar.shuffle.introduction import Introduction
from laminar.shuffle.messages import Hello, Proof

KEY, OTHER = b"k" * 16, b"o" * 16
HERE, THERE = b"h" * 32, b"t" * 32


def greeting(certified=None, keys=(), **settings):
    stranger = Greeting("b", ShuffleConfig(**settings), keys, THERE)
    stranger.certified = certified
    stranger.on_preface(encode_preface())
    return stranger


def introduction(*, cluster="laminar", node="a", keys=(), incarnation=1):
    introduced = Introduction(Hello(cluster, node, incarnation, 1), keys, HERE)
    introduced.peer_preface = encode_preface()
    return introduced


def frame(wire, kind):
    assert wire[4] == kind
    return Frame(kind, 0, 0, 0, wire[HEADER_BYTES:])


def hello(**how):
    return frame(introduction(**how).frame, Kind.HELLO)


def reason(action, *arguments):
    with pytest.raises(ProtocolError) as caught:
        action(*arguments)
    return caught.value.reason


def test_without_keys_the_hello_is_all():
    stranger = greeting()
    assert stranger.on_frame(hello()) == Hello("laminar", "a", 1, 1)
    assert stranger.prefaced(b"welcome") == encode_preface() + b"welcome"
    assert stranger.prefaced(b"more") == b"more"


def challenged(keys=(KEY,)):
    stranger, introduced = greeting(keys=keys), introduction(keys=keys)
    reply = stranger.on_frame(frame(introduced.frame, Kind.HELLO))
    assert isinstance(reply, bytes)
    assert reply.startswith(encode_preface())
    body = reply[PREFACE.size :]
    return stranger, introduced, control.decode_challenge(frame(body, Kind.CHALLENGE).body)


def test_with_keys_both_prove_that_they_have_one():
    stranger, introduced, challenge = challenged()
    assert reason(introduced.check_proven) == "key"
    proof = introduced.answer(challenge)
    introduced.check_proven()
    accepted = stranger.on_frame(frame(proof, Kind.PROOF))
    assert (accepted.node, accepted.nonce) == ("a", HERE)
    assert stranger.prefaced(b"welcome") == b"welcome"


def test_a_proof_that_is_none_is_refused():
    stranger, _, _ = challenged()
    forged = Frame(Kind.PROOF, 0, 0, 0, control.encode_proof(Proof(bytes(32))))
    assert reason(stranger.on_frame, forged) == "key"


@pytest.mark.parametrize("kind", [Kind.HELLO, Kind.OPEN, Kind.DATA, Kind.WELCOME, Kind.CHALLENGE])
def test_anything_but_a_proof_is_refused(kind):
    stranger, _, _ = challenged()
    assert reason(stranger.on_frame, Frame(kind, 0, 0, 0, b"")) == "order"


@pytest.mark.parametrize("kind", [Kind.PROOF, Kind.OPEN, Kind.DATA, Kind.WELCOME, Kind.CLOSE])
@pytest.mark.parametrize("keys", [(), (KEY,)])
def test_anything_but_a_hello_is_refused_at_first(kind, keys):
    assert reason(greeting(keys=keys).on_frame, Frame(kind, 0, 0, 0, b"")) == "order"


def test_a_challenge_that_was_not_asked_for_is_refused():
    _, introduced, challenge = challenged()
    assert reason(introduction().answer, challenge) == "order"
    introduced.answer(challenge)
    assert reason(introduced.answer, challenge) == "order"


@pytest.mark.parametrize(
    ("theirs", "ours"), [((), (KEY,)), ((KEY,), ()), ((KEY,), (OTHER,))], ids=str
)
def test_a_side_with_keys_and_one_without_do_not_meet(theirs, ours):
    assert reason(greeting(keys=ours).on_frame, hello(keys=theirs)) == "key"


@pytest.mark.parametrize("keys", [(), (KEY,)])
def test_another_cluster_and_the_own_id_are_refused(keys):
    assert reason(greeting(keys=keys).on_frame, hello(cluster="prod", keys=keys)) == "cluster"
    assert reason(greeting(keys=keys).on_frame, hello(node="b", keys=keys)) == "identity"


def test_a_refusal_tells_nothing_of_the_own_cluster():
    with pytest.raises(ProtocolError) as caught:
        greeting(cluster="secret").on_frame(hello(cluster="prod"))
    assert "secret" not in str(caught.value)


def test_a_certificate_is_of_the_node_that_says_hello():
    mine = {node_uri("laminar", "a")}
    assert greeting(mine).on_frame(hello()).node == "a"
    assert greeting({"spiffe://x/a", *mine}).on_frame(hello()).node == "a"
    assert reason(greeting(mine).on_frame, hello(node="c")) == "certificate"
    assert reason(greeting(set()).on_frame, hello()) == "certificate"
    assert reason(greeting({node_uri("prod", "a")}).on_frame, hello()) == "certificate"


def test_a_certificate_does_not_replace_the_key():
    mine = {node_uri("laminar", "a")}
    assert reason(greeting(mine, keys=(KEY,)).on_frame, hello()) == "key"


@pytest.mark.parametrize(
    ("preface", "expected"),
    [
        (PREFACE.pack(b"HTTP", 1, 1), "magic"),
        (PREFACE.pack(MAGIC, 2, 9), "version"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "magic"),
    ],
)
def test_first_bytes_of_others(preface, expected):
    stranger = Greeting("b", ShuffleConfig(), (), THERE)
    assert reason(stranger.on_preface, preface) == expected


def test_a_peer_that_speaks_tls_is_told_so():
    with pytest.raises(ProtocolError, match=r"TLS: set ShuffleConfig\.tls on both sides"):
        Greeting("b", ShuffleConfig(), (), THERE).on_preface(b"\x16\x03\x01\x02\x00\x01\x00\x01")


KINDS = st.sampled_from(
    [Kind.HELLO, Kind.PROOF, Kind.CHALLENGE, Kind.WELCOME, Kind.OPEN, Kind.DATA]
)
BODIES = st.one_of(
    st.binary(max_size=60),
    st.binary(min_size=32, max_size=32).map(lambda proof: control.encode_proof(Proof(proof))),
    st.sampled_from(["a", "b", "c"]).map(lambda node: hello(node=node).body),
    st.sampled_from(["a", "b", "c"]).map(lambda node: hello(node=node, keys=(KEY,)).body),
    st.just(hello(keys=(OTHER,)).body),
)


@given(st.lists(st.tuples(KINDS, BODIES), max_size=6), st.booleans())
def test_nothing_that_a_stranger_says_opens_the_door(frames, knows_the_id):
    """Whatever it sends, also back: it has no key."""
    stranger = greeting(keys=(KEY,))
    if knows_the_id:
        reply = stranger.on_frame(hello(keys=(KEY,)))
        challenge = control.decode_challenge(reply[PREFACE.size + HEADER_BYTES :])
        frames.append((Kind.PROOF, control.encode_proof(Proof(challenge.proof))))
    for kind, body in frames:
        try:
            assert isinstance(stranger.on_frame(Frame(kind, 0, 0, 0, body)), bytes)
        except ProtocolError:
            return  # and the driver closes the connection
