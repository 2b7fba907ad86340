"""The type matrix: every type that Arrow IPC carries, through real sockets.

What arrives has the schema and the values that went in, and what is on the wire is what the
rows refer to, not what the arrays they are slices of hold.
"""

# ruff: noqa: SIM117 - blocks nest here

from contextlib import AsyncExitStack, contextmanager

import anyio
import anyio.from_thread
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from laminar.errors import SchemaError
from laminar.shuffle.messages import Data, SchemaChanged
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.sender import ShuffleSender
from tests.conftest import BACKENDS
from tests.strategies import (
    EXTENSIONS,
    FLAT,
    SEEDS,
    TYPES,
    Labelled,
    array_of,
    arrays_in,
    batch_of,
    referenced_bytes,
    schemas,
    windows,
)
from tests.wiring import QUICK, TEST_LIMIT_S, limited

BATCH_BYTES = 256
ARRAY_BYTES = 64
"""What a batch and each array in it, at any depth, may take beyond 1.2 times its rows: the
description of the batch, and the padding of its buffers."""


class Lane:
    """A sender and a receiver, connected once for many batches."""

    def __init__(self, portal):
        self._portal = portal
        self._stack = AsyncExitStack()
        self.schema = None

    async def open(self):
        self.receiver = await self._stack.enter_async_context(
            ShuffleReceiver.bind("b", config=QUICK)
        )
        self.sender = await self._stack.enter_async_context(ShuffleSender("a", config=QUICK))
        self.sender.register_peer("b", self.receiver.local_addr)

    async def _cross(self, data):
        before = self._bytes()
        with anyio.fail_after(TEST_LIMIT_S):
            await self.sender.send_to("b", Data(data))
            _, message = await self.receiver.recv()
            changed = isinstance(message, SchemaChanged)
            if changed:
                assert same(message.schema, data.schema)
                _, message = await self.receiver.recv()
        assert changed == (self.schema is not None and not same(self.schema, data.schema))
        self.schema = data.schema
        return message.batch, self._bytes() - before

    def _bytes(self):
        peers = self.sender.statistics().peers
        return peers["b"].channels["default"].bytes if peers else 0

    def cross(self, data):
        """Send ``data``; the batch that arrives, and the bytes of its body."""
        return self._portal.call(self._cross, data)


@contextmanager
def lanes(backend):
    name, options = backend
    with anyio.from_thread.start_blocking_portal(name, options) as portal:
        lane = Lane(portal)

        async def run(*, task_status):
            done = anyio.Event()
            async with lane._stack:
                await lane.open()
                task_status.started(done.set)
                await done.wait()

        future, finish = portal.start_task(run)
        yield lane
        portal.call(finish)
        future.result()


@pytest.fixture(scope="module", params=BACKENDS.values(), ids=BACKENDS.keys())
def lane(request):
    with lanes(request.param) as lane:
        yield lane


def same(schema, other):
    """``equals`` alone overlooks a few things."""
    written, other_written = schema.serialize(), other.serialize()
    return schema.equals(other, check_metadata=True) and written.equals(other_written)


def check_same(out, batch):
    out.validate(full=True)
    assert same(out.schema, batch.schema)
    assert out.num_rows == batch.num_rows
    assert out.equals(batch)


def check_crossing(lane, batch):
    """The second time, the schema and dictionaries are there already."""
    check_same(lane.cross(batch)[0], batch)
    out, size = lane.cross(batch)
    check_same(out, batch)
    rows = sum(map(referenced_bytes, batch.columns))
    arrays = sum(arrays_in(field.type) for field in batch.schema)
    assert size <= 1.2 * rows + BATCH_BYTES + ARRAY_BYTES * arrays


COLUMN = st.builds(lambda kind: pa.schema([pa.field("x", kind)]), TYPES)


def matrix(schemas, examples):
    def decorate(test):
        quiet = settings(suppress_health_check=list(HealthCheck), max_examples=examples)
        return quiet(given(batch=windows(schemas))(test))

    return decorate


@matrix(COLUMN, settings.default.max_examples)
def test_any_type_crosses_whole_and_alone(lane, batch):
    check_crossing(lane, batch)


