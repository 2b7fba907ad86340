"""A schema that changes in mid-stream is announced in order, once, or refused."""

# ruff: noqa: SIM117 - blocks nest here

from dataclasses import replace

import anyio
import pyarrow as pa
import pytest

from laminar.errors import PeerLostError, SchemaError
from laminar.model import CheckpointBarrier, CheckpointId
from laminar.shuffle.exchange import Exchange
from laminar.shuffle.messages import Barrier, Close, Data, End, SchemaChanged, Watermark
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.schema_watch import KnownSchema, SchemaWatch
from laminar.shuffle.sender import ShuffleSender
from laminar.shuffle.spread import (
    BroadcastPartitioner,
    RoundRobinPartitioner,
    SinglePartitioner,
)
from tests.wiring import QUICK, Proxy, Raw, eventually, limited, numbered

PLAIN = numbered(0, 3)
NOTED = PLAIN.replace_schema_metadata({"made": "here"})
WIDER = numbered(0, 3, 5)
REFUSE = replace(QUICK, schema_change="refuse")


def of(kind):
    return pa.schema([pa.field("x", kind)])


def with_note(note):
    return pa.field("a", pa.int8(), metadata={"note": note})


class TestWatch:
    def test_the_first_schema_is_no_change(self):
        watch = SchemaWatch("c", "refuse")
        assert not watch.changed(PLAIN.schema)
        assert not watch.changed(PLAIN.schema)

    def test_a_check_alone_changes_nothing(self):
        watch = SchemaWatch("c", "announce")
        watch.note(PLAIN.schema)
        assert watch.check(NOTED.schema)
        assert watch.check(NOTED.schema)
        watch.note(NOTED.schema)
        assert watch.check(PLAIN.schema)

    def test_a_refusal_names_both_schemas_and_the_channel(self):
        watch = SchemaWatch("orders", "refuse")
        watch.note(PLAIN.schema)
        with pytest.raises(SchemaError, match=r"(?s)'orders'.*row: int64.*ballast: binary"):
            watch.changed(WIDER.schema)
        assert not watch.changed(PLAIN.schema)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (PLAIN.schema, NOTED.schema),
        (of(pa.list_(with_note("1"))), of(pa.list_(with_note("2")))),
        (of(pa.map_(pa.string(), pa.int8())), of(pa.map_(pa.string(), pa.int8(), True))),
        # These two schema.equals() takes for equal.
        (of(pa.list_(pa.uuid(), 2)), of(pa.list_(pa.uuid(), 3))),
        (
            of(pa.dictionary(pa.int8(), pa.struct([with_note("1")]))),
            of(pa.dictionary(pa.int8(), pa.struct([with_note("2")]))),
        ),
        (
            of(pa.struct([("y", pa.list_(pa.list_(pa.uuid(), 2)))])),
            of(pa.struct([("y", pa.list_(pa.list_(pa.uuid(), 3)))])),
        ),
    ],
)
def test_schemas_are_told_apart(one, other):
    assert KnownSchema(one).matches(pa.schema(list(one), one.metadata))
    assert not KnownSchema(one).matches(other)
    assert not KnownSchema(other).matches(one)


async def received(receiver, count):
    return [(await receiver.recv())[1] for _ in range(count)]


@limited
async def test_a_change_is_told_before_the_first_batch_of_the_new_schema():
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        async with ShuffleSender("a", config=QUICK) as sender:
            sender.register_peer("b", receiver.local_addr)
            for batch in (PLAIN, PLAIN, NOTED, NOTED, PLAIN, WIDER):
                await sender.send_to("b", Data(batch))
            await sender.send_to("b", Data(NOTED, "other"))
            await sender.send_to("b", Watermark(1))
        default, other = [], []
        async for _, message in receiver:
            if isinstance(message, Close):
                break
            (other if message.channel == "other" else default).append(message)
        assert other == [Data(NOTED, "other")]
        assert [m for m in default if not isinstance(m, Data)] == [
            SchemaChanged(NOTED.schema),
            SchemaChanged(PLAIN.schema),
            SchemaChanged(WIDER.schema),
            Watermark(1),
        ]
        schema = PLAIN.schema
        for message in default:
            if isinstance(message, SchemaChanged):
                schema = message.schema
            elif isinstance(message, Data):
                assert message.batch.schema.equals(schema, check_metadata=True)


@limited
async def test_those_who_drain_get_it_in_order_too():
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        async with ShuffleSender("a", config=QUICK) as sender:
            sender.register_peer("b", receiver.local_addr)
            for batch in (PLAIN, NOTED):
                await sender.send_to("b", Data(batch))
            await sender.flush()
        assert [message for _, message in receiver.drain_available()][:3] == [
            Data(PLAIN),
            SchemaChanged(NOTED.schema),
            Data(NOTED),
        ]


@limited
async def test_it_is_not_told_again_after_a_reconnect():
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        proxy = Proxy(receiver.local_addr)
        async with proxy.running(), ShuffleSender("a", config=QUICK) as sender:
            sender.register_peer("b", proxy.addr)
            for batch in (PLAIN, NOTED):
                await sender.send_to("b", Data(batch))
            await sender.flush()
            proxy.cut()
            await sender.send_to("b", Data(NOTED))
            await sender.flush()
            assert proxy.connections >= 2
        kinds = [type(message) for message in await received(receiver, 4)]
        assert kinds == [Data, SchemaChanged, Data, Data]


