"""Control bodies: what is valid survives the wire, whatever else is refused by name."""

import msgpack
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from laminar.config import KEYS_MAX, ShuffleConfig
from laminar.errors import ConfigError, ProtocolError
from laminar.model import NODE_ID_LENGTH_MAX, BarrierFlags, CheckpointBarrier
from laminar.shuffle import control
from laminar.shuffle.authentication import KEY_ID_BYTES
from laminar.shuffle.control import (
    CHANNEL_NAME_BYTES_MAX,
    CLOSE_REASON_LENGTH_MAX,
    CLUSTER_NAME_LENGTH_MAX,
    U64_MAX,
    VNODE_MAX,
)
from laminar.shuffle.frames import (
    CONTROL_BODY_BYTES_MAX,
    GREETING_BODY_BYTES_MAX,
    HEADER_BYTES,
    Kind,
    encode_frame,
)
from laminar.shuffle.messages import Challenge, Close, Hello, Proof, Welcome

U64 = st.integers(0, U64_MAX)
NODE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)
NAME = st.text(min_size=1, max_size=CHANNEL_NAME_BYTES_MAX // 4)  # of four bytes each
FLAGS = st.sampled_from([BarrierFlags(bits) for bits in range(4)])

KEY_ID = st.binary(min_size=KEY_ID_BYTES, max_size=KEY_ID_BYTES)
OF_32_BYTES = st.binary(min_size=32, max_size=32)
HELLOS = st.builds(Hello, NAME, NODE, U64, st.integers(1, U64_MAX))
KEYED_HELLOS = st.builds(
    Hello,
    NAME,
    NODE,
    U64,
    st.integers(1, U64_MAX),
    OF_32_BYTES,
    st.lists(KEY_ID, min_size=1, max_size=KEYS_MAX).map(tuple),
)
CHALLENGES = st.builds(Challenge, NODE, OF_32_BYTES, KEY_ID, OF_32_BYTES)
WELCOMES = st.builds(
    Welcome,
    node=NODE,
    incarnation=U64,
    window_bytes=st.integers(1, U64_MAX),
    control_frames=st.integers(1, U64_MAX),
    resumed=st.booleans(),
    channels=st.dictionaries(NAME, st.tuples(U64, U64), max_size=5),
)
BARRIERS = st.builds(CheckpointBarrier, U64, U64, FLAGS)


class TestRoundTrip:
    @given(HELLOS | KEYED_HELLOS)
    def test_hello(self, hello):
        assert control.decode_hello(control.encode_hello(hello)) == hello

    @given(CHALLENGES, OF_32_BYTES)
    def test_challenge_and_proof(self, challenge, proof):
        assert control.decode_challenge(control.encode_challenge(challenge)) == challenge
        assert control.decode_proof(control.encode_proof(Proof(proof))) == Proof(proof)

    @given(WELCOMES)
    def test_welcome(self, welcome):
        assert control.decode_welcome(control.encode_welcome(welcome)) == welcome

    @given(NAME)
    def test_channel_name(self, name):
        assert control.decode_channel_name(control.encode_channel_name(name)) == name

    @given(st.text(max_size=CLOSE_REASON_LENGTH_MAX))
    def test_close(self, reason):
        assert control.decode_close(control.encode_close(Close(reason))) == Close(reason)

    @given(BARRIERS, U64)
    def test_barrier(self, barrier, last):
        assert control.decode_barrier(control.encode_barrier(barrier, last)) == (barrier, last)

    @given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**16 - 1), U64)
    def test_watermark(self, timestamp, channel, sequence):
        """A whole frame, and the same as if it had been put together from its parts."""
        frame = control.encode_watermark(timestamp, channel, sequence)
        body = frame[HEADER_BYTES:]
        whole = encode_frame(Kind.WATERMARK, body, channel=channel, sequence=sequence)
        assert frame == whole
        assert control.decode_timestamp(body) == timestamp

    @given(st.integers(0, VNODE_MAX), st.binary(max_size=20))
    @example(0, b"")
    @example(VNODE_MAX, b"")
    def test_vnode_with_a_batch_behind_it(self, vnode, batch):
        body = control.encode_vnode(vnode) + batch
        assert control.decode_vnode(body) == vnode
        assert control.decode_vnode(pa.py_buffer(body)) == vnode

    def test_a_vnode_keeps_arrow_aligned(self):
        assert len(control.encode_vnode(1)) == 8

    def test_a_long_reason_is_cut(self):
        """It is often an error's text, and must never itself be an error."""
        cut = control.decode_close(control.encode_close(Close("x" * 10_000)))
        assert cut.reason == "x" * CLOSE_REASON_LENGTH_MAX

    def test_unknown_fields_are_left_to_newer_versions(self):
        body = msgpack.packb({"name": "orders", "colour": "blue"})
        assert control.decode_channel_name(body) == "orders"


