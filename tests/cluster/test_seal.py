"""Only holders of a key read and make datagrams, and each counts once."""

import random
import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from laminar.cluster import seal
from laminar.cluster.keyring import Keyring, key_id
from laminar.cluster.seal import LIFE_BYTES, REASONS, DatagramSealer, Opened
from laminar.config import DatagramConfig
from laminar.errors import ConfigError, ProtocolError

KEY, OTHER = b"k" * 32, b"o" * 32
SOURCE = "192.0.2.1:7000"
LIVES = iter(range(1, 10**9))


def sealer(node="a", keys=(KEY,), cluster="laminar", life=None, **limits):
    life = life if life is not None else next(LIVES).to_bytes(LIFE_BYTES, "big")
    ring = Keyring(keys) if keys else None
    return DatagramSealer(cluster, node, life, ring, DatagramConfig(**limits))


def refused(by, datagram, now=0.0):
    """The reason, which is counted; nothing else changes."""
    before = by.statistics()
    with pytest.raises(ProtocolError) as failure:
        by.open(datagram, SOURCE, now)
    reason = failure.value.reason
    after = by.statistics()
    assert after.refused == {**before.refused, reason: before.refused.get(reason, 0) + 1}
    assert after.refused_from[reason] == SOURCE
    assert (after.opened, after.senders) == (before.opened, before.senders)
    assert SOURCE in failure.value.detail
    assert REASONS[reason] in failure.value.detail
    return reason


@given(st.binary(max_size=1000), st.sampled_from([(KEY,), (OTHER, KEY), ()]))
def test_what_is_sealed_is_opened(payload, keys):
    a, b = sealer("a", keys), sealer("b", keys)
    datagram = a.seal(payload)
    assert b.open(datagram, SOURCE, 0.0) == Opened("a", payload)
    if keys and len(payload) > 8:
        assert payload not in datagram


@pytest.mark.parametrize("keys", [(KEY,), ()])
@pytest.mark.parametrize("node", ["a", "n" * 128])
def test_the_largest_payload_makes_the_largest_datagram(node, keys):
    a, b = sealer(node, keys), sealer("b", keys)
    assert len(a.seal(bytes(a.payload_bytes_max))) == 1200
    with pytest.raises(ConfigError, match="does not fit a datagram"):
        a.seal(bytes(a.payload_bytes_max + 1))
    assert a.statistics().sealed == 1
    largest = a.seal(bytes(a.payload_bytes_max))
    assert len(b.open(largest, SOURCE, 0.0).payload) == a.payload_bytes_max
    assert refused(b, largest + b"x") == "size"


@pytest.mark.parametrize("keys", [(KEY,), ()])
def test_no_byte_can_be_changed_or_cut(keys):
    a, b = sealer("a", keys), sealer("b", keys)
    datagram = a.seal(b"payload")
    for position in range(len(datagram)):
        for bit in range(8):
            changed = bytearray(datagram)
            changed[position] ^= 1 << bit
            reason = refused(b, bytes(changed))
            assert reason in ("version", "cluster", "key", "unsealed", "forged")
        assert refused(b, datagram[:position]) in ("short", "forged")
    assert refused(b, datagram + b"x") == "forged"
    assert b.open(datagram, SOURCE, 0.0).payload == b"payload"


def test_each_datagram_counts_once():
    a, b, c = sealer("a"), sealer("b"), sealer("c")
    datagram = a.seal(b"x")
    b.open(datagram, SOURCE, 0.0)
    assert refused(b, datagram) == "replay"
    c.open(datagram, SOURCE, 0.0)
    assert refused(c, datagram) == "replay"


@given(st.lists(st.integers(0, 29), max_size=80))
def test_any_order_opens_each_once(order):
    a, b = sealer("a"), sealer("b", reordered_max=8)
    datagrams = [a.seal(bytes([number])) for number in range(30)]
    opened = set()
    for number in order:
        if number <= max(opened, default=-1) - 8:
            assert refused(b, datagrams[number]) == "late"
        elif number in opened:
            assert refused(b, datagrams[number]) == "replay"
        else:
            assert b.open(datagrams[number], SOURCE, 0.0).payload == bytes([number])
            opened.add(number)


def test_a_new_life_starts_anew():
    b = sealer("b")
    first = sealer("a")
    for _ in range(5):
        b.open(first.seal(b"x"), SOURCE, 0.0)
    second = sealer("a")
    assert b.open(second.seal(b"x"), SOURCE, 0.0).sender == "a"
    assert b.open(first.seal(b"x"), SOURCE, 0.0).sender == "a"
    assert b.statistics().senders == 2


