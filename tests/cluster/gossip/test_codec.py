"""Messages survive the wire, within their size; what is no message is refused, and cheaply."""

from contextlib import suppress
from itertools import pairwise

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.cluster.amplification import COOKIE_BYTES
from laminar.cluster.gossip.codec import (
    BASE_BYTES,
    BEATS_OVERHEAD_BYTES,
    DIGEST_BYTES_MAX,
    ITEM_OVERHEAD_BYTES,
    NUMBER_MAX,
    TAG_BYTES,
    MessageWriter,
    decode,
    delta_overhead_bytes,
)
from laminar.cluster.gossip.messages import (
    Beats,
    Digest,
    Grave,
    Hint,
    Item,
    Kind,
    LaneDelta,
    Message,
)
from laminar.cluster.kv import KEY_LENGTH_MAX
from laminar.errors import ProtocolError

numbers = st.integers(0, NUMBER_MAX)
nodes = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)
cookies = st.just(b"") | st.binary(min_size=COOKIE_BYTES, max_size=COOKIE_BYTES)
digests = st.builds(Digest, nodes, numbers, numbers, numbers, numbers, numbers, numbers)
graves = st.builds(Grave, nodes, numbers)
hints = st.builds(Hint, nodes, numbers, numbers)
beats = st.builds(
    Beats,
    numbers,
    st.binary(max_size=600),
    st.binary(min_size=TAG_BYTES, max_size=TAG_BYTES),
)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@st.composite
def deltas(draw):
    versions = sorted(draw(st.sets(numbers.filter(bool), min_size=1, max_size=8)))
    start = draw(st.integers(0, versions[0] - 1))
    end = draw(st.integers(versions[-1], NUMBER_MAX))
    items = [
        Item(draw(keys), version, draw(st.none() | text), draw(st.none() | st.integers(0, 2**53)))
        for version in versions
    ]
    return LaneDelta(draw(nodes), draw(numbers), draw(st.integers(0, 1)), start, end, 0, items)


messages = st.builds(
    Message,
    st.sampled_from(Kind),
    cookies,
    cookies,
    st.lists(digests, min_size=1, max_size=5),
    st.lists(deltas(), max_size=3),
    st.lists(graves, max_size=3),
    st.lists(hints, max_size=3),
    st.none() | beats,
    st.booleans(),
)


def write(message, limit_bytes=10**6, pad=0):
    """The bytes of a message, and what of it did not fit."""
    writer = MessageWriter(
        message.kind, message.cookie, message.echo, message.digests[0], limit_bytes
    )
    writer.asks_proof = message.asks_proof
    rest = [digest for digest in message.digests[1:] if not writer.add_digest(digest)]
    rest += [grave for grave in message.graves if not writer.add_grave(grave)]
    rest += [hint for hint in message.hints if not writer.add_hint(hint)]
    if message.beats is not None and not writer.add_beats(message.beats):
        rest.append(message.beats)
    rest += [left for delta in message.deltas if (left := writer.add_delta(delta)) is not None]
    writer.pad(pad)
    return writer.finish(), rest


@given(messages, st.integers(0, 500))
def test_a_message_survives_the_wire(message, pad):
    payload, rest = write(message, pad=pad)
    assert rest == []
    assert len(payload) >= pad - 20
    assert decode(payload) == message


@given(messages, st.integers(BASE_BYTES + DIGEST_BYTES_MAX, 1500))
def test_a_message_keeps_to_its_size(message, limit_bytes):
    payload, _ = write(message, limit_bytes, pad=limit_bytes)
    assert len(payload) <= limit_bytes
    assert set(decode(payload).digests) <= set(message.digests)