VALID = {
    "hello": (
        control.decode_hello,
        {"cluster": "c", "node": "n", "incarnation": 1, "round": 1},
    ),
    "hello with keys": (
        control.decode_hello,
        {
            "cluster": "c",
            "node": "n",
            "incarnation": 1,
            "round": 1,
            "nonce": bytes(32),
            "keys": [bytes(8)],
        },
    ),
    "challenge": (
        control.decode_challenge,
        {"node": "n", "nonce": bytes(32), "key": bytes(8), "proof": bytes(32)},
    ),
    "proof": (control.decode_proof, {"proof": bytes(32)}),
    "welcome": (
        control.decode_welcome,
        {
            "node": "n",
            "incarnation": 1,
            "window": 1,
            "control": 1,
            "resumed": False,
            "channels": {"x": [2, 1]},
        },
    ),
    "open": (control.decode_channel_name, {"name": "x"}),
    "close": (control.decode_close, {"reason": "x"}),
    "barrier": (control.decode_barrier, {"id": 1, "epoch": 1, "flags": 1, "last": 1}),
}
FIELDS = [(message, field) for message, (_, fields) in VALID.items() for field in fields]

NOT_UNSIGNED = [None, True, "1", b"1", 1.0, -1, [1], {}]
NOT_TEXT = [None, True, 1, b"x", ["x"], {}]
NOT_CHANNELS = [
    *([1], "x", None, True),
    *({1: [1, 1]}, {"x": 1}, {"x": [1]}, {"x": [1, 1, 1]}, {"x": "ab"}, {"x": {}}),
    *({"x": [-1, 1]}, {"x": [1, "1"]}, {"x": [1, None]}, {"x": [1.5, 1]}, {"x": [True, 1]}),
]
NOT_32_BYTES = [None, True, 1, "x" * 32, b"", bytes(31), bytes(33), [0] * 32]
NOT_KEY_IDS = [None, bytes(8), {}, [], [b""], [bytes(7)], ["x" * 8], [bytes(8)] * (KEYS_MAX + 1)]
WRONG = {
    ("hello", "cluster"): [*NOT_TEXT, "", "x" * (CLUSTER_NAME_LENGTH_MAX + 1)],
    ("hello", "node"): [*NOT_TEXT, "", "a b", "ö", "\0", "x" * (NODE_ID_LENGTH_MAX + 1)],
    ("hello", "incarnation"): NOT_UNSIGNED,
    # The first connection is round 1: a 0 is never newer than what a session has seen.
    ("hello", "round"): [*NOT_UNSIGNED, 0],
    ("hello with keys", "cluster"): [1],
    ("hello with keys", "node"): [1],
    ("hello with keys", "incarnation"): [-1],
    ("hello with keys", "round"): [0],
    ("hello with keys", "nonce"): NOT_32_BYTES,
    ("hello with keys", "keys"): NOT_KEY_IDS,
    ("challenge", "node"): [*NOT_TEXT, "", "a b"],
    ("challenge", "nonce"): NOT_32_BYTES,
    ("challenge", "key"): [None, "x" * 8, b"", bytes(7), bytes(9)],
    ("challenge", "proof"): NOT_32_BYTES,
    ("proof", "proof"): NOT_32_BYTES,
    ("welcome", "node"): [*NOT_TEXT, "", "a b", "x" * (NODE_ID_LENGTH_MAX + 1)],
    ("welcome", "incarnation"): NOT_UNSIGNED,
    ("welcome", "window"): [*NOT_UNSIGNED, 0],
    ("welcome", "control"): [*NOT_UNSIGNED, 0],
    ("welcome", "resumed"): [None, 0, 1, "x"],
    ("welcome", "channels"): NOT_CHANNELS,
    ("open", "name"): [
        *(*NOT_TEXT, "", "x" * (CHANNEL_NAME_BYTES_MAX + 1)),
        "\N{GRINNING FACE}" * (CHANNEL_NAME_BYTES_MAX // 4 + 1),
    ],
    ("close", "reason"): [*NOT_TEXT, "x" * (CLOSE_REASON_LENGTH_MAX + 1)],
    ("barrier", "id"): NOT_UNSIGNED,
    ("barrier", "epoch"): NOT_UNSIGNED,
    ("barrier", "flags"): [*NOT_UNSIGNED, 4, 1 << 40],
    ("barrier", "last"): NOT_UNSIGNED,
}


def refused(decode, body):
    with pytest.raises(ProtocolError) as caught:
        decode(body)
    assert caught.value.reason == "control"
    assert len(str(caught.value)) < 400  # a stranger does not write our logs


def reason(decode, body):
    """Why ``body`` was refused, if it was."""
    try:
        decode(body)
    except ProtocolError as error:
        return error.reason
    return None


class TestRefusals:
    def test_every_field_is_covered(self):
        assert sorted(WRONG) == sorted(FIELDS)

    @pytest.mark.parametrize("message", VALID)
    def test_the_valid_one_is_valid(self, message):
        decode, fields = VALID[message]
        decode(msgpack.packb(fields))

    @pytest.mark.parametrize(("message", "field"), FIELDS)
    def test_missing(self, message, field):
        decode, fields = VALID[message]
        refused(decode, msgpack.packb({k: v for k, v in fields.items() if k != field}))

    @pytest.mark.parametrize(
        ("message", "field", "value"),
        [(*where, value) for where, values in WRONG.items() for value in values],
    )
    def test_wrong(self, message, field, value):
        decode, fields = VALID[message]
        refused(decode, msgpack.packb({**fields, field: value}))

    @pytest.mark.parametrize("message", VALID)
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\xc1",
            b"\x80\x00",
            msgpack.packb([1]),
            msgpack.packb("x"),
            msgpack.packb({1: 2}),
            msgpack.packb({"name": 1})[:-1],
            b"\x81\xa1x\xa1\xff",  # a text that is not UTF-8
            b"\x91" * 5000,  # a nest
            b"\x81\x90\xc0",  # a list as a key
            b"\xdf\xff\xff\xff\xff",  # four billion entries, it says
            b"\x81\xa1x\xc7\x03\xff\0\0\0",  # a broken time
        ],
    )
    def test_not_a_message(self, message, body):
        refused(VALID[message][0], body)

    @given(st.sampled_from(sorted(VALID)), st.binary(max_size=100))
    def test_noise_is_never_anything_but_a_protocol_error(self, message, body):
        assert reason(VALID[message][0], body) in {None, "control"}

    @given(st.sampled_from(sorted(VALID)), st.data())
    def test_a_flipped_byte_is_never_anything_but_a_protocol_error(self, message, data):
        decode, fields = VALID[message]
        body = bytearray(msgpack.packb(fields))
        for _ in range(data.draw(st.integers(1, 3))):
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        assert reason(decode, bytes(body)) in {None, "control"}

    @pytest.mark.parametrize("size", [0, 7, 9, 16])
    def test_a_watermark_has_eight_bytes(self, size):
        refused(control.decode_timestamp, bytes(size))

    @pytest.mark.parametrize("body", [b"", bytes(7), b"\xff" * 8, b"\0\0\0\x80\0\0\0\0"])
    def test_vnode(self, body):
        with pytest.raises(ProtocolError) as caught:
            control.decode_vnode(body)
        assert caught.value.reason == "arrow"


