"""Compressed bodies are measured before anything is allocated for them."""

import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.errors import BatchTooLargeError, ProtocolError
from laminar.shuffle.arrow import BatchDecoder, BatchEncoder
from laminar.shuffle.inflation import inflated_bytes

MIB = 1 << 20
ZEROS = pa.RecordBatch.from_arrays([pa.array(np.zeros(MIB, np.int8))], ["x"])
CODECS = ["lz4", "zstd"]


def body_of(batch, compression, limit=64 * MIB):
    _, buffers, _ = BatchEncoder(limit, compression).encode(batch)
    return b"".join(map(bytes, buffers))


def words(count):
    """A dictionary that is large until it is compressed."""
    values = pa.array([f"{number:0200}" for number in range(count)])
    return pa.RecordBatch.from_arrays(
        [pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), values)], ["x"]
    )


@pytest.mark.parametrize("compression", CODECS)
def test_the_full_lengths_are_summed_up(compression):
    two = pa.RecordBatch.from_arrays([ZEROS.column(0), ZEROS.column(0)], ["x", "y"])
    assert len(body_of(two, compression)) < MIB / 10
    assert inflated_bytes(body_of(two, compression)) == 2 * MIB


@pytest.mark.parametrize("compression", CODECS)
def test_dictionaries_count(compression):
    assert inflated_bytes(body_of(words(1000), compression)) > 200_000


def test_what_is_not_compressed_does_not_inflate():
    assert inflated_bytes(body_of(ZEROS, None)) == 0
    assert inflated_bytes(body_of(words(10), None)) == 0


def test_a_buffer_stored_as_it_is_does_not_inflate():
    noise = np.random.default_rng(1).integers(0, 256, MIB, np.uint8)
    batch = pa.RecordBatch.from_arrays([pa.array(noise)], ["x"])
    assert inflated_bytes(body_of(batch, "lz4")) in (0, MIB)


def test_the_body_begins_where_told():
    assert inflated_bytes(bytes(8) + body_of(ZEROS, "zstd"), 8) == MIB


@pytest.mark.parametrize("compression", CODECS)
def test_a_bomb_is_refused_before_it_goes_off(compression):
    body = body_of(ZEROS, compression)
    before = pa.total_allocated_bytes()
    with pytest.raises(ProtocolError, match=r"inflates to 1,048,576, more than .* 1,048,575"):
        BatchDecoder(MIB - 1, validate_full=True).decode(body, 0, starts_stream=True)
    assert pa.total_allocated_bytes() == before
    assert BatchDecoder(MIB, validate_full=True).decode(body, 0, starts_stream=True).num_rows == MIB


@pytest.mark.parametrize("compression", CODECS)
def test_the_sender_refuses_what_the_receiver_would(compression):
    batch = words(10_000)
    assert len(body_of(batch, compression)) < MIB
    with pytest.raises(BatchTooLargeError, match="smaller dictionaries"):
        body_of(batch, compression, MIB)


def forge(length):
    """A body whose one buffer claims to have that length."""
    body = body_of(ZEROS, "lz4")
    at = body.rindex(struct.pack("<q", MIB))
    return body[:at] + struct.pack("<q", length) + body[at + 8 :]


@pytest.mark.parametrize("forged", [-2, -(2**63)])
def test_a_negative_length_is_refused(forged):
    with pytest.raises(ProtocolError, match=f"a compressed buffer of {forged} bytes"):
        inflated_bytes(forge(forged))


def test_a_forged_length_counts():
    with pytest.raises(ProtocolError, match="inflates to"):
        BatchDecoder(MIB, validate_full=True).decode(forge(2**40), 0, starts_stream=True)


def test_metadata_of_a_single_batch_is_refused():
    """It could say, as Arrow 0.17 did, that the batch is compressed."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ZEROS.schema) as writer:
        writer.write_batch(ZEROS, custom_metadata={"ARROW:experimental_compression": "zstd"})
    with pytest.raises(ProtocolError, match="metadata of its own"):
        inflated_bytes(sink.getvalue())


BODY = body_of(pa.RecordBatch.from_pydict({"a": [1, 2], "b": ["x", None]}), "lz4")


@given(cut=st.integers(0, len(BODY)))
def test_a_cut_body_is_refused_or_ends_between_messages(cut):
    try:
        assert inflated_bytes(BODY[:cut]) <= inflated_bytes(BODY)
    except ProtocolError as error:
        assert error.reason == "arrow"  # noqa: PT017 - both outcomes are right


@given(
    at=st.integers(0, len(BODY) - 8),
    value=st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([2**31 - 1, 2**32 - 1, 2**63])),
)
def test_damage_is_refused_or_read(at, value):
    damaged = BODY[:at] + struct.pack("<Q", value) + BODY[at + 8 :]
    try:
        assert inflated_bytes(damaged) >= 0
    except ProtocolError as error:
        assert error.reason == "arrow"  # noqa: PT017 - both outcomes are right
