"""A key is proven on both sides, and no proof is good for anything else."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.errors import ConfigError, ProtocolError
from laminar.shuffle import control
from laminar.shuffle.authentication import Challenger, Prover, Transcript, key_id
from laminar.shuffle.frames import MAGIC, PREFACE, encode_preface
from laminar.shuffle.messages import Challenge, Hello, Proof

OLD, NEW, OTHER = (bytes([number]) * 32 for number in (1, 2, 3))
HERE, THERE = b"h" * 32, b"t" * 32


def greeted(sender_keys, receiver_keys, *, here=HERE, there=THERE, **more):
    """A prover with its greeting, and the challenger that has answered it."""
    prover = Prover(sender_keys, here)
    fields = {"cluster": "c", "node": "a", "incarnation": 7, "round": 3, **more}
    hello = Hello(**fields, nonce=here, key_ids=prover.key_ids)
    body = control.encode_hello(hello)
    challenger = Challenger(receiver_keys, there, "b", encode_preface())
    return prover, body, challenger, challenger.challenge(hello, body, encode_preface())


def answered(prover, body, challenge):
    return prover.answer(challenge, encode_preface(), encode_preface(), body)


@given(
    st.permutations([OLD, NEW, OTHER]),
    st.integers(1, 3),
    st.permutations([OLD, NEW, OTHER]),
    st.integers(1, 3),
)
def test_two_sides_with_a_key_in_common_agree_on_the_first_one_of_the_sender(
    mine, mine_count, yours, yours_count
):
    mine, yours = mine[:mine_count], yours[:yours_count]
    common = [key for key in mine if key in yours]
    if not common:
        with pytest.raises(ProtocolError, match="no key that is valid") as caught:
            greeted(mine, yours)
        assert caught.value.reason == "key"
        return
    prover, body, challenger, challenge = greeted(mine, yours)
    assert challenge.key_id == key_id(common[0])
    challenger.check(answered(prover, body, challenge))


PARTS = {
    "sender_preface": PREFACE.pack(MAGIC, 1, 9),
    "receiver_preface": PREFACE.pack(MAGIC, 1, 9),
    "hello": b"another",
    "node": "z",
    "nonce": b"z" * 32,
    "key_id": b"z" * 8,
}


def test_a_proof_covers_everything_that_was_said():
    said = Transcript(encode_preface(), encode_preface(), b"hello", "b", THERE, key_id(OLD))
    assert PARTS.keys() == {field.name for field in dataclasses.fields(said)}
    for role, reflected in (("sender", "receiver"), ("receiver", "sender")):
        proof = said.proof(role, OLD)
        said.check(role, OLD, proof)
        for changed in [dataclasses.replace(said, **{name: PARTS[name]}) for name in PARTS]:
            with pytest.raises(ProtocolError, match=f"the {role} did not prove"):
                changed.check(role, OLD, proof)
        for wrong in ((reflected, OLD, proof), (role, NEW, proof), (role, OLD, proof[:-1])):
            with pytest.raises(ProtocolError, match="did not prove"):
                said.check(*wrong)


def test_parts_do_not_run_into_each_other():
    one = Transcript(b"p", b"q", b"ab", "c", THERE, key_id(OLD))
    two = Transcript(b"p", b"q", b"a", "bc", THERE, key_id(OLD))
    assert one.proof("sender", OLD) != two.proof("sender", OLD)


@pytest.mark.parametrize(
    "more", [{"node": "z"}, {"incarnation": 8}, {"round": 4}, {"cluster": "z"}, {"here": b"z" * 32}]
)
def test_a_proof_is_of_one_greeting(more):
    _, _, challenger, challenge = greeted([OLD], [OLD])
    prover, body, _, _ = greeted([OLD], [OLD], **more)
    with pytest.raises(ProtocolError, match="the receiver did not prove"):
        answered(prover, body, challenge)
    forged = Transcript(
        encode_preface(), encode_preface(), body, "b", challenge.nonce, challenge.key_id
    )
    with pytest.raises(ProtocolError, match="the sender did not prove"):
        challenger.check(Proof(forged.proof("sender", OLD)))


def test_a_proof_cannot_be_sent_back():
    """A stranger opens a connection and hands the receiver's own proof to it."""
    _, _, challenger, challenge = greeted([OLD], [OLD])
    with pytest.raises(ProtocolError, match="the sender did not prove"):
        challenger.check(Proof(challenge.proof))


def test_another_version_range_on_the_way_is_noticed():
    prover, body, _, challenge = greeted([OLD], [OLD])
    with pytest.raises(ProtocolError, match="the receiver did not prove"):
        prover.answer(challenge, encode_preface(), PREFACE.pack(MAGIC, 1, 9), body)


def test_a_receiver_without_the_key_is_not_answered():
    prover, body, _, challenge = greeted([OLD], [OLD])
    for forged in (
        dataclasses.replace(challenge, proof=bytes(32)),
        dataclasses.replace(challenge, key_id=key_id(NEW)),
        Challenge("b", THERE, b"unknown!", challenge.proof),
    ):
        with pytest.raises(ProtocolError) as caught:
            answered(prover, body, forged)
        assert caught.value.reason == "key"


def test_a_proof_before_the_challenge_is_refused():
    challenger = Challenger([OLD], THERE, "b", encode_preface())
    with pytest.raises(ProtocolError) as caught:
        challenger.check(Proof(bytes(32)))
    assert caught.value.reason == "order"


def test_no_keys_is_another_reason_than_the_wrong_ones():
    challenger = Challenger([OLD], THERE, "b", encode_preface())
    with pytest.raises(ProtocolError, match="offers no key, and this node asks for one"):
        challenger.challenge(Hello("c", "a", 1, 1), b"", encode_preface())


@pytest.mark.parametrize("nonce", [b"", bytes(31), bytes(33)])
def test_a_nonce_is_not_forgotten(nonce):
    with pytest.raises(ConfigError, match="a nonce has 32 bytes"):
        Prover([OLD], nonce)
    with pytest.raises(ConfigError, match="a nonce has 32 bytes"):
        Challenger([OLD], nonce, "b", b"")


def test_a_key_id_is_short_and_stable():
    assert key_id(b"0123456789abcdef").hex() == "ab7aedfe9d0c580b"
    assert len({key_id(key) for key in (OLD, NEW, OTHER)}) == 3
