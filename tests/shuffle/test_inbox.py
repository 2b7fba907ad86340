"""Where frames wait: order, claiming, errors behind what came before, credit when emptied."""

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.config import ShuffleConfig
from laminar.errors import ClosedError, PeerLostError, PeerRestartedError
from laminar.model import CheckpointBarrier
from laminar.shuffle import control
from laminar.shuffle.frames import HEADER, Frame, Kind
from laminar.shuffle.inbound import InboundSession
from laminar.shuffle.inbox import Inbox, label
from laminar.shuffle.local import LocalLane
from laminar.shuffle.messages import Barrier, Close, Hello, Watermark


class Supply:
    def __init__(self):
        self.woken = []
        self.errors = []

    def consumed(self, session):
        self.woken.append(session.peer)

    def broken(self, session, error, teller):
        self.errors.append((session.peer, error))
        return PeerLostError(f"peer {session.peer} was cut off: {error}")


class Peer:
    """A session whose frames go to one inbox."""

    def __init__(self, inbox, name="a", channels=("x", "y"), controls=100):
        config = ShuffleConfig(control_frames_max=controls)
        hello = Hello("laminar", name, 1, 1)
        self.session = InboundSession(hello, config, lambda channel: inbox)
        self.session.attach(hello, "me", 1)
        self.numbers = {channel: number for number, channel in enumerate(channels)}
        self.sent = dict.fromkeys(channels, 0)
        for channel, number in self.numbers.items():
            body = control.encode_channel_name(channel)
            self.session.on_frames([Frame(Kind.OPEN, 0, number, 0, body)])

    def send(self, channel, timestamp):
        self.frame(channel, Kind.WATERMARK, control.TIMESTAMP.pack(timestamp))

    def frame(self, channel, kind, body):
        self.sent[channel] += 1
        frame = Frame(kind, 0, self.numbers[channel], self.sent[channel], body)
        self.session.on_frames([frame])

    def credits(self):
        replies = [HEADER.unpack_from(reply) for reply in self.session.take()]
        return {number: sequence for _, _, _, number, sequence in replies}


@pytest.fixture
def supply():
    return Supply()


@pytest.fixture
def inbox(supply):
    return Inbox(supply)


def marks(envelopes):
    return [(peer, message.channel, message.timestamp) for peer, message in envelopes]


class TestDrain:
    def test_everything_in_order(self, inbox):
        a, b = Peer(inbox, "a"), Peer(inbox, "b")
        a.send("x", 1)
        b.send("x", 2)
        a.send("y", 3)
        a.send("x", 4)
        assert marks(inbox.drain_available()) == [
            ("a", "x", 1),
            ("b", "x", 2),
            ("a", "y", 3),
            ("a", "x", 4),
        ]
        assert inbox.drain_available() == []

    def test_keeps_barriers(self, inbox):
        a = Peer(inbox)
        a.send("x", 1)
        a.frame("x", Kind.BARRIER, control.encode_barrier(CheckpointBarrier(7), 1))
        a.send("x", 2)
        messages = [message for _, message in inbox.drain_available()]
        assert messages[1] == Barrier(CheckpointBarrier(7), "x")
        assert len(messages) == 3

    def test_an_error_waits_until_what_came_before_is_taken_and_is_told_once(self, inbox):
        a, b = Peer(inbox, "a"), Peer(inbox, "b")
        a.send("x", 1)
        inbox.put_error(["x"], "a", PeerLostError("a is gone"))
        b.send("x", 2)
        assert marks(inbox.drain_available()) == [("a", "x", 1)]
        with pytest.raises(PeerLostError, match="a is gone"):
            inbox.drain_available()
        assert marks(inbox.drain_available()) == [("b", "x", 2)]
        assert inbox.drain_available() == []

    def test_a_farewell_keeps_its_place(self, inbox):
        a = Peer(inbox)
        a.send("x", 1)
        inbox.put_close(["x"], "a", Close("done"))
        assert inbox.drain_available() == [("a", Watermark(1, "x")), ("a", Close("done"))]


