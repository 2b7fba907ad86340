"""The contract of streams, put to every network there is."""

import random
import types
from contextlib import asynccontextmanager

import pytest
from anyio.lowlevel import checkpoint

from laminar.net.tcp import TcpNetwork
from laminar.testing.faults import Faults
from laminar.testing.network import SimulatedNetwork
from laminar.testing.stream import STREAM_CHECKS, check_stream, run_check


@asynccontextmanager
async def tcp():
    yield TcpNetwork()


@asynccontextmanager
async def simulated():
    faults = Faults(delay_s=0, buffer_bytes=2**20, segment_bytes=2**18)
    yield SimulatedNetwork(random.Random(1), faults).host("a")


@asynccontextmanager
async def simulated_badly():
    """Everything that a stream must bear without showing it."""
    faults = Faults(
        delay_s=0.0001,
        jitter_s=0.0002,
        buffer_bytes=100_000,
        segment_bytes=30_000,
        byte_by_byte=1.0,
        slow_reader=1.0,
        slow_bytes_per_s=1e9,
    )
    yield SimulatedNetwork(random.Random(2), faults).host("a")


@pytest.mark.parametrize("check", STREAM_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("network", [tcp, simulated, simulated_badly])
async def test_the_contract(network, check):
    await run_check(check, network)


def spoiled(method, replacement):
    """A network whose dialled and accepted streams have ``method`` replaced."""

    @asynccontextmanager
    async def network():
        host = SimulatedNetwork(random.Random(1), Faults(delay_s=0)).host("a")
        join = host.network._join

        def spoil(*ends):
            near = join(*ends)
            for stream in (near, near.peer):
                healthy = getattr(stream, method)
                setattr(stream, method, types.MethodType(replacement(healthy), stream))
            return near

        host.network._join = spoil
        yield host

    return network


def takes_before_it_can_be_cancelled(receive_into):
    async def receive(self, buffer):
        count = await receive_into(buffer)
        await checkpoint()
        return count

    return receive


def forgets_short_buffers(send_vectored):
    async def send(self, buffers):
        await send_vectored([buffer for buffer in buffers if len(buffer) != 3])

    return send


def leaves_who_waits(close):
    def close_without_waking(self):
        self.wake = lambda: None
        close()

    return close_without_waking


@pytest.mark.parametrize(
    ("network", "check"),
    [
        (
            spoiled("receive_into", takes_before_it_can_be_cancelled),
            "a_cancelled_receive_loses_nothing",
        ),
        (spoiled("send_vectored", forgets_short_buffers), "all_bytes_arrive_in_order"),
        (spoiled("close", leaves_who_waits), "closing_wakes_who_waits"),
    ],
)
async def test_a_broken_promise_is_named(network, check):
    with pytest.raises(AssertionError) as caught:
        await check_stream(network, timeout_seconds=2.0)
    assert check in str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
