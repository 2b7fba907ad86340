"""Datagrams over real sockets."""

import anyio
import pytest

from laminar.errors import ConfigError, StreamBrokenError, StreamClosedError
from laminar.net.udp import UdpNetwork
from tests.wiring import limited


@pytest.fixture
async def pair():
    network = UdpNetwork()
    one, other = await network.bind("127.0.0.1:0"), await network.bind("127.0.0.1:0")
    yield one, other
    one.close()
    other.close()


@limited
async def test_a_datagram_arrives_whole_with_its_source(pair):
    one, other = pair
    await one.send_to(other.local_addr, b"hello")
    assert await other.receive() == (one.local_addr, b"hello")
    await other.send_to(one.local_addr, b"")
    assert await one.receive() == (other.local_addr, b"")


@limited
async def test_many_in_a_row_let_others_run(pair):
    one, other = pair
    received = []

    async def receive():
        while len(received) < 100:
            received.append(await other.receive())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive)
        for number in range(100):
            await one.send_to(other.local_addr, b"%d" % number)
    assert [int(datagram) for _, datagram in received] == list(range(100))


@limited
async def test_closing_ends_a_receive(pair):
    one, _ = pair

    async def close():
        await anyio.wait_all_tasks_blocked()
        one.close()
        one.close()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(close)
        with pytest.raises(StreamClosedError):
            await one.receive()
    with pytest.raises(StreamClosedError):
        await one.send_to("127.0.0.1:1", b"x")


@limited
async def test_what_the_system_refuses_is_told_and_the_socket_goes_on(pair):
    one, other = pair
    with pytest.raises(StreamBrokenError, match="failed"):
        await one.send_to(other.local_addr, bytes(70_000))
    with pytest.raises(StreamBrokenError, match="IP version"):
        await one.send_to("[::1]:4000", b"x")
    await one.send_to(other.local_addr, b"hello")
    assert await other.receive() == (one.local_addr, b"hello")


@limited
async def test_ipv6_has_brackets():
    network = UdpNetwork()
    try:
        one, other = await network.bind("[::1]:0"), await network.bind("[::1]:0")
    except StreamBrokenError as error:
        pytest.skip(f"no IPv6 here: {error}")
    await one.send_to(other.local_addr, b"hello")
    source, datagram = await other.receive()
    assert (source, datagram) == (one.local_addr, b"hello")
    assert source.startswith("[::1]:")
    with pytest.raises(StreamBrokenError, match="IP version"):
        await one.send_to("127.0.0.1:4000", b"x")
    one.close()
    other.close()


@limited
@pytest.mark.parametrize("addr", ["localhost:4000", "nonsense", "1.2.3.4:x", ":1"])
async def test_a_name_is_never_looked_up_while_sending(pair, addr):
    with pytest.raises(StreamBrokenError, match="no numeric address"):
        await pair[0].send_to(addr, b"x")


@limited
async def test_names_are_resolved(pair):
    assert "127.0.0.1:4000" in await UdpNetwork().resolve("localhost:4000")
    with pytest.raises(StreamBrokenError, match="cannot resolve"):
        await UdpNetwork().resolve(f"{'x' * 70}.invalid:1")
    with pytest.raises(ConfigError):
        await UdpNetwork().resolve("no port")


@limited
async def test_an_address_in_use_is_an_error(pair):
    with pytest.raises(StreamBrokenError, match="cannot bind"):
        await UdpNetwork().bind(pair[0].local_addr)


@limited
async def test_where_datagrams_leave_from():
    assert await UdpNetwork().host_towards("127.0.0.1:9") == "127.0.0.1"
    with pytest.raises(StreamBrokenError, match=r"cannot resolve nobody\.invalid"):
        await UdpNetwork().host_towards("nobody.invalid:9")