class TestTheCallersMistakes:
    """They are told to the caller, and nothing is sent that the peer would refuse."""

    @pytest.mark.parametrize("value", [-1, 2**64, 1.5])
    @pytest.mark.parametrize("field", ["checkpoint_id", "epoch"])
    def test_barrier_numbers(self, field, value):
        barrier = CheckpointBarrier(**{"checkpoint_id": 1, "epoch": 1, field: value})
        with pytest.raises(ConfigError, match=field):
            control.encode_barrier(barrier, 0)

    def test_barrier_flags(self):
        with pytest.raises(ConfigError, match="flags"):
            control.encode_barrier(CheckpointBarrier(1, 1, BarrierFlags(8)), 0)

    @pytest.mark.parametrize("value", [-(2**63) - 1, 2**63, 1.5])
    def test_watermark(self, value):
        with pytest.raises(ConfigError, match="64-bit"):
            control.encode_watermark(value, 0, 1)

    @pytest.mark.parametrize("value", [-1, VNODE_MAX + 1, 1.5])
    def test_vnode(self, value):
        with pytest.raises(ConfigError, match="vnode"):
            control.encode_vnode(value)


class TestSizes:
    """The largest message that the limits allow fits the frame that carries it."""

    LONGEST = "\N{GRINNING FACE}" * CHANNEL_NAME_BYTES_MAX

    def test_hello(self):
        keys = (bytes(KEY_ID_BYTES),) * KEYS_MAX
        hello = Hello(self.LONGEST, "n" * NODE_ID_LENGTH_MAX, U64_MAX, U64_MAX, bytes(32), keys)
        assert len(control.encode_hello(hello)) <= GREETING_BODY_BYTES_MAX

    def test_close(self):
        close = Close("\N{GRINNING FACE}" * CLOSE_REASON_LENGTH_MAX)
        assert len(control.encode_close(close)) <= GREETING_BODY_BYTES_MAX

    def test_welcome_with_every_channel(self):
        count = ShuffleConfig().channels_max
        names = [f"{n:04}" + "x" * (CHANNEL_NAME_BYTES_MAX - 4) for n in range(count)]
        channels = dict.fromkeys(names, (U64_MAX, U64_MAX))
        welcome = Welcome("n" * NODE_ID_LENGTH_MAX, U64_MAX, 1, 1, False, channels)
        assert len(control.encode_welcome(welcome)) <= CONTROL_BODY_BYTES_MAX