@matrix(schemas(), settings.default.max_examples // 2)
def test_any_schema_crosses_with_its_metadata(lane, batch):
    check_crossing(lane, batch)


@pytest.mark.parametrize("kind", [*FLAT, *EXTENSIONS], ids=str)
@settings(max_examples=5)
@given(rng=SEEDS)
def test_every_flat_type_crosses(lane, kind, rng):
    batch = batch_of(pa.schema([pa.field("x", kind)]), 300, rng)
    for start, rows in [(0, 300), (0, 0), (7, 9), (250, 50)]:
        check_crossing(lane, batch.slice(start, rows))


@example(rows=3)
@given(rows=st.integers(0, 2000))
@settings(max_examples=10)
def test_rows_without_columns_cross(lane, rows):
    check_crossing(lane, batch_of(pa.schema([], {"no": "columns"}), rows, None))


@given(kind=TYPES, rng=SEEDS)
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_chunked_columns_cross(lane, kind, rng):
    """Chunks of two columns that end at different rows."""
    chunks = [array_of(kind, length, rng) for length in (3, 0, 5)]
    numbers = [pa.array([1, 2]), pa.array([3, 4, 5, 6, 7, 8])]
    table = pa.table([pa.chunked_array(chunks, kind), pa.chunked_array(numbers)], ["x", "n"])
    for batch in table.to_batches():
        check_same(lane.cross(batch)[0], batch)


@given(values=st.lists(st.lists(st.text("abc", max_size=2), max_size=6), max_size=8))
@settings(max_examples=25)
def test_dictionaries_that_grow_and_change_cross(lane, values):
    """On their own, within lists, and as dictionaries of lists of dictionaries."""
    for words in values:
        plain = pa.array(words, pa.string()).dictionary_encode()
        listed = pa.ListArray.from_arrays(pa.array([0, len(words)], pa.int32()), plain)
        nested = pa.DictionaryArray.from_arrays(pa.array([0, 0, None], pa.int8()), listed)
        for array in (plain, listed, nested):
            batch = pa.RecordBatch.from_arrays([array], ["x"])
            check_same(lane.cross(batch)[0], batch)


class Unknown(pa.ExtensionType):
    """An extension type that the receiving side does not have."""

    def __init__(self):
        super().__init__(pa.int16(), "laminar.tests.unknown")

    def __arrow_ext_serialize__(self):
        return b"p"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage, serialized):
        return cls()


def test_an_extension_type_that_nobody_registered_crosses_as_its_storage(lane):
    """And says in its metadata what it is, so that it can be sent on and understood later."""
    storage = pa.array([1, None, 3], pa.int16())
    batch = pa.record_batch([pa.ExtensionArray.from_storage(Unknown(), storage)], ["x"])
    field = pa.field(
        "x",
        pa.int16(),
        metadata={"ARROW:extension:name": "laminar.tests.unknown", "ARROW:extension:metadata": "p"},
    )

    async def cross(channel):
        await lane.sender.send_to("b", Data(batch, channel))
        return (await lane.receiver.recv())[1].batch

    out = lane._portal.call(cross, "unknown")
    assert out.schema.equals(pa.schema([field]), check_metadata=True)
    assert out["x"].equals(storage)
    pa.register_extension_type(Unknown())
    try:
        assert lane._portal.call(cross, "known").schema.field("x").type == Unknown()
    finally:
        pa.unregister_extension_type("laminar.tests.unknown")


def test_the_bits_of_floats_arrive(lane):
    bits = np.array([0xFFF8DEADBEEF0001, 0x7FF8000000000000, 1 << 63], np.uint64)
    out, _ = lane.cross(pa.record_batch([pa.array(bits.view(np.float64))], ["x"]))
    assert np.array(out["x"]).view(np.uint64).tolist() == bits.tolist()


DICTIONARY = pa.dictionary(pa.int8(), pa.string())


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (pa.dictionary(pa.int8(), DICTIONARY), "no dictionary of dictionaries"),
        (pa.list_(pa.dictionary(pa.int8(), Labelled(pa.int8(), "x"))), "or extensions"),
        (Labelled(Labelled(pa.int8(), "x"), "y"), "an extension type within another"),
        (pa.map_(pa.field("k", pa.string(), False), pa.int8()), "'key' and 'value', not"),
        (pa.struct([("a", pa.map_(pa.int8(), pa.dictionary(pa.int8(), DICTIONARY)))]), "no dict"),
    ],
    ids=["dictionary", "dictionary of extension", "extension", "map", "nested"],
)
@limited
async def test_what_arrow_ipc_does_not_carry_is_refused_at_the_sender(kind, message):
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        async with ShuffleSender("a", config=QUICK) as sender:
            sender.register_peer("b", receiver.local_addr)
            numbers = pa.record_batch({"x": [1]})
            await sender.send_to("b", Data(numbers))
            rows = pa.record_batch([pa.array([], pa.int8())], ["x"])
            refused = pa.RecordBatch.from_arrays(
                [_none_of(kind)], schema=pa.schema([pa.field("x", kind)])
            )
            for send in (sender.send_to, _async(sender.try_send)):
                with pytest.raises(SchemaError, match=message):
                    await send("b", Data(refused))
            await sender.send_to("b", Data(rows))
            got = [(await receiver.recv())[1] for _ in range(3)]
            assert got[0].batch == numbers
            assert got[1] == SchemaChanged(rows.schema)
            assert got[2].batch == rows


def _async(function):
    async def call(*arguments):
        function(*arguments)

    return call


def _none_of(kind):
    from laminar.shuffle.gather import no_rows

    return no_rows(kind)
