"""Each fault does what it says, and is counted when it bites and only then."""

import random
from contextlib import asynccontextmanager, closing

import anyio
import pytest

from laminar.errors import ConfigError, StreamBrokenError, StreamClosedError
from laminar.net.stream import receive_exactly
from laminar.testing.faults import CHANCES, FAULTS, Faults
from laminar.testing.network import SimulatedNetwork
from laminar.testing.simulation import simulate


def simulated(**faults):
    """Run an asynchronous test on a network of the hosts a and b, in virtual time."""

    def decorate(test):
        def run():
            async def scenario(simulation):
                network = simulation.network
                async with connected(network) as (near, far):
                    await test(network, near, far)

            simulate(1, scenario, faults=Faults(**faults))

        run.__name__ = test.__name__
        run.__doc__ = test.__doc__
        return run

    return decorate


@asynccontextmanager
async def connected(network):
    with closing(await network.host("b").listen("b:0")) as listener:
        near = await network.host("a").connect(listener.local_addr)
        far = await listener.accept()
    with closing(near), closing(far):
        yield near, far


async def nothing_comes(stream, seconds):
    with anyio.move_on_after(seconds) as scope:
        await stream.receive_into(memoryview(bytearray(1)))
    return scope.cancelled_caught


@simulated(delay_s=2.0)
async def test_bytes_take_their_time(network, near, far):
    started = anyio.current_time()
    assert started == 4.0  # there and back, to connect
    await near.send_vectored([b"x"])
    assert anyio.current_time() == started
    assert not network.fired
    assert await receive_exactly(far, 1) == b"x"
    assert anyio.current_time() == started + 2.0
    assert network.fired == {"delay": 1}


@simulated(delay_s=0.0, jitter_s=1.0, segment_bytes=1)
async def test_jitter_does_not_change_the_order(network, near, far):
    await near.send_vectored([bytes(range(100))])
    assert await receive_exactly(far, 100) == bytes(range(100))


@simulated(delay_s=0.0, buffer_bytes=10)
async def test_a_connection_holds_so_much_and_no_more(network, near, far):
    await near.send_vectored([bytes(10)])
    assert not network.fired
    with anyio.move_on_after(100) as scope:
        await near.send_vectored([b"x"])
    assert scope.cancelled_caught
    assert network.fired["full_buffer"] == 1
    await receive_exactly(far, 1)
    await near.send_vectored([b"x"])


@simulated(delay_s=0.0, byte_by_byte=1.0, byte_by_byte_bytes=3)
async def test_byte_by_byte(network, near, far):
    await near.send_vectored([b"abcdef"])
    buffer = memoryview(bytearray(10))
    counts = [await far.receive_into(buffer) for _ in range(4)]
    assert counts == [1, 1, 1, 3]
    assert network.fired == {"byte_by_byte": 3}


@simulated(delay_s=0.0, slow_reader=1.0, slow_bytes_per_s=10.0, segment_bytes=10)
async def test_a_slow_reader(network, near, far):
    slow, fast = (near, far) if near.outgoing.bytes_per_s == 10.0 else (far, near)
    await slow.send_vectored([bytes(50)])
    await receive_exactly(fast, 50)
    assert anyio.current_time() == pytest.approx(5.0)
    assert network.fired["slow_reader"]


@simulated(reset=1.0, reset_bytes_max=1, delay_s=1.0)
async def test_a_reset_breaks_both_ends_and_loses_what_is_under_way(network, near, far):
    assert not network.fired
    await near.send_vectored([b"x"])
    assert network.fired == {"reset": 1}
    for end in (near, far):
        with pytest.raises(StreamBrokenError):
            await end.receive_into(memoryview(bytearray(1)))
        with pytest.raises(StreamBrokenError):
            await end.send_vectored([b"x"])


@simulated(reset=1.0, one_sided=1.0, reset_bytes_max=1, delay_s=1.0)
async def test_a_reset_that_one_end_hears_of(network, near, far):
    await near.send_vectored([b"x"])
    assert network.fired == {"one_sided_reset": 1}
    with pytest.raises(StreamBrokenError):
        await near.send_vectored([b"y"])
    near.close()
    assert await receive_exactly(far, 1) == b"x"
    assert await far.receive_into(memoryview(bytearray(1))) == 0