@limited
async def test_a_channel_begun_anew_has_a_first_schema_again():
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        for batch in (PLAIN, NOTED):
            async with ShuffleSender("a", config=QUICK) as sender:
                sender.register_peer("b", receiver.local_addr)
                await sender.send_to("b", Data(batch))
                await sender.send_to("b", End())
            assert await received(receiver, 2) == [Data(batch), End()]


@limited
async def test_the_sender_that_may_not_change_is_told_and_nothing_is_queued():
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        async with ShuffleSender("a", config=REFUSE) as sender:
            sender.register_peer("b", receiver.local_addr)
            await sender.send_to("b", Data(PLAIN))
            for batch in (NOTED, WIDER, WIDER.slice(0, 0), pa.Table.from_batches([WIDER])):
                with pytest.raises(SchemaError, match=r"(?s)row: int64.*and this one has"):
                    await sender.send_to("b", Data(batch))
                with pytest.raises(SchemaError):
                    sender.try_send("b", Data(batch))
            await sender.send_to("b", Data(WIDER, "other"))
            await sender.send_to("b", Data(PLAIN))
        rows = {}
        async for _, message in receiver:
            if isinstance(message, Close):
                break
            assert isinstance(message, Data)
            found = rows.setdefault((message.channel, message.batch.num_columns), 0)
            rows[message.channel, message.batch.num_columns] = found + message.batch.num_rows
        assert rows == {("default", 1): 6, ("other", 2): 3}


@limited
async def test_a_change_is_refused_at_once_also_while_the_window_is_full():
    config = replace(REFUSE, window_bytes=1024, target_frame_bytes=1024, coalesce_bytes=1)
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        async with ShuffleSender("a", config=config) as sender:
            sender.register_peer("b", receiver.local_addr)
            await sender.send_to("b", Data(numbered(0, 100)))
            with pytest.raises(SchemaError):
                await sender.send_to("b", Data(WIDER))


@limited
async def test_a_receiver_that_refuses_cuts_the_peer_off_and_counts_it():
    async with ShuffleReceiver.bind("b", config=REFUSE) as receiver:
        raw = await Raw.greeted(receiver.local_addr, "a")
        await raw.send(raw.data(PLAIN), raw.data(PLAIN), raw.data(NOTED))
        assert await received(receiver, 2) == [Data(PLAIN)] * 2
        with pytest.raises(PeerLostError, match="schema_change is 'refuse'"):
            await receiver.recv()
        assert receiver.statistics().drops == {"schema": 1}
        await raw.cut_off()


class TestExchange:
    @limited
    async def test_tells_of_changes_on_the_way_to_the_own_node_too(self):
        async with ShuffleReceiver.bind("a", config=QUICK) as receiver:
            async with ShuffleSender("a", config=QUICK) as sender:
                exchange = Exchange(
                    "x",
                    sender=sender,
                    receiver=receiver,
                    partitioner=RoundRobinPartitioner(["a"]),
                )
                for batch in (PLAIN, NOTED, NOTED):
                    await exchange.send(batch)
                await exchange.end()
                assert [message async for _, message in exchange] == [
                    Data(PLAIN, "x"),
                    SchemaChanged(NOTED.schema, "x"),
                    Data(NOTED, "x"),
                    Data(NOTED, "x"),
                    End("x"),
                ]

    @pytest.mark.parametrize("partitioner", [RoundRobinPartitioner, BroadcastPartitioner])
    @limited
    async def test_refuses_for_all_nodes_or_none(self, partitioner):
        async with ShuffleReceiver.bind("b", config=QUICK) as other:
            async with ShuffleReceiver.bind("a", config=QUICK) as receiver:
                async with ShuffleSender("a", config=REFUSE) as sender:
                    sender.register_peer("b", other.local_addr)
                    exchange = Exchange(
                        "x",
                        sender=sender,
                        receiver=receiver,
                        partitioner=partitioner(["a", "b"]),
                        inputs=["a"],
                    )
                    await exchange.send(PLAIN.slice(0, 1))  # perhaps only to one of them
                    with pytest.raises(SchemaError):
                        await exchange.send(WIDER)
                    await exchange.send(PLAIN)
                    await exchange.end()
                    kinds = [type(message) async for _, message in exchange]
                assert set(kinds) == {Data, End}
            with anyio.fail_after(5):
                await eventually(lambda: other.statistics().peers == {})
            assert all(
                message.batch.schema == PLAIN.schema
                for _, message in other.drain_available()
                if isinstance(message, Data)
            )

    @limited
    async def test_tells_of_a_change_behind_a_barrier_behind_it(self):
        """What is held back while others lag is news too, also from another node."""
        barrier = CheckpointBarrier(CheckpointId(7))
        async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
            async with (
                ShuffleSender("a", config=QUICK) as a,
                ShuffleSender("b", config=QUICK) as b,
            ):
                a.register_peer("b", receiver.local_addr)
                exchange = Exchange(
                    "x",
                    sender=b,
                    receiver=receiver,
                    partitioner=SinglePartitioner("b"),
                    inputs=["a", "b"],
                )
                for message in (Data(PLAIN), Barrier(barrier), Data(NOTED), End()):
                    await a.send_to("b", replace(message, channel="x"))
                await a.flush()  # its barrier is here before the own one
                await exchange.barrier(barrier)
                await exchange.end()
                events = [event async for event in exchange]
        assert [event for event in events if event[0] != "b"] == [
            ("a", Data(PLAIN, "x")),
            (None, Barrier(barrier, "x")),
            ("a", SchemaChanged(NOTED.schema, "x")),
            ("a", Data(NOTED, "x")),
            ("a", End("x")),
        ]