def test_what_is_sent_back_is_refused():
    a = sealer("a")
    assert refused(a, a.seal(b"x")) == "echo"
    plain = sealer("a", ())
    assert refused(plain, plain.seal(b"x")) == "echo"


def test_wrong_cluster_key_and_version_are_told_apart():
    b, plain = sealer("b"), sealer("b", ())
    assert refused(b, sealer("a", cluster="other").seal(b"x")) == "cluster"
    assert refused(b, sealer("a", (OTHER,)).seal(b"x")) == "key"
    assert refused(b, sealer("a", ()).seal(b"x")) == "unsealed"
    assert refused(plain, sealer("a").seal(b"x")) == "key"
    assert refused(b, b"\x02" + sealer("a").seal(b"x")[1:]) == "version"
    assert refused(b, b"") == "short"
    assert refused(b, sealer("a").seal(b"")[:46]) == "forged"


def test_the_cluster_is_bound_by_its_whole_name(monkeypatch):
    class Sha:
        def __init__(self, _text):
            pass

        def digest(self):
            return bytes(32)

    monkeypatch.setattr(seal.hashlib, "sha256", Sha)
    a, b = sealer("a", cluster="one"), sealer("b", cluster="two")
    assert refused(b, a.seal(b"x")) == "forged"


def test_keys_change_under_traffic():
    rings = {name: Keyring([KEY]) for name in "ab"}
    a, b = (
        DatagramSealer("laminar", name, name.encode() * LIFE_BYTES, ring)
        for name, ring in rings.items()
    )

    def both_ways():
        assert b.open(a.seal(b"x"), SOURCE, 0.0).payload == b"x"
        assert a.open(b.seal(b"y"), SOURCE, 0.0).payload == b"y"

    recorded = a.seal(b"old")
    for step in ("install", "use", "remove"):
        for ring in rings.values():
            if step == "install":
                ring.install(OTHER)
            elif step == "use":
                ring.use(key_id(OTHER))
            else:
                ring.remove(key_id(KEY))
            both_ways()
    assert refused(b, recorded) == "key"


def forge(inside, number=0, life=b"f" * LIFE_BYTES):
    """What one who has the key can make."""
    a = sealer("a", life=life)
    header = struct.pack("<B4s4s12sQ", 1, a._cluster_id, key_id(KEY), life, number)
    cipher, nonce = seal._cipher(KEY, life, number)
    return header + cipher.encrypt(nonce, inside, header + b"laminar")


@pytest.mark.parametrize(
    "inside", [b"", b"\x00", b"\x00x", b"\x02a", b"\x81" + b"a" * 129, b"\x03a b", b"\x02\xc3\xa4"]
)
def test_a_holder_of_the_key_must_name_itself(inside):
    assert refused(sealer("b"), forge(inside)) == "sender"


def test_a_known_sender_may_jump_to_the_end():
    b = sealer("b")
    assert b.open(forge(b"\x01a", 2**64 - 1), SOURCE, 0.0) == Opened("a", b"")
    assert refused(b, forge(b"\x01a", 0)) == "late"


def test_no_nonce_repeats_under_a_key(monkeypatch):
    used = set()

    class Spy:
        def __init__(self, key):
            self.key = key

        def encrypt(self, nonce, data, associated):
            assert len(nonce) == 12
            assert (self.key, nonce) not in used
            used.add((self.key, nonce))
            return AESGCM(self.key).encrypt(nonce, data, associated)

    monkeypatch.setattr(seal, "AESGCM", Spy)
    for _ in range(20):
        a = sealer("a")
        for number in (0, 2**32 - 50, 2**32 * 7):
            a._number = number
            for _ in range(100):
                a.seal(b"x")
    assert len(used) == 20 * 300


def test_numbers_beyond_four_bytes_open():
    a, b = sealer("a"), sealer("b")
    a._number = 2**32 - 1
    for _ in range(3):
        assert b.open(a.seal(b"x"), SOURCE, 0.0).sender == "a"