@given(st.integers(0, 1000), st.integers(BASE_BYTES + DIGEST_BYTES_MAX, 1500))
def test_room_for_heartbeats_is_what_it_says(count, limit_bytes):
    writer = MessageWriter(Kind.SYN, b"c" * 8, b"", Digest("a", *[0] * 6), limit_bytes)
    room = writer.free_bytes - BEATS_OVERHEAD_BYTES
    said = Beats(NUMBER_MAX, bytes(min(count, room)), bytes(TAG_BYTES))
    assert writer.add_beats(said)
    payload = writer.finish()
    assert len(payload) <= limit_bytes
    assert decode(payload).beats == said
    assert not writer.add_beats(said._replace(low=bytes(limit_bytes)))


def test_what_is_empty_takes_no_room():
    """A round in which nothing happens is about this large."""
    writer = MessageWriter(Kind.SYN, b"", b"", Digest("a", 2**61, 5000, 3, 0, 2, 0), 1000)
    writer.add_beats(Beats(0, bytes(5), bytes(TAG_BYTES)))
    assert len(writer.finish()) < 60
    writer.leaves_out_own = True
    assert len(writer.finish()) < 30
    assert decode(writer.finish()).digests == []


def test_the_own_digest_is_left_out_only_if_there_is_no_other():
    writer = MessageWriter(Kind.SYN, b"", b"", Digest("a", *[0] * 6), 1000)
    writer.leaves_out_own = True
    assert len(decode(writer.finish()).digests) == 1
    writer.add_beats(Beats(0, b"", bytes(TAG_BYTES)))
    writer.add_digest(Digest("b", *[0] * 6))
    assert len(decode(writer.finish()).digests) == 2


def test_somebody_has_to_speak():
    for fields in ({}, {"d": []}, {"d": [], "b": GOOD["b"]}):
        with pytest.raises(ProtocolError, match="malformed"):
            decode(msgpack.packb({"v": 2, "k": 1, **fields}))


@given(deltas(), st.integers(BASE_BYTES + DIGEST_BYTES_MAX, 1500))
def test_a_delta_that_is_cut_says_no_more_than_it_holds(delta, limit_bytes):
    own = Digest("a", *[0] * 6)
    whole, told = delta, []
    for _ in range(len(delta.items) + 1):
        writer = MessageWriter(Kind.DELTA, b"", b"", own, limit_bytes)
        rest = writer.add_delta(delta)
        payload = writer.finish()
        assert len(payload) <= limit_bytes
        told += decode(payload).deltas
        if rest is None or rest is delta:
            break
        delta = rest
    held = [item for part in told for item in part.items]
    assert held == list(whole.items[: len(held)])
    for part, following in pairwise(told):
        assert part.end == following.start == part.items[-1].version
    if rest is None:
        assert (told[0].start, told[-1].end) == (whole.start, whole.end)
        assert len(held) == len(whole.items)


def test_the_largest_key_that_may_be_written_fits_any_nodes_message():
    node = "x" * 128
    largest = Digest(node, *[NUMBER_MAX] * 6)
    item = Item("k" * KEY_LENGTH_MAX, NUMBER_MAX - 1, "v" * 300, 2**53)
    limit = BASE_BYTES + DIGEST_BYTES_MAX + delta_overhead_bytes(node) + ITEM_OVERHEAD_BYTES
    limit += KEY_LENGTH_MAX + 300
    writer = MessageWriter(Kind.DELTA, b"c" * 8, b"e" * 8, largest, limit)
    writer.asks_proof = True
    delta = LaneDelta(node, NUMBER_MAX, 1, NUMBER_MAX - 2, NUMBER_MAX, NUMBER_MAX, [item])
    assert writer.add_delta(delta) is None
    writer.pad(limit)
    assert len(writer.finish()) <= limit


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(payload):
    with pytest.raises(ProtocolError):
        decode(payload)


@given(messages, st.data())
def test_damage_is_refused_or_still_a_message(message, data):
    payload = bytearray(write(message)[0])
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    del payload[data.draw(st.integers(0, len(payload))) :]
    with suppress(ProtocolError):
        decode(bytes(payload))


GOOD = {
    "v": 2,
    "k": 1,
    "c": b"",
    "e": b"",
    "d": [["a", 1, 1, 0, 0, 0, 0]],
    "u": [["a", 1, 0, 0, 2, 0, [["k", 1, "v"]]]],
    "g": [["a", 1]],
    "s": [["a", 1, 1]],
    "b": [0, b"\x01", b"12345678"],
}