class TestRecv:
    async def test_what_is_here(self, inbox):
        Peer(inbox).send("x", 1)
        assert await inbox.recv() == ("a", Watermark(1, "x"))

    async def test_waits(self, inbox):
        a = Peer(inbox)
        out = []

        async def consume():
            for _ in range(3):
                out.append(await inbox.recv())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            for number in range(3):
                await anyio.wait_all_tasks_blocked()
                assert len(out) == number
                a.send("x", number)
        assert marks(out) == [("a", "x", number) for number in range(3)]

    async def test_several_consumers_share(self, inbox):
        a = Peer(inbox)
        out = []

        async def consume():
            out.append(await inbox.recv())

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(consume)
            for number in range(3):
                await anyio.wait_all_tasks_blocked()
                a.send("x", number)
        assert sorted(marks(out)) == [("a", "x", number) for number in range(3)]

    async def test_a_cancelled_wait_loses_nothing(self, inbox):
        a = Peer(inbox)
        with anyio.move_on_after(0):
            await inbox.recv()
        a.send("x", 1)
        assert await inbox.recv() == ("a", Watermark(1, "x"))

    async def test_errors_are_raised_once_behind_what_came_before(self, inbox):
        a = Peer(inbox)
        a.send("x", 1)
        inbox.put_error(["x"], "a", PeerRestartedError("a restarted"))
        a.send("x", 2)
        assert await inbox.recv() == ("a", Watermark(1, "x"))
        with pytest.raises(PeerRestartedError):
            await inbox.recv()
        assert await inbox.recv() == ("a", Watermark(2, "x"))

    async def test_iteration_ends_when_closed_and_everything_was_taken(self, inbox):
        a = Peer(inbox)
        a.send("x", 1)
        inbox.close("closed")
        assert [message.timestamp async for _, message in inbox] == [1]
        with pytest.raises(ClosedError):
            await inbox.recv()

    async def test_closing_wakes_those_who_wait(self, inbox):
        async def consume():
            with pytest.raises(ClosedError):
                await inbox.recv()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            tasks.start_soon(consume)
            await anyio.wait_all_tasks_blocked()
            inbox.close("closed")

    async def test_an_undecodable_frame_ends_its_channel(self, inbox, supply):
        a = Peer(inbox)
        a.frame("x", Kind.WATERMARK, b"short")
        a.send("x", 2)
        a.send("y", 1)
        with pytest.raises(PeerLostError):
            await inbox.recv()
        assert await inbox.recv() == ("a", Watermark(1, "y"))
        ((peer, error),) = supply.errors
        assert (peer, error.reason) == ("a", "control")

    def test_an_undecodable_frame_takes_nothing_before_it_along(self, inbox):
        a = Peer(inbox)
        a.send("x", 1)
        a.frame("x", Kind.WATERMARK, b"short")
        assert marks(inbox.drain_available()) == [("a", "x", 1)]
        with pytest.raises(PeerLostError):
            inbox.drain_available()
        assert inbox.drain_available() == []


class TestInSteps:
    """Looking at what has arrived, and taking it later."""

    async def test_what_is_fetched_is_consumed_when_it_is_opened(self, inbox):
        a, b = Peer(inbox, "a"), Peer(inbox, "b")
        a.send("x", 1)
        b.send("x", 2)
        first, second = inbox.fetch(), inbox.fetch()
        assert inbox.fetch() is None
        assert (label(first), label(second)) == (("a", 8, False), ("b", 8, False))
        window = a.session.channels["x"].window
        assert window.held_control == 1
        assert inbox.open(second) == ("b", Watermark(2, "x"))
        assert (a.credits(), b.credits()) == ({}, {0: 1})
        assert inbox.open(first) == ("a", Watermark(1, "x"))
        assert window.held_control == 0
        assert a.credits() == {0: 1}

    async def test_credit_does_not_wait_for_what_is_put_aside(self, inbox):
        """Or its sender would, although the consumer has taken all it was given."""
        a, b = Peer(inbox, "a"), Peer(inbox, "b")
        a.send("x", 1)
        b.send("x", 2)
        inbox.open(inbox.fetch())
        inbox.fetch()
        assert a.credits() == {}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(inbox.wait)
            await anyio.wait_all_tasks_blocked()
            assert a.credits() == {0: 1}
            inbox.wake()

    async def test_those_who_wait_can_be_woken_for_nothing(self, inbox):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(inbox.wait)
            tasks.start_soon(inbox.wait)
            await anyio.wait_all_tasks_blocked()
            inbox.wake()
        assert inbox.fetch() is None

    def test_what_is_known_before_opening(self, inbox):
        lane = LocalLane("me", "c", inbox, ShuffleConfig(window_bytes=1000, control_frames_max=100))
        lane.offer(Watermark(1, "x"))
        inbox.put_error(["x"], "a", PeerLostError("a is gone"))
        inbox.put_close(["x"], "b", Close("done"))
        labels = [label(inbox.fetch()) for _ in range(3)]
        assert labels == [("me", 0, False), ("a", 0, True), ("b", 0, True)]


