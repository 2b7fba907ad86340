"""What may be sent to addresses that have not answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.cluster.amplification import COOKIE_BYTES, UNLIMITED, AddressProof
from laminar.config import DatagramConfig
from laminar.errors import ConfigError

CONFIG = DatagramConfig(addresses_max=3, proof_lifetime_s=100.0, cookie_lifetime_s=10.0)
A = "192.0.2.1:7000"
B = "192.0.2.2:7000"


def proof(config=CONFIG):
    return AddressProof(bytes(32), config)


def test_a_stranger_gets_three_times_what_it_sent():
    addresses = proof()
    assert addresses.allowed_bytes(A, 0.0) == 0
    addresses.on_received(A, 17)
    assert addresses.allowed_bytes(A, 0.0) == 51
    assert addresses.allowed_bytes(B, 0.0) == 0
    addresses.on_sent(A, 50)
    assert addresses.allowed_bytes(A, 0.0) == 1
    addresses.on_received(A, 1)
    assert addresses.allowed_bytes(A, 0.0) == 4


def test_an_echoed_cookie_proves_an_address_for_a_while():
    addresses = proof()
    addresses.on_received(A, 10)
    cookie = addresses.cookie(A, 0.0)
    assert len(cookie) == COOKIE_BYTES
    assert not addresses.is_proven(A, 0.0)
    assert addresses.prove(A, cookie, 5.0)
    assert addresses.allowed_bytes(A, 104.9) == UNLIMITED
    assert addresses.allowed_bytes(A, 105.0) == 0


@pytest.mark.parametrize("sent", [0.0, 9.9])
@pytest.mark.parametrize(("later", "good"), [(0.0, True), (10.0, True), (20.0, False)])
def test_a_cookie_ages(sent, later, good):
    addresses = proof()
    assert addresses.prove(A, addresses.cookie(A, sent), sent + later) is good
    assert addresses.is_proven(A, sent + later) is good


def test_a_cookie_is_of_one_address_and_one_process():
    addresses, other = proof(), AddressProof(b"\x01" * 32, CONFIG)
    for forged in (addresses.cookie(B, 0.0), other.cookie(A, 0.0), b"", bytes(COOKIE_BYTES)):
        assert not addresses.prove(A, forged, 0.0)
    assert addresses.allowed_bytes(A, 0.0) == 0


def test_strangers_do_not_push_out_the_proven():
    addresses = proof()
    for name in "abc":
        addresses.on_proven(name, 0.0)
    for number in range(1000):
        addresses.on_received(f"stranger {number}", 1000)
        addresses.on_proven(f"owner of many {number}", 1.0)
    assert addresses.is_proven("a", 50.0)
    assert addresses.is_proven("b", 50.0)


def test_a_secret_has_a_length():
    with pytest.raises(ConfigError, match="32 bytes, got 0"):
        AddressProof(b"")


STEPS = st.lists(
    st.tuples(st.sampled_from(["receive", "reply"]), st.integers(0, 5), st.integers(0, 2000)),
    max_size=100,
)


@given(STEPS)
def test_no_victim_gets_more_than_three_times_the_attackers_effort(steps):
    addresses = proof()
    received, sent = dict.fromkeys(range(6), 0), dict.fromkeys(range(6), 0)
    for what, who, size in steps:
        if what == "receive":
            addresses.on_received(str(who), size)
            received[who] += size
        elif size <= addresses.allowed_bytes(str(who), 0.0):
            addresses.on_sent(str(who), size)
            sent[who] += size
        assert sent[who] <= 3 * received[who]
        assert len(addresses._budgets) <= CONFIG.addresses_max