def test_the_good_one_is_good():
    assert decode(msgpack.packb(GOOD)).kind is Kind.SYN


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("k", 0),
        ("k", 6),
        ("k", "1"),
        ("k", None),
        ("c", b"short"),
        ("c", "12345678"),
        ("e", 5),
        ("d", []),
        ("d", {}),
        ("d", [["a", 1, 1, 0, 0, 0]]),
        ("d", [["a", 1, 1, 0, 0, 0, -1]]),
        ("d", [["a", 1, 1, 0, 0, 0, 2**63]]),
        ("d", [["a", 1, 1, 0, 0, 0, True]]),
        ("d", [["a", 1.0, 1, 0, 0, 0, 0]]),
        ("d", [["", 1, 1, 0, 0, 0, 0]]),
        ("d", [["x" * 129, 1, 1, 0, 0, 0, 0]]),
        ("d", [["two words", 1, 1, 0, 0, 0, 0]]),
        ("d", [[b"a", 1, 1, 0, 0, 0, 0]]),
        ("u", [["a", 1, 2, 0, 2, 0, []]]),
        ("u", [["a", 1, 0, 2, 2, 0, []]]),
        ("u", [["a", 1, 0, 0, 2, 0, [["k", 3, "v"]]]]),
        ("u", [["a", 1, 0, 1, 2, 0, [["k", 1, "v"]]]]),
        ("u", [["a", 1, 0, 0, 2, 0, [["k", 2, "v"], ["l", 1, "v"]]]]),
        ("u", [["a", 1, 0, 0, 2, 0, [["k", 1, "v"], ["k", 1, "v"]]]]),
        ("u", [["a", 1, 0, 0, 2, 0, [["", 1, "v"]]]]),
        ("u", [["a", 1, 0, 0, 2, 0, [["k" * 257, 1, "v"]]]]),
        ("u", [["a", 1, 0, 0, 2, 0, [["k", 1, 5]]]]),
        ("u", [["a", 1, 0, 0, 2, 0, [["k", 1, "v", -1]]]]),
        ("u", [["a", 1, 0, 0, 2, 0, [["k", 1, "v", None]]]]),
        ("u", [["a", 1, 0, 0, 2, 0, [["k", 1]]]]),
        ("g", [["a"]]),
        ("g", [["a", -1]]),
        ("s", [["a", 1]]),
        ("s", [["a", 1, -1]]),
        ("s", {}),
        ("b", []),
        ("b", None),
        ("b", [-1, b"", b"12345678"]),
        ("b", [0, "1", b"12345678"]),
        ("b", [0, b"1", b"1234567"]),
        ("b", [0, b"1", b"123456789"]),
        ("x", 1),
    ],
)
def test_what_is_out_of_place_is_refused(field, value):
    with pytest.raises(ProtocolError, match="malformed"):
        decode(msgpack.packb({**GOOD, field: value}))


@pytest.mark.parametrize("field", sorted(GOOD))
def test_what_matters_may_not_be_missing(field):
    rest = msgpack.packb({name: value for name, value in GOOD.items() if name != field})
    if field in "vk":
        with pytest.raises(ProtocolError, match="version" if field == "v" else "malformed"):
            decode(rest)
    else:
        assert decode(rest).kind is Kind.SYN


@pytest.mark.parametrize("version", [0, 1, 3, True, "2", None])
def test_another_version_is_refused_as_such(version):
    with pytest.raises(ProtocolError) as refusal:
        decode(msgpack.packb({**GOOD, "v": version}))
    assert refusal.value.reason == "version"


@pytest.mark.parametrize(
    "bomb",
    [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\x91" * 100_000],
    ids=["array", "map", "string", "depth"],
)
def test_a_bomb_takes_no_memory(bomb):
    with pytest.raises(ProtocolError, match="malformed"):
        decode(bomb)