class TestClaiming:
    @given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=20))
    def test_splits_what_waits_without_changing_its_order(self, sends):
        inbox, other = Inbox(Supply()), Inbox(Supply())
        peers = {name: Peer(inbox, name, "xyz") for name in "ab"}
        for number, (peer, channel) in enumerate(sends):
            peers[peer].send(channel, number)
        inbox.put_close(["x"], "a", Close("done"))
        inbox.split_off("y", other)
        expected = [(peer, channel, n) for n, (peer, channel) in enumerate(sends)]
        kept = inbox.drain_available()
        assert kept.pop() == ("a", Close("done"))
        assert marks(kept) == [event for event in expected if event[1] != "y"]
        assert marks(other.drain_available()) == [event for event in expected if event[1] == "y"]

    def test_errors_and_local_messages_stay(self, inbox, supply):
        other = Inbox(supply)
        lane = LocalLane("me", "c", inbox, ShuffleConfig(window_bytes=1000, control_frames_max=100))
        lane.offer(Watermark(1, "y"))
        inbox.put_error(["x"], "a", PeerLostError("gone"))
        inbox.split_off("y", other)
        assert other.drain_available() == []
        assert len(inbox.drain_available()) == 1
        with pytest.raises(PeerLostError):
            inbox.drain_available()

    @pytest.mark.parametrize("channels", [["y"], ["x", "y"]])
    def test_takes_along_the_loss_of_a_peer(self, inbox, supply, channels):
        """Who claims a channel after its peer was lost must not wait for ever."""
        other = Inbox(supply)
        inbox.put_error(channels, "a", PeerLostError("gone"))
        inbox.put_close(channels, "b", Close("done"))
        inbox.split_off("y", other)
        with pytest.raises(PeerLostError):
            other.drain_available()
        assert other.drain_available() == [("b", Close("done"))]
        if channels == ["y"]:
            assert inbox.drain_available() == []
        else:
            with pytest.raises(PeerLostError):
                inbox.drain_available()

    def test_leaves_no_credit_behind(self, inbox, supply):
        """What was taken before the claim is owed although the queue was emptied by it."""
        a = Peer(inbox)
        a.send("x", 1)
        a.send("y", 2)
        inbox.open(inbox.fetch())  # as recv does; the queue still holds y
        inbox.split_off("y", Inbox(supply))
        assert a.credits() == {0: 1}


class TestCredit:
    def test_is_owed_when_the_consumer_has_caught_up(self, inbox, supply):
        a, b = Peer(inbox, "a"), Peer(inbox, "b")
        a.send("x", 1)
        a.send("y", 2)
        b.send("y", 3)
        assert a.credits() == {}
        inbox.drain_available()
        assert a.credits() == {0: 1, 1: 1}
        assert b.credits() == {1: 1}
        assert set(supply.woken) == {"a", "b"}

    async def test_and_not_before(self, inbox, supply):
        a = Peer(inbox)
        a.send("x", 1)
        a.send("x", 2)
        await inbox.recv()
        assert (a.credits(), supply.woken) == ({}, [])
        await inbox.recv()
        assert (a.credits(), supply.woken) == ({0: 2}, ["a"])

    async def test_or_when_a_quarter_of_the_window_is_due(self, inbox, supply):
        a = Peer(inbox, controls=8)
        for number in range(4):
            a.send("x", number)
        await inbox.recv()
        assert supply.woken == []
        await inbox.recv()
        assert supply.woken == ["a"]
        assert a.credits() == {0: 2}

    async def test_is_owed_after_any_last_message(self, inbox, supply):
        """One of this process, a farewell or an error as the last one makes no difference."""
        a = Peer(inbox)
        lane = LocalLane("me", "c", inbox, ShuffleConfig(window_bytes=1000, control_frames_max=100))
        a.send("x", 1)
        lane.offer(Watermark(2, "x"))
        await inbox.recv()
        await inbox.recv()
        assert a.credits() == {0: 1}
        a.send("x", 3)
        inbox.put_close(["x"], "b", Close("done"))
        await inbox.recv()
        await inbox.recv()
        assert a.credits() == {0: 2}
        a.send("x", 4)
        inbox.put_error(["x"], "b", PeerLostError("b is gone"))
        await inbox.recv()
        with pytest.raises(PeerLostError):
            await inbox.recv()
        assert a.credits() == {0: 3}
