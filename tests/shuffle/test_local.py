"""A node's messages to itself: in order, and bounded like all others."""

from collections import deque

import anyio
import pyarrow as pa
import pytest

from laminar.config import ShuffleConfig
from laminar.errors import ChannelEndedError
from laminar.model import CheckpointBarrier
from laminar.shuffle.arrow import size_of
from laminar.shuffle.local import LocalLane
from laminar.shuffle.messages import Barrier, Data, End, Watermark


class Box:
    def __init__(self):
        self.messages = deque()

    def put_local(self, lane, message, size):
        self.messages.append((lane, message, size))

    def take(self):
        lane, message, size = self.messages.popleft()
        lane.take(size)
        return message


def data(number, rows=100):
    return Data(pa.RecordBatch.from_pydict({"n": [number] * rows}))


SIZE = size_of(data(0).batch)


@pytest.fixture
def box():
    return Box()


def numbers(messages):
    return [message.batch["n"][0].as_py() for message in messages]


class TestOffer:
    def test_as_much_as_the_window_holds(self, box):
        lane = LocalLane("me", "c", box, ShuffleConfig(window_bytes=3 * SIZE, control_frames_max=8))
        assert [lane.offer(data(number)) for number in range(4)] == [True, True, True, False]
        assert numbers([box.take()]) == [0]
        assert lane.offer(data(4))
        assert not lane.offer(data(5))
        assert numbers([box.take() for _ in range(3)]) == [1, 2, 4]

    def test_a_lone_larger_one(self, box):
        lane = LocalLane(
            "me", "c", box, ShuffleConfig(window_bytes=SIZE // 2, control_frames_max=8)
        )
        assert lane.offer(data(1))
        assert not lane.offer(data(2))
        box.take()
        assert lane.offer(data(2))

    @pytest.mark.parametrize("message", [Watermark(1), Barrier(CheckpointBarrier(1))])
    def test_control_is_bounded_too(self, box, message):
        lane = LocalLane("me", "c", box, ShuffleConfig(window_bytes=1000, control_frames_max=8))
        assert [lane.offer(message) for _ in range(10)] == [True] * 8 + [False] * 2
        box.take()
        assert lane.offer(message)
        assert not lane.offer(message)

    def test_a_barrier_needs_no_room_for_data(self, box):
        lane = LocalLane("me", "c", box, ShuffleConfig(window_bytes=SIZE, control_frames_max=8))
        assert lane.offer(data(1))
        assert not lane.offer(data(2))
        assert lane.offer(Barrier(CheckpointBarrier(1)))
        assert not lane.offer(data(2))
        assert isinstance(box.take(), Data)
        assert lane.offer(data(2))

    def test_everything_is_given_back(self, box):
        lane = LocalLane("me", "c", box, ShuffleConfig(window_bytes=3 * SIZE, control_frames_max=8))
        for _ in range(20):
            for message in (data(1), Watermark(1), data(2)):
                assert lane.offer(message)
            while box.messages:
                box.take()
        assert all(lane.offer(data(number)) for number in range(3))

    def test_the_node_is_known(self, box):
        assert (
            LocalLane("me", "c", box, ShuffleConfig(window_bytes=1, control_frames_max=8)).node
            == "me"
        )


class TestSend:
    async def test_waits_for_room(self, box):
        lane = LocalLane("me", "c", box, ShuffleConfig(window_bytes=2 * SIZE, control_frames_max=8))
        sent = []

        async def produce():
            for number in range(6):
                await lane.send(data(number))
                sent.append(number)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(produce)
            taken = []
            for number in range(6):
                await anyio.wait_all_tasks_blocked()
                assert len(sent) == min(number + 2, 6)
                taken.append(box.take())
        assert numbers(taken) == list(range(6))

    async def test_several_senders_all_get_their_turn(self, box):
        lane = LocalLane("me", "c", box, ShuffleConfig(window_bytes=SIZE, control_frames_max=8))
        taken = []
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(lane.send, data(number))
            for _ in range(5):
                await anyio.wait_all_tasks_blocked()
                if not box.messages:
                    break
                taken.append(box.take())
            tasks.cancel_scope.cancel()
        assert sorted(numbers(taken)) == list(range(5))

    async def test_a_cancelled_send_sends_nothing(self, box):
        lane = LocalLane("me", "c", box, ShuffleConfig(window_bytes=SIZE, control_frames_max=8))
        await lane.send(data(0))
        with anyio.move_on_after(0):
            await lane.send(data(1))
        box.take()
        await lane.send(data(2))
        assert numbers([box.take()]) == [2]
        assert not box.messages

    async def test_who_waits_is_not_overtaken(self, box):
        """A large batch would otherwise wait for as long as small ones keep coming."""
        lane = LocalLane("me", "c", box, ShuffleConfig(window_bytes=4 * SIZE, control_frames_max=8))
        for number in range(3):
            assert lane.offer(data(number))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lane.send, data(3, rows=250))
            await anyio.wait_all_tasks_blocked()
            assert not lane.offer(data(4))
            while box.messages:
                box.take()
                await anyio.wait_all_tasks_blocked()

    async def test_nothing_follows_an_end(self, box):
        lane = LocalLane("me", "c", box, ShuffleConfig(window_bytes=SIZE, control_frames_max=8))
        await lane.send(End())
        with pytest.raises(ChannelEndedError, match="'default' was ended"):
            lane.offer(data(1))
        with pytest.raises(ChannelEndedError):
            await lane.send(Watermark(1))
        assert len(box.messages) == 1
