import anyio
import pytest

from laminar import (
    ClosedError,
    Data,
    PeerEvent,
    PeerRestartedError,
    PeerState,
    ShuffleReceiver,
    ShuffleSender,
)
from laminar.shuffle.liveness import PeerBoard
from tests.wiring import QUICK, Proxy, limited, numbered

UP, DOWN, LEFT = PeerState.CONNECTED, PeerState.DISCONNECTED, PeerState.LEFT
LOST, RESTARTED = PeerState.LOST, PeerState.RESTARTED


async def told(events, count):
    with anyio.fail_after(5):
        return [await anext(events) for _ in range(count)]


async def test_a_watch_begins_with_what_is_known():
    board = PeerBoard(dead_max=10)
    board.note("b", UP)
    board.note("c", DOWN, "cut")
    async with board.watch() as events:
        assert await told(events, 2) == [PeerEvent("b", UP, "", 0), PeerEvent("c", DOWN, "cut", 0)]


async def test_a_watcher_that_lags_hears_the_newest_and_how_many_deaths_it_missed():
    board = PeerBoard(dead_max=10)
    async with board.watch() as events:
        for _ in range(3):
            board.note("b", UP)
            board.note("b", LOST, "gone")
        board.note("c", UP)
        board.note("b", UP)
        assert await told(events, 2) == [PeerEvent("b", UP, "", 3), PeerEvent("c", UP, "", 0)]


async def test_every_watcher_hears_everything():
    board = PeerBoard(dead_max=10)
    async with board.watch() as first, board.watch() as second:
        board.note("b", UP)
        assert await told(first, 1) == await told(second, 1) == [PeerEvent("b", UP, "", 0)]


async def test_a_cancelled_watcher_misses_nothing():
    board = PeerBoard(dead_max=10)
    async with board.watch() as events:
        with anyio.move_on_after(0):
            await anext(events)
        board.note("b", UP)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(events)
        assert await told(events, 1) == [PeerEvent("b", UP, "", 0)]


async def test_a_watch_ends_with_its_block():
    board = PeerBoard(dead_max=10)
    async with board.watch() as events:
        pass
    with pytest.raises(ClosedError):
        await anext(events)


async def test_only_so_many_dead_are_remembered_and_no_living_one_forgotten():
    board = PeerBoard(dead_max=2)
    board.note("alive", UP)
    for number in range(5):
        board.note(f"dead{number}", LEFT)
    async with board.watch() as events:
        known = await told(events, 3)
    assert [event.peer for event in known] == ["alive", "dead3", "dead4"]


@pytest.mark.parametrize("state", [LEFT, LOST, RESTARTED])
async def test_who_waits_for_a_death_hears_of_one_that_happened_or_happens(state):
    board = PeerBoard(dead_max=10)
    board.note("b", state, "why")
    with anyio.fail_after(5):
        assert await board.wait_dead("b") == PeerEvent("b", state, "why", 1)
    board.note("b", UP)
    heard = []

    async def wait():
        heard.append(await board.wait_dead("b"))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            board.note("c", LOST)
            board.note("b", DOWN)
            await anyio.wait_all_tasks_blocked()
            assert heard == []  # the earlier death is not told again, nor another's
            board.note("b", state)
            board.note("b", UP)  # back before the waiter runs
    assert heard == [PeerEvent("b", UP, "", 2)]


@limited
async def test_a_receiver_tells_of_peers_that_come_break_return_and_leave():
    async with (
        ShuffleReceiver.bind("b", config=QUICK) as receiver,
        Proxy(receiver.local_addr).running() as proxy,
        receiver.watch_peers() as events,
    ):
        async with ShuffleSender("a", config=QUICK) as sender:
            sender.register_peer("b", proxy.addr)
            await sender.send_to("b", Data(numbered(0, 1)))
            assert await told(events, 1) == [PeerEvent("a", UP, "", 0)]
            assert receiver.is_alive("a")
            proxy.open = False
            proxy.cut()
            (event,) = await told(events, 1)
            assert (event.state, event.deaths) == (DOWN, 0)
            assert not receiver.is_alive("a")
            proxy.open = True
            await sender.send_to("b", Data(numbered(1, 1)))
            assert await told(events, 1) == [PeerEvent("a", UP, "", 0)]
        assert await told(events, 1) == [PeerEvent("a", LEFT, "the sender is done", 1)]
        assert (await receiver.wait_dead("a")).state is LEFT


@limited
async def test_a_sender_tells_of_a_peer_that_restarted():
    async with ShuffleSender("a", config=QUICK) as sender:
        async with (
            ShuffleReceiver.bind("b", config=QUICK) as receiver,
            Proxy(receiver.local_addr).running() as proxy,  # ends first: there is no goodbye
        ):
            sender.register_peer("b", proxy.addr)
            await sender.send_to("b", Data(numbered(0, 1)))
            await sender.flush()
        async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
            sender.register_peer("b", receiver.local_addr)
            with pytest.raises(PeerRestartedError):
                await sender.flush()
            event = await sender.wait_dead("b")
            assert (event.state, event.deaths) == (RESTARTED, 1)
