from dataclasses import replace

import anyio
import pytest

from laminar import Data, PeerState, ShuffleReceiver, ShuffleSender, Watermark
from laminar.errors import PeerLostError
from tests.wiring import QUICK, Proxy, eventually, limited, numbered, rows_of

WATCHFUL = replace(QUICK, keepalive_interval_s=0.02, keepalive_timeout_s=0.2)


@limited
async def test_both_sides_notice_a_cut_cable_and_go_on_over_the_next():
    async with (
        ShuffleReceiver.bind("b", config=WATCHFUL) as receiver,
        Proxy(receiver.local_addr).running() as proxy,
        ShuffleSender("a", config=WATCHFUL) as sender,
    ):
        sender.register_peer("b", proxy.addr)
        await sender.send_to("b", Data(numbered(0, 10)))
        await sender.flush()
        proxy.swallowing = True
        await sender.send_to("b", Data(numbered(10, 10)))
        async with sender.watch_peers() as near, receiver.watch_peers() as far:
            for events in (near, far):
                event = await anext(events)
                while event.state is not PeerState.DISCONNECTED:
                    event = await anext(events)
                assert event.reason == "nothing was heard for 0.2 s"
        proxy.swallowing = False
        await sender.flush()
        rows = [row for _ in range(2) for row in rows_of((await receiver.recv())[1].batch)]
        assert rows == list(range(20))
        assert receiver.statistics().drops["silent"] >= 1
        assert sender.statistics().peers["b"].connections >= 2


@limited
async def test_idle_connections_stay():
    """They are silent but for the pings, whose answers are signs of life."""
    config = replace(QUICK, keepalive_interval_s=0.01, keepalive_timeout_s=2)
    async with (
        ShuffleReceiver.bind("b", config=config) as receiver,
        Proxy(receiver.local_addr).running() as proxy,
        ShuffleSender("a", config=config) as sender,
    ):
        sender.register_peer("b", proxy.addr)
        await sender.send_to("b", Watermark(1))
        await sender.flush()
        quiet = proxy.forwarded
        await eventually(lambda: proxy.forwarded > quiet + 20 * 16)
        assert sender.statistics().peers["b"].connections == 1
        await sender.flush()  # no sign of life passes for the answer to a flush


@limited
async def test_each_side_knows_when_it_last_heard_the_other():
    config = replace(QUICK, keepalive_interval_s=60, keepalive_timeout_s=60)
    async with (
        ShuffleReceiver.bind("b", config=config) as receiver,
        Proxy(receiver.local_addr).running() as proxy,
        ShuffleSender("a", config=config) as sender,
    ):
        assert sender.heard() == {} == receiver.heard()
        sender.register_peer("b", proxy.addr)
        await sender.send_to("b", Watermark(1))
        await sender.flush()
        first = sender.heard(), receiver.heard()
        assert [set(heard) for heard in first] == [{"b"}, {"a"}]
        assert (sender.heard(), receiver.heard()) == first  # nothing came since
        before = anyio.current_time()
        await sender.send_to("b", Watermark(2))
        await sender.flush()
        assert sender.heard()["b"] >= before
        assert receiver.heard()["a"] >= before
        assert 0 <= sender.statistics().peers["b"].silent_s <= anyio.current_time() - before
        assert 0 <= receiver.statistics().peers["a"].silent_s <= anyio.current_time() - before
        proxy.open = False
        proxy.cut()
        await eventually(lambda: not sender.heard() and not receiver.heard())
        assert sender.statistics().peers["b"].silent_s is None
        assert receiver.statistics().peers["a"].silent_s is None
        assert sender.statistics().peers["b"].trouble
        proxy.open = True
        await sender.flush()
        await eventually(lambda: sender.heard() and receiver.heard())


@limited
async def test_a_peer_with_a_full_window_is_not_a_silent_one():
    config = replace(WATCHFUL, window_bytes=1000)
    async with (
        ShuffleReceiver.bind("b", config=config) as receiver,
        Proxy(receiver.local_addr).running() as proxy,
        ShuffleSender("a", config=config) as sender,
    ):
        sender.register_peer("b", proxy.addr)
        await sender.send_to("b", Data(numbered(0, 10)))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sender.send_to, "b", Data(numbered(10, 200)))
            await eventually(lambda: proxy.forwarded)
            quiet = proxy.forwarded
            await eventually(lambda: proxy.forwarded > quiet + 30 * 16)
            assert sender.is_alive("b")
            while (await receiver.recv())[1].batch.num_rows != 200:
                pass


@limited
async def test_a_host_that_is_gone_for_good_is_lost_once_on_either_side():
    config = replace(WATCHFUL, reconnect_timeout_s=0.3, dial_timeout_s=0.1)
    async with (
        ShuffleReceiver.bind("b", config=config) as receiver,
        Proxy(receiver.local_addr).running() as proxy,
    ):
        with pytest.raises(PeerLostError):  # noqa: PT012 - by leaving the sender's block
            async with ShuffleSender("a", config=config) as sender:
                sender.register_peer("b", proxy.addr)
                await sender.send_to("b", Data(numbered(0, 10)))
                await sender.flush()
                await receiver.recv()
                proxy.swallowing = True
                await sender.send_to("b", Data(numbered(10, 10)))
                event = await sender.wait_dead("b")
                assert (event.state, event.deaths) == (PeerState.LOST, 1)
        event = await receiver.wait_dead("a")
        assert (event.state, event.deaths) == (PeerState.LOST, 1)
        with pytest.raises(PeerLostError, match="nothing was heard") as told:
            await receiver.recv()
        assert told.value.peer == "a"
        assert receiver.drain_available() == []