def test_senders_are_bounded_and_a_flood_of_lives_forgets_no_honest_one():
    b, honest = sealer("b", senders_max=4, sender_idle_s=10.0), sealer("honest")
    recorded = [honest.seal(b"x") for _ in range(3)]
    for datagram in recorded:
        b.open(datagram, SOURCE, 0.0)
    for number in range(100):
        b.open(sealer("stranger").seal(b"x"), SOURCE, number / 4)
        b.open(honest.seal(b"x"), SOURCE, number / 4)
        assert b.statistics().senders <= 4
    assert {refused(b, datagram, 25.0) for datagram in recorded} == {"replay"}


def test_replaying_keeps_no_place():
    b, gone = sealer("b", senders_max=2, sender_idle_s=10.0), sealer("gone")
    recorded = gone.seal(b"x")
    b.open(recorded, SOURCE, 0.0)
    b.open(sealer("a").seal(b"x"), SOURCE, 1.0)
    assert refused(b, recorded, 10.0) == "replay"
    b.open(sealer("c").seal(b"x"), SOURCE, 10.5)
    # The place went to c, so b no longer knows what it opened: that is the limit of memory.
    assert b.open(recorded, SOURCE, 10.5).sender == "gone"


@pytest.mark.parametrize("life", [b"", bytes(11), bytes(13)])
def test_a_life_has_a_length(life):
    with pytest.raises(ConfigError, match="12 bytes"):
        sealer("a", life=life)


def test_a_sealer_needs_a_valid_name():
    with pytest.raises(ConfigError, match="node id"):
        sealer("two words")


def mutations(rng, datagrams):
    """Endless datagrams that none of ``datagrams`` equals, made from them."""
    while True:
        data = bytearray(rng.choice(datagrams))
        for _ in range(rng.randint(1, 4)):
            where = rng.randrange(len(data) + 1)
            what = rng.randrange(5)
            if what == 0 and where < len(data):
                data[where] ^= 1 << rng.randrange(8)
            elif what == 1:
                del data[where : where + rng.randint(1, 40)]
            elif what == 2:
                data[where:where] = rng.randbytes(rng.randint(1, 40))
            elif what == 3:
                other = rng.choice(datagrams)
                data[where:] = other[where:]
            else:
                data[:] = rng.randbytes(rng.randint(0, 1300))
        if bytes(data) not in datagrams:
            yield bytes(data)


def test_an_answer_is_sealed_with_the_key_of_the_question():
    """Who has not the new key yet can still ask, and understands what it is told."""
    late, ahead, other = sealer("late", (OTHER,)), sealer("ahead", (KEY, OTHER)), "192.0.2.2:1"
    ahead.open(late.seal(b"question"), SOURCE, 0.0)
    assert late.open(ahead.seal(b"answer", SOURCE), other, 0.0).payload == b"answer"
    assert refused(late, ahead.seal(b"to somebody else", other)) == "key"
    ahead.open(sealer("b").seal(b"x"), SOURCE, 0.0)
    assert refused(late, ahead.seal(b"to who has it", SOURCE)) == "key"


def test_no_answer_is_sealed_with_a_key_that_is_gone():
    ring = Keyring([KEY, OTHER])
    ahead = DatagramSealer("laminar", "a", bytes(LIFE_BYTES), ring)
    ahead.open(sealer("late", (OTHER,)).seal(b"question"), SOURCE, 0.0)
    ring.remove(key_id(OTHER))
    assert sealer("b").open(ahead.seal(b"answer", SOURCE), SOURCE, 0.0).payload == b"answer"


@pytest.mark.parametrize("keys", [(KEY,), ()])
def test_a_hundred_thousand_bad_datagrams_change_nothing(keys):
    rng = random.Random(4)
    a, b = sealer("a", keys), sealer("b", keys)
    seeds = [a.seal(rng.randbytes(size)) for size in (0, 1, 20, 200, 1000)]
    seeds.append(sealer("c", (OTHER,)).seal(b"x"))
    seeds.append(sealer("c", (), cluster="other").seal(b"x"))
    bad = mutations(rng, seeds)
    count = 100_000 if keys else 20_000
    for _ in range(count):
        with pytest.raises(ProtocolError):
            b.open(next(bad), SOURCE, 0.0)
    told = b.statistics()
    assert told.opened == told.senders == 0
    assert sum(told.refused.values()) == count
    assert told.refused.keys() <= REASONS.keys()
    wanted = {"size", "short", "version", "cluster", "key", "forged"}
    assert wanted <= told.refused.keys()
    for datagram in seeds[:5]:
        assert b.open(datagram, SOURCE, 0.0).sender == "a"