@simulated(half_open=1.0, half_open_bytes_max=1)
async def test_a_half_open_connection_swallows_one_direction_without_a_word(network, near, far):
    dead, live = (near, far) if near.outgoing.dead_after == 1 else (far, near)
    await dead.send_vectored([b"xyz"])
    await live.send_vectored([b"abc"])
    assert await receive_exactly(dead, 3) == b"abc"
    assert await receive_exactly(live, 1) == b"x"
    assert await nothing_comes(live, 1000)
    assert network.fired["half_open"] == 1
    dead.close()  # and nobody hears of it
    assert await nothing_comes(live, 1000)


@pytest.mark.parametrize("one_way", [False, True])
def test_a_partition_delays_and_loses_nothing(one_way):
    name = "one_way_partition" if one_way else "partition"

    @simulated()
    async def run(network, near, far):
        network.cut("a", "b", one_way=one_way)
        await anyio.sleep(1)
        assert not network.fired  # nothing was under way
        await near.send_vectored([b"there"])
        await far.send_vectored([b"back"])
        assert await nothing_comes(far, 1000)
        assert await nothing_comes(near, 1000) is not one_way
        assert network.fired[name] == (1 if one_way else 2)
        network.heal("a", "b")
        assert await receive_exactly(far, 5) == b"there"
        assert await receive_exactly(near, 3 if one_way else 4) == (b"ack" if one_way else b"back")

    run()


@simulated()
async def test_a_dial_waits_for_the_partition_to_end(network, near, far):
    listener = await network.host("b").listen("b:0")
    network.cut("b", "a", one_way=True)
    with anyio.move_on_after(10) as scope:
        await network.host("a").connect(listener.local_addr)
    assert scope.cancelled_caught
    assert network.fired == {"one_way_partition": 1}
    network.heal("a", "b")
    await network.host("a").connect(listener.local_addr)
    listener.close()


@simulated()
async def test_a_paused_host_does_nothing(network, near, far):
    network.host("b").pause()
    await near.send_vectored([b"x"])
    assert await nothing_comes(far, 1000)
    assert network.fired["pause"] == 1
    with anyio.move_on_after(1000) as scope:
        await far.send_vectored([b"y"])
    assert scope.cancelled_caught
    network.host("b").resume()
    assert await receive_exactly(far, 1) == b"x"


@simulated()
async def test_refused_and_unanswered_dials(network, near, far):
    a = network.host("a")
    with closing(await network.host("b").listen("b:0")) as listener:
        addr = listener.local_addr
        network.faults = Faults(refused=1.0)
        with pytest.raises(StreamBrokenError, match="refused"):
            await a.connect(addr)
        network.faults = Faults(unanswered=1.0)
        with anyio.move_on_after(1000) as scope:
            await a.connect(addr)
        assert scope.cancelled_caught
        assert network.fired == {"refused": 1, "unanswered": 1}
        network.faults = Faults()
        network.refuse("a", "b")
        with pytest.raises(StreamBrokenError, match="refused"):
            await a.connect(addr)
        network.calm()
        (await a.connect(addr)).close()
    network.fired.clear()
    with pytest.raises(StreamBrokenError, match="refused"):
        await a.connect(addr)
    assert not network.fired  # nobody listens there: that is no fault of the network


@simulated()
async def test_a_crash_closes_everything_of_a_host(network, near, far):
    listener = await network.host("b").listen("b:0")
    network.host("b").crash()
    assert network.fired == {"crash": 1}
    with pytest.raises(StreamClosedError):
        await listener.accept()
    with pytest.raises(StreamClosedError):
        await far.send_vectored([b"x"])
    with pytest.raises(StreamBrokenError):
        await receive_exactly(near, 1)


@simulated()
async def test_connections_can_be_broken_by_hand(network, near, far):
    network.reset_connections("b", "a")
    with pytest.raises(StreamBrokenError):
        await receive_exactly(far, 1)


@simulated()
async def test_watchers_see_every_event(network, near, far):
    seen = []
    network.watch(lambda: seen.append(True))
    await near.send_vectored([b"x"])
    await receive_exactly(far, 1)
    near.close()
    assert len(seen) == 3


def test_every_fault_is_explained():
    assert all(FAULTS.values())


@pytest.mark.parametrize("name", CHANCES)
def test_a_chance_is_from_0_to_1(name):
    Faults(**{name: 1.0})
    with pytest.raises(ConfigError, match=name):
        Faults(**{name: 1.1})


@pytest.mark.parametrize(
    ("name", "value"), [("delay_s", -1.0), ("buffer_bytes", 0), ("slow_bytes_per_s", 0.0)]
)
def test_what_cannot_be_is_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        Faults(**{name: value})


def test_a_host_has_a_name_that_fits_an_address():
    with pytest.raises(ConfigError):
        SimulatedNetwork(random.Random(1)).host("a:b")
